"""Storing the rows of batches and lists, and removing them: in bounded transactions that nobody waits for.

New batches and lists are hidden until the last one, deleted ones from the first one on.
"""

import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Attempt, Batch, BatchLog, BatchProfile, ListProfile, Profile, ProfileList, StoryResult
from batches.queue import contents, sql
from batches.queue.refusals import Code
from batches.reports.doctor import diagnose
from batches.tests.support.chunks import killed_at
from batches.tests.support.factories import (
    assert_consistent,
    assert_sound,
    check_batch,
    last_line,
    make_batch,
    make_list,
    make_waiting,
    ok,
    remembered,
    row_statuses,
    urls,
    urls_of,
)
from batches.tests.support.tables import run_sql
from batches.tests.support.threads import TIMEOUT, in_thread

pytestmark = pytest.mark.django_db(transaction=True)

#: Each stores twelve rows, the kept ones twice.
CALLS = {
    "addresses": lambda manager, source: manager.create_batch("new", urls(12)),
    "queryset": lambda manager, source: manager.create_batch("new", Profile.objects.all()),
    "repeat": lambda manager, source: manager.repeat_batch(source.pk),
    "run": lambda manager, source: manager.run_list(ProfileList.objects.get().pk),
    "list": lambda manager, source: manager.create_list("new", urls(12)),
    "kept": lambda manager, source: manager.create_batch("new", urls(12), keep=True),
    "kept queryset": lambda manager, source: manager.create_batch("new", Profile.objects.all(), keep=True),
}


@pytest.fixture
@remembered
def source():
    """A batch and a list of twelve profiles."""
    make_list("source", 12)
    return make_batch("source", 12)


@pytest.fixture(params=CALLS)
def call(request):
    return CALLS[request.param]


def renew(time):
    """Set the time after which the hidden batch or list is purged. Returns how many were to be purged much later."""
    later = Now() + contents.PREPARATION / 2
    hidden = [model.everything.filter(deleted_at__gt=later) for model in (Batch, ProfileList)]
    return sum(rows.update(deleted_at=Now() + time) for rows in hidden)


def visible():
    return [model.objects.count() for model in (Batch, ProfileList, ListProfile)]


def assert_only_the_source_is_left():
    assert visible() == [1, 1, 12]
    assert [model.everything.count() for model in (Batch, ProfileList, ListProfile)] == [1, 1, 12]
    assert BatchProfile.objects.count() == 12
    assert_sound()


def test_others_change_the_queue_between_the_chunks_and_see_nothing(call, source, manager, at_each_chunk):
    stored = []

    def work_in_parallel():
        """Would wait for a lock that the import still holds."""
        assert not connection.in_atomic_block
        assert in_thread(lambda: BatchManager().hold_queue(f"{len(stored)}")).result(TIMEOUT)
        assert visible() == [1, 1, 12]
        assert_sound()
        BatchManager().purge_deleted()  # keeps what is being stored
        assert renew(timedelta(minutes=2)) == 1
        stored.append(BatchProfile.objects.count() + ListProfile.everything.count())

    at_each_chunk(work_in_parallel)
    made = call(manager, source)
    assert stored[-4:] == [stored[-1] - 9, stored[-1] - 6, stored[-1] - 3, stored[-1]]
    for each in filter(None, [made, getattr(made, "list", None)]):
        assert (each.total_profiles, each.deleted_at) == (12, None)
        assert sorted(urls_of(each)) == sorted(urls(12))
    assert_sound()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_an_interrupted_import_shows_nothing_and_is_purged(number, call, source, manager, at_each_chunk):
    lines = BatchLog.objects.count()
    with killed_at(number, at_each_chunk):
        call(manager, source)
    manager.purge_deleted()
    assert (visible(), BatchLog.objects.count()) == ([1, 1, 12], lines)
    for model in (Batch, ProfileList):
        model.everything.in_preparation().update(deleted_at=Now() - timedelta(seconds=1))
    assert diagnose()
    manager.purge_deleted()
    assert_only_the_source_is_left()
    assert call(manager, source)


def test_an_import_that_was_interrupted_for_too_long_is_refused(call, source, manager, at_each_chunk):
    at_each_chunk(lambda: renew(timedelta(seconds=-1)))  # SQLite's clock has only milliseconds
    assert call(manager, source).code == Code.FENCED
    assert_only_the_source_is_left()


def test_a_failed_import_is_purged_at_once(call, source, manager, at_each_chunk):
    def fail():
        raise RuntimeError("in the middle")

    at_each_chunk(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        call(manager, source)
    assert_only_the_source_is_left()


def test_what_is_not_revealed_is_purged(manager):
    with manager.preparing_batch("new", urls(3)):
        assert Batch.everything.exists()
    assert not Batch.everything.exists()


def test_under_the_lock_of_the_queue_no_row_of_a_profile_is_written(call, source, manager):
    with CaptureQueriesContext(connection) as captured:
        assert call(manager, source)
    _, _, locked = "\n".join(query["sql"].replace('"', "") for query in captured).partition("FROM batches_queue")
    written = set(re.findall(r"^(?:INSERT INTO|UPDATE) (\w+)", locked, re.M))
    assert written <= {"batches_batch", "batches_queue", "batches_batchlog", "batches_profilelist"}


@pytest.mark.databases("postgresql")
def test_in_a_transaction_of_the_caller_foreign_keys_are_checked_before_the_queue_is_locked(call, source, manager):
    """At its COMMIT they would hold the queue: for 4 s after 200,000 rows, for 0.01 s this way."""
    limit = run_sql("SHOW lock_timeout")
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        assert call(manager, source)
        assert run_sql("SHOW lock_timeout") == limit  # only imports wait for each other without a limit
    done = [query["sql"] for query in captured]
    locked = next((index for index, sql in enumerate(done) if 'FROM "batches_queue"' in sql), len(done))
    checked = max(index for index, sql in enumerate(done) if sql == "SET CONSTRAINTS ALL IMMEDIATE")
    inserted = max(index for index, sql in enumerate(done) if re.match(r"INSERT INTO batches_\w+profile\b", sql))
    assert inserted < checked < locked


# Removing the rows of a deleted batch


@pytest.fixture
@remembered
def big():
    """A done batch of ten rows, of which seven showed a story each."""
    run = check_batch(make_batch("big", 10), *[ok("s")] * 7)
    assert BatchManager().complete_batch(run.batch.pk)
    return run.batch


def test_its_rows_and_its_log_are_deleted_and_its_stories_and_repeats_stay(big, manager):
    others = make_batch("others", 4)
    repeat = manager.repeat_batch(big.pk)
    assert manager.delete_batch(big.pk) is True
    repeat.refresh_from_db()
    assert (repeat.previous, row_statuses(repeat)) == (None, ["pending"] * 10)
    assert manager.delete_batch(repeat.pk)
    assert not Batch.everything.filter(pk=big.pk).exists()
    assert set(BatchProfile.objects.values_list("batch", flat=True)) == {others.pk}
    assert set(BatchLog.objects.values_list("batch", flat=True)) == {others.pk, None}
    assert list(StoryResult.objects.values_list("batch", flat=True)) == [None] * 7
    # Known stories are not new when they are found again.
    check_batch(others, *[ok("s")] * 4)
    others.refresh_from_db()
    assert others.stories_found == 0


def test_rows_and_stories_are_removed_in_bounded_transactions(big, manager, at_each_removal):
    checked = big.profiles.exclude(checked_at=None).values("batch_id", "profile_id", *Attempt.RESULT)
    Attempt.objects.bulk_create(Attempt(**earlier) for earlier in checked)
    left = []

    def count():
        assert not transaction.get_connection().in_atomic_block
        left.append(sum(model.objects.filter(batch=big).count() for model in (BatchProfile, Attempt, StoryResult)))

    at_each_removal(count)
    assert manager.delete_batch(big.pk)
    assert (left[0], left[-1]) == (24, 0)
    assert all(before - after <= 3 for before, after in pairwise(left))


@pytest.mark.parametrize("number", [1, 2, 4, 6, 7, 9])
def test_an_interrupted_deletion_is_completed_later(number, big, manager, at_each_removal):
    make_batch("other", 2)
    with killed_at(number, at_each_removal):
        manager.delete_batch(big.pk)
    assert [batch.name for batch in Batch.objects.all()] == ["other"]
    assert Batch.everything.count() == 2
    assert [finding.message for finding in diagnose()] == ["The deletion of 1 batch is not complete."]
    assert manager.queue_batch(big.pk).code == Code.NOT_FOUND
    assert manager.delete_batch(big.pk).code == Code.NOT_FOUND
    assert last_line().action == "delete_batch"
    if number == 1:
        manager.delete_batch(make_batch("next", 1).pk)  # completes it as well
    elif number == 2:
        manager.repair_rows()
    else:
        manager.purge_deleted()
    assert Batch.everything.count() == 1
    assert BatchProfile.objects.count() == 2
    assert list(StoryResult.objects.values_list("batch", flat=True)) == [None] * 7
    assert set(BatchLog.objects.exclude(batch=None).values_list("batch__name", flat=True)) == {"other"}
    assert_consistent()


def test_several_are_deleted_with_a_result_for_each(manager, monkeypatch):
    purges = []
    monkeypatch.setattr(BatchManager, "purge_deleted", lambda self, should_stop: purges.append(self))
    running, *others = [batch.pk for batch in make_waiting(3)]
    assert manager.start_batch(running)
    gone, refused, gone_too, unknown = manager.delete_batches([others[0], running, others[1], "nothing"])
    assert (gone, gone_too) == (True, True)
    assert (refused.code, unknown.code) == (Code.ALREADY_RUNNING, Code.NOT_FOUND)
    assert [batch.pk for batch in Batch.objects.all()] == [running]
    assert len(purges) == 1
    assert_consistent()


def test_in_a_transaction_of_the_caller_the_rows_are_removed_after_its_commit(big, manager, monkeypatch):
    purged = []

    def purge(batch_id, should_stop):
        purged.append(transaction.get_connection().in_atomic_block)

    monkeypatch.setattr(contents, "purge_rows", purge)
    with transaction.atomic():
        assert manager.delete_batch(big.pk)
        assert not Batch.objects.filter(pk=big.pk).exists()
        assert purged == []
    assert purged == [False]


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
