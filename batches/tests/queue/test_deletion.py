"""Deleting: the batch disappears at once, its rows follow in small transactions, and stories stay."""

import pytest
from django.db import transaction

from batches.batch_manager import BatchManager
from batches.models import Attempt, Batch, BatchLog, BatchProfile, StoryResult
from batches.queue import contents
from batches.queue.refusals import Code
from batches.tests.support.factories import (
    assert_consistent,
    last_line,
    make_batch,
    make_waiting,
    ok,
    profile_ids,
    record,
    row_statuses,
    start_run,
)
from batches.tests.support.threads import TIMEOUT, Gate

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _small_chunks(monkeypatch):
    monkeypatch.setattr(contents, "DELETE_CHUNK", 3)


@pytest.fixture
def big():
    """A done batch of ten rows, of which seven showed a story each."""
    run = start_run(make_batch("big", 10))
    record(run, [(profile_id, ok("s")) for profile_id in profile_ids(run.batch)[:7]])
    assert BatchManager().complete_batch(run.batch.pk)
    return run.batch


@pytest.mark.usefixtures("_small_chunks")
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
    run = start_run(others)
    record(run, [(profile_id, ok("s")) for profile_id in profile_ids(others)])
    others.refresh_from_db()
    assert others.stories_found == 0


@pytest.mark.usefixtures("_small_chunks")
def test_rows_and_stories_are_removed_in_bounded_transactions(big, manager, monkeypatch):
    left = []
    end_of_chunk = contents._find_chunk_end
    checked = big.profiles.exclude(checked_at=None).values("batch_id", "profile_id", *Attempt.RESULT)
    Attempt.objects.bulk_create(Attempt(**earlier) for earlier in checked)

    def note(rows):
        assert not transaction.get_connection().in_atomic_block
        left.append(rows.count())
        return end_of_chunk(rows)

    monkeypatch.setattr(contents, "_find_chunk_end", note)
    assert manager.delete_batch(big.pk)
    assert left == [10, 7, 4, 1, 0, *[7, 4, 1, 0] * 2]  # its rows, their earlier checks, its stories


class Killed(BaseException):
    """Like a kill: the code under test does not catch it."""


def kill_after(steps, monkeypatch):
    end_of_chunk, left = contents._find_chunk_end, iter(range(steps))

    def die_after_some(rows):
        if next(left, None) is None:
            raise Killed
        return end_of_chunk(rows)

    monkeypatch.setattr(contents, "_find_chunk_end", die_after_some)


@pytest.mark.usefixtures("_small_chunks")
@pytest.mark.parametrize("steps", [0, 1, 3, 5, 6, 8])
def test_an_interrupted_deletion_is_completed_later(steps, big, manager, monkeypatch):
    make_batch("other", 2)
    kill_after(steps, monkeypatch)
    with pytest.raises(Killed):
        manager.delete_batch(big.pk)
    monkeypatch.undo()
    assert [batch.name for batch in Batch.objects.all()] == ["other"]
    assert Batch.everything.count() == 2
    assert manager.queue_batch(big.pk).code == Code.NOT_FOUND
    assert manager.delete_batch(big.pk).code == Code.NOT_FOUND
    assert last_line().action == "delete_batch"
    lines = BatchLog.objects.count()
    if steps:
        manager.purge_deleted()
    else:
        manager.delete_batch(make_batch("next", 1).pk)  # completes it as well
        lines += 2
    assert Batch.everything.count() == 1
    assert BatchProfile.objects.count() == 2
    assert list(StoryResult.objects.values_list("batch", flat=True)) == [None] * 7
    assert BatchLog.objects.filter(batch=None).count() == (1 if steps else 2)
    assert BatchLog.objects.count() < lines
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


def test_a_deletion_that_the_caller_rolls_back_deletes_nothing(big, manager):
    with transaction.atomic():
        assert manager.delete_batch(big.pk)
        transaction.set_rollback(True)
    manager.purge_deleted()
    assert Batch.objects.filter(pk=big.pk).exists()
    assert len(row_statuses(big)) == 10


def test_other_calls_do_not_wait_for_the_rows_of_a_deleted_batch(big, manager, monkeypatch):
    waiting = make_batch("waiting")
    gate = Gate(monkeypatch, contents, "_find_chunk_end")
    deletion = gate.stop(lambda: BatchManager().delete_batch(big.pk))
    assert manager.start_batch(waiting.pk)
    assert manager.claim_run("worker")
    gate.open()
    assert deletion.result(TIMEOUT) is True
    assert not Batch.everything.filter(pk=big.pk).exists()
