import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Queue
from batches.queue.refusals import Code
from batches.tests.support.factories import half_checked

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("status", Batch.Status)
def test_a_batch_can_be_renamed_in_every_status_and_nothing_else_changes(status):
    batch = half_checked(status)
    before = Batch.objects.values().get(pk=batch.pk)
    assert BatchManager("ada", "api").rename_batch(batch.pk, "  The \n new name ") is True
    assert Batch.objects.values().get(pk=batch.pk) == before | {"name": "The new name"}
    entry = BatchLog.objects.latest("pk")
    assert (entry.action, entry.actor, entry.from_status, entry.to_status) == ("rename_batch", "ada", status, status)
    assert "The new name" in entry.message


def test_the_same_name_again_leaves_no_line():
    batch = half_checked("queued")
    lines, version = BatchLog.objects.count(), Queue.objects.get().version
    assert BatchManager().rename_batch(batch.pk, batch.name) is True
    assert (BatchLog.objects.count(), Queue.objects.get().version) == (lines, version)


@pytest.mark.parametrize("name", ["", " \n", "x" * 201, "\0", None, 5])
def test_a_name_that_is_none_is_refused(name):
    batch = half_checked("queued")
    answer = BatchManager().rename_batch(batch.pk, name)
    assert not answer
    assert answer.code == Code.BAD_VALUE
    assert Batch.objects.get(pk=batch.pk).name == batch.name
