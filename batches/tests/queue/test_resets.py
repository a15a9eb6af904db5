"""Checking a batch again: decided at once, while the rows follow in small transactions that nobody waits for."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.queue import resets
from batches.reports.doctor import diagnose
from batches.tests.support.factories import (
    assert_consistent,
    assert_sound,
    claim,
    failed,
    make_batch,
    ok,
    profile_ids,
    record,
    row_statuses,
    start_run,
)
from batches.tests.support.threads import TIMEOUT, in_thread

pytestmark = pytest.mark.django_db(transaction=True)

#: The call, the statuses of the rows afterwards, and the counters: completed, successful, failed.
CALLS = {
    "again": (BatchManager.queue_batch, ["pending"] * 8, (0, 0, 0)),
    "retry": (BatchManager.retry_failed, ["ok", "pending"] * 4, (4, 4, 0)),
}


class Killed(BaseException):
    """Like a kill: the code under test does not catch it."""


@pytest.fixture
def done(monkeypatch):
    """A done batch of eight rows that are reset three at a time, every other one failed."""
    monkeypatch.setattr(resets, "RESET_CHUNK", 3)
    monkeypatch.setattr(resets, "SEARCH_CHUNK", 3)
    run = start_run(make_batch("done", 8))
    results = [ok("s"), failed()] * 4
    record(run, list(zip(profile_ids(run.batch), results, strict=True)))
    assert BatchManager().finish_run(run.batch.pk, run.run_token)
    return run.batch


@pytest.fixture(params=CALLS)
def case(request):
    return CALLS[request.param]


def counters(batch):
    batch.refresh_from_db()
    return batch.completed_profiles, batch.successful_checks, batch.failed_checks


def between_chunks(monkeypatch, call):
    """Call it before each chunk that follows the commit of the transition."""
    go_on = resets._continue

    def watched(batch_id):
        call()
        return go_on(batch_id)

    monkeypatch.setattr(resets, "_continue", watched)


def kill_at(number, monkeypatch):
    steps = iter(range(number))

    def die():
        if next(steps, None) is None:
            raise Killed

    between_chunks(monkeypatch, die)


def test_others_work_between_the_chunks_and_see_the_new_status_and_counters(case, done, manager, monkeypatch):
    call, rows, after = case
    seen = []

    def work_in_parallel():
        """Would wait for a lock that is still held."""
        assert not connection.in_atomic_block
        assert in_thread(lambda: BatchManager().rename_batch(done.pk, f"{len(seen)}")).result(TIMEOUT)
        assert (done.status, done.position, counters(done)) == ("queued", 1, after)
        assert manager.claim_run("worker") is None  # not before the rows are ready
        assert [finding.message for finding in diagnose()] == ["Previous results are left in 1 rechecked batch."]
        seen.append(row_statuses(done))

    done.refresh_from_db()
    between_chunks(monkeypatch, lambda: (done.refresh_from_db(), work_in_parallel()))
    assert call(manager, done.pk) is True
    before = ["ok", "failed"] * 4
    assert seen == [rows[:3] + before[3:], rows[:6] + before[6:]]
    assert row_statuses(done) == rows
    assert_sound()


@pytest.mark.parametrize("number", [0, 1])
def test_the_next_worker_completes_an_interrupted_reset(number, case, done, manager, monkeypatch):
    call, rows, after = case
    kill_at(number, monkeypatch)
    with pytest.raises(Killed):
        call(manager, done.pk)
    monkeypatch.undo()
    assert counters(done) == after
    assert manager.start_batch(done.pk)
    assert manager.claim_run("worker") is None
    manager.finish_resets()
    assert row_statuses(done) == rows
    run = claim()
    record(run, [(profile_id, ok("s")) for profile_id in profile_ids(done)])
    assert counters(done) == (8, 8, 0)
    assert manager.finish_run(done.pk, run.run_token)
    assert_consistent()


INTERRUPTIONS = {
    "pause": (BatchManager.pause_batch, "paused"),
    "complete": (BatchManager.complete_batch, "done"),
    "error": (lambda manager, pk: manager.handle_error(pk, "It broke."), "error"),
    "start": (BatchManager.start_batch, "running"),
    "again after its completion": (
        lambda manager, pk: manager.complete_batch(pk) and manager.queue_batch(pk),
        "queued",
    ),
}


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_any_transition_can_come_in_between(name, case, done, manager, monkeypatch):
    call, rows, after = case
    change, status = INTERRUPTIONS[name]
    kill_at(1, monkeypatch)
    with pytest.raises(Killed):
        call(manager, done.pk)
    monkeypatch.undo()
    monkeypatch.setattr(resets, "RESET_CHUNK", 3)
    monkeypatch.setattr(resets, "SEARCH_CHUNK", 3)
    assert change(manager, done.pk)
    manager.finish_resets()
    if name.startswith("again"):
        rows, after = CALLS["again"][1:]
    assert (counters(done), done.status, row_statuses(done), done.reset_after) == (after, status, rows, None)
    assert_consistent()


def test_a_deleted_one_is_not_reset_but_purged(case, done, manager, monkeypatch):
    between_chunks(monkeypatch, lambda: manager.delete_batch(done.pk))
    assert case[0](manager, done.pk) is True
    assert not Batch.everything.exists()


def test_under_the_lock_of_the_queue_a_bounded_number_of_rows_is_written(case, done, manager):
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        assert case[0](manager, done.pk)
        written = row_statuses(done)
        transaction.set_rollback(True)
    before = ["ok", "failed"] * 4
    assert written == case[1][:3] + before[3:]
    updates = [query["sql"] for query in captured if 'UPDATE "batches_batchprofile"' in query["sql"]]
    assert len(updates) == 1
