"""Storing the rows of a batch: in bounded transactions that nobody waits for, hidden until the last one."""

import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, Profile
from batches.queue import contents, sql
from batches.queue.refusals import Code
from batches.reports.doctor import diagnose
from batches.tests.support.chunks import killed_at
from batches.tests.support.factories import assert_consistent, assert_sound, make_batch, profile_ids, urls
from batches.tests.support.tables import run_sql
from batches.tests.support.threads import TIMEOUT, in_thread

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = timedelta(minutes=2)

CALLS = {
    "addresses": lambda manager, source: manager.create_batch("new", urls(12)),
    "queryset": lambda manager, source: manager.create_batch("new", Profile.objects.all()),
    "repeat": lambda manager, source: manager.repeat_batch(source.pk),
}


@pytest.fixture
def source():
    return make_batch("source", 12)


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


def test_others_change_the_queue_between_the_chunks_and_do_not_see_the_batch(call, source, manager, at_each_chunk):
    stored = []

    def work_in_parallel():
        """Would wait for a lock that the import still holds."""
        assert not connection.in_atomic_block
        assert in_thread(lambda: BatchManager().hold_queue(f"{len(stored)}")).result(TIMEOUT)
        assert [batch.pk for batch in Batch.objects.all()] == [source.pk]
        assert_sound()
        BatchManager().purge_deleted()  # keeps a batch that is being stored
        hidden = Batch.everything.in_preparation()
        assert hidden.filter(deleted_at__gt=Now() + contents.PREPARATION / 2).update(deleted_at=Now() + PATIENCE) == 1
        stored.append(BatchProfile.objects.exclude(batch=source).count())

    at_each_chunk(work_in_parallel)
    batch = call(manager, source)
    assert stored[-4:] == [3, 6, 9, 12]
    assert (batch.position, batch.total_profiles, batch.deleted_at) == (2, 12, None)
    assert sorted(profile_ids(batch)) == sorted(profile_ids(source))
    assert_consistent()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_interrupted_import_shows_nothing_and_is_purged(number, call, source, manager, at_each_chunk):
    lines = BatchLog.objects.count()
    with killed_at(number, at_each_chunk):
        call(manager, source)
    manager.purge_deleted()
    hidden = Batch.everything.in_preparation().get()
    assert (Batch.objects.get().pk, BatchLog.objects.count()) == (source.pk, lines)
    Batch.everything.filter(pk=hidden.pk).update(deleted_at=Now() - timedelta(seconds=1))
    assert len(diagnose()) == 1
    manager.purge_deleted()
    assert Batch.everything.get().pk == source.pk
    assert BatchProfile.objects.count() == 12
    assert_sound()


def test_an_interrupted_import_is_refused(call, source, manager, at_each_chunk):
    at_each_chunk(lambda: Batch.everything.in_preparation().update(deleted_at=Now()))
    assert call(manager, source).code == Code.FENCED
    assert Batch.everything.get().pk == source.pk
    assert BatchProfile.objects.count() == 12


def test_a_failed_import_is_purged_at_once(call, source, manager, at_each_chunk):
    def fail():
        raise RuntimeError("in the middle")

    at_each_chunk(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        call(manager, source)
    assert Batch.everything.get().pk == source.pk
    assert BatchProfile.objects.count() == 12


def test_under_the_lock_of_the_queue_no_row_of_a_profile_is_written(call, source, manager):
    with CaptureQueriesContext(connection) as captured:
        assert call(manager, source)
    done = [query["sql"].replace('"', "") for query in captured]
    locked = next(index for index, sql in enumerate(done) if "FROM batches_queue" in sql)
    written = re.findall(r"^(?:INSERT INTO|UPDATE) (\w+)", "\n".join(done[locked:]), re.M)
    assert written[-3:] == ["batches_batch", "batches_queue", "batches_batchlog"]
    assert set(written[:-3]) <= {"batches_batch"}  # the others in the queue make room


@pytest.mark.databases("postgresql")
def test_in_a_transaction_of_the_caller_foreign_keys_are_checked_before_the_queue_is_locked(call, source, manager):
    """At its COMMIT they would hold the queue: for 4 s after 200,000 rows, for 0.01 s this way."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        assert call(manager, source)
    done = [query["sql"] for query in captured]
    locked = next(index for index, sql in enumerate(done) if 'FROM "batches_queue"' in sql)
    checked = max(index for index, sql in enumerate(done) if sql == "SET CONSTRAINTS ALL IMMEDIATE")
    inserted = max(index for index, sql in enumerate(done) if "INSERT INTO batches_batchprofile" in sql)
    assert inserted < checked < locked


# SQLite's write-ahead log


def size_of_log():
    return Path(f"{connection.settings_dict['NAME']}-wal").stat().st_size


@pytest.mark.databases("sqlite")
def test_the_log_of_an_import_does_not_grow_with_it(manager, monkeypatch):
    monkeypatch.setattr(contents, "INSERT_CHUNK", 100)
    monkeypatch.setattr(sql, "SECONDS_OF_WORK", 0)
    monkeypatch.setattr(sql, "SECONDS_OF_PAUSE", 0)
    run_sql("PRAGMA wal_autocheckpoint=0")  # at 32 MB
    run_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert manager.create_batch("small", urls(100))
    small = size_of_log()
    assert manager.create_batch("large", urls(5_000))
    assert size_of_log() < 4 * small
    connection.close()  # and with it the setting


@pytest.mark.databases("sqlite")
def test_the_log_that_a_long_reader_has_caused_is_cut(manager):
    assert run_sql("PRAGMA wal_autocheckpoint") == [(8000,)]
    assert run_sql("PRAGMA journal_size_limit") == [(64 * 1024 * 1024,)]
    run_sql("PRAGMA wal_autocheckpoint=1")
    run_sql("PRAGMA journal_size_limit=100000")
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM batches_batch").fetchone()
        assert manager.create_batch("large", urls(5_000))
        assert size_of_log() > 1_000_000
    for number in range(2):  # the first checkpoint after the reader, and the first write after that
        assert manager.hold_queue(f"{number}")
    assert size_of_log() <= 100_000
    connection.close()  # and with it the settings
