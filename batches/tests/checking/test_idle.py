"""A worker without a batch to check completes the work of a killed process, and ends without a trace."""

import asyncio
import gc
import os
import signal
import sys

import pytest
from django.db.models.functions import Now

from batches import models
from batches.batch_manager import BatchManager
from batches.checking import worker
from batches.checking.checkers.base import CheckResult
from batches.checking.worker import Worker
from batches.limits import GARBAGE_THRESHOLDS
from batches.models import Batch, BatchProfile
from batches.models.queue import QueueManager
from batches.queue import contents, resets
from batches.tests.conftest import count_frozen_objects
from batches.tests.support.factories import age_workers, assert_consistent, make_batch, row_statuses
from batches.tests.support.working import work

pytestmark = pytest.mark.django_db(transaction=True)

MANY_POLLS = 1000


def test_an_idle_worker_removes_the_rows_of_an_interrupted_import_or_deletion(configure):
    make_batch("hidden", 5, queue=False)
    hidden = Batch.everything.filter(name="hidden")
    hidden.update(deleted_at=Now() + contents.PREPARATION)
    left = []

    def finished():
        left.append(hidden.count())
        if len(left) == 3:  # the worker has started and been idle twice
            hidden.update(deleted_at=Now())
        return not left[-1] or len(left) > MANY_POLLS

    Worker(finished=finished).work()
    assert left == [1, 1, 1, 0]
    assert not BatchProfile.objects.exists()


def test_an_idle_worker_completes_an_interrupted_retry_and_then_checks_it(script, monkeypatch):
    async def fail(profile):
        return CheckResult(ok=False, error="It is gone.")

    script(fail)
    batch = make_batch("it", 8, checker="scripted")
    work()
    checked = script()
    with monkeypatch.context() as patch:
        patch.setattr(resets, "RESET_CHUNK", 3)
        patch.setattr(resets, "SEARCH_CHUNK", 3)
        patch.setattr(BatchManager, "finish_resets", lambda manager: None)
        assert BatchManager().retry_failed(batch.pk)
    assert row_statuses(batch) == ["pending"] * 3 + ["failed"] * 5
    work()
    assert row_statuses(batch) == ["ok"] * 8
    assert len(checked) == 16
    assert_consistent()


def test_an_idle_worker_begins_a_batch_that_somebody_queues_before_its_next_poll(
    configure, script, before, monkeypatch
):
    configure(poll_seconds=3600.0)
    monkeypatch.setattr(worker, "LOOKS_PER_POLL", 360_000)
    calls = []

    def queue_at_the_third_look(queue):
        if calls.count("look") == 3:
            make_batch("it", 1, checker="scripted")
        calls.append("look")

    before(BatchManager, "claim_run", lambda *_: calls.append("claim"))
    before(QueueManager, "read_version", queue_at_the_third_look)
    Worker(finished=Batch.objects.filter(status="done").exists).work()
    assert calls == ["look", "claim", "look", "look", "look", "look", "claim"]


def test_an_idle_worker_claims_nothing_while_another_one_does(configure, script, before, monkeypatch):
    """Each claim takes the lock of the queue, so hundreds of idle workers would keep it from everybody."""
    configure(poll_seconds=0.01)
    calls, heartbeats = [], []

    def look_after(seconds):
        calls.append(seconds)
        heartbeats.append(models.Worker.objects.alive().exists())
        age_workers()
        return len(calls) < 5

    before(BatchManager, "claim_run", lambda *_: calls.append("claim"))
    monkeypatch.setattr(worker, "is_looked_after", look_after)
    Worker(finished=lambda: calls.count("claim") == 2).work()
    assert calls == ["claim", 0.01, 0.01, 0.01, 0.01, "claim", 0.01]
    assert heartbeats == [True] * 5
    [it] = models.Worker.objects.all()
    assert it.ended_at == it.seen_at > it.started_at


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_worker_leaves_the_garbage_collector_and_threads_as_they_were(is_frozen, monkeypatch):
    monkeypatch.setattr(gc, "get_freeze_count", count_frozen_objects)
    gc.unfreeze()
    if is_frozen:
        gc.freeze()
    before, usual, interval = gc.get_threshold(), sys.getswitchinterval(), 2 * worker.SWITCH_SECONDS
    sys.setswitchinterval(interval)
    try:
        with worker.tuning_python():
            assert gc.get_freeze_count() > 0
            assert (gc.get_threshold(), sys.getswitchinterval()) == (GARBAGE_THRESHOLDS, worker.SWITCH_SECONDS)
        assert sys.getswitchinterval() == pytest.approx(interval)
        assert (gc.get_threshold(), gc.get_freeze_count() > 0) == (before, is_frozen)
    finally:
        gc.freeze()  # as all tests have it
        sys.setswitchinterval(usual)


def test_a_signal_that_arrives_while_the_loop_is_being_closed_is_not_reported_as_a_fault(monkeypatch):
    loop = asyncio.new_event_loop()
    loop.add_signal_handler(signal.SIGUSR1, print)
    close_sockets = loop._close_self_pipe

    def close_and_signal():
        close_sockets()
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(loop, "_close_self_pipe", close_and_signal)
    worker._close(loop)
