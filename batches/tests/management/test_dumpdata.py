"""`manage.py dumpdata` while batches are imported and deleted: the dump can be loaded."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile, Queue
from batches.tests.support.factories import (
    assert_consistent,
    claim,
    everything,
    half_checked,
    make_batch,
    values_of,
)
from batches.tests.support.threads import TIMEOUT, in_thread

pytestmark = pytest.mark.django_db(transaction=True)


def list_ids():
    """The dump cuts times to milliseconds, so whole rows would differ."""
    return {name: [row["id"] for row in rows] for name, rows in everything().items()}


def load(path):
    """Into an empty database."""
    call_command("flush", interactive=False)
    Queue.objects.all().delete()
    call_command("loaddata", str(path), verbosity=0)


def test_a_dump_made_during_a_run_has_its_results_once_and_the_run_continues_after_loading(tmp_path):
    it = half_checked(Batch.Status.RUNNING)
    counted = values_of(it.pk)["completed_profiles"]
    assert (counted, it.leases.get().successful_checks) == (2, 1)
    call_command("dumpdata", "batches", output=str(tmp_path / "dump.json"))
    load(tmp_path / "dump.json")
    assert_consistent()
    assert values_of(it.pk)["completed_profiles"] == 2
    assert claim().batch == it


def test_a_dump_made_during_a_deletion_and_an_import_loads_again(tmp_path, monkeypatch):
    kept, deleted, imported = make_batch("kept", 2), make_batch("deleted", 3), make_batch("imported", 4)
    monkeypatch.setattr(BatchManager, "purge_deleted", lambda *_: None)
    assert BatchManager().delete_batch(deleted.pk)
    hidden = {"status": "paused", "position": None, "deleted_at": Now() + timedelta(hours=1)}
    Batch.objects.filter(pk=imported.pk).update(**hidden)
    monkeypatch.undo()
    before, path, new = list_ids(), tmp_path / "dump.json", []

    def change_between_tables(execute, sql, *arguments):
        if "batches_batchprofile" in sql and not new:
            create = in_thread(lambda: BatchManager().create_batch("new", ["https://new.example/"]))
            new.append(create.result(TIMEOUT))
        return execute(sql, *arguments)

    with connection.execute_wrapper(change_between_tables):
        call_command("dumpdata", "batches", output=str(path))
    assert Batch.objects.filter(pk=new[0].pk).exists()
    load(path)
    assert list_ids() == before
    BatchManager().purge_deleted()
    assert [batch.pk for batch in Batch.objects.all()] == [kept.pk]
    assert Profile.objects.filter(checks__batch=kept).count() == 2
    assert_consistent()
