"""Holds of the queue: nothing starts until the release, by a person, or by a worker when its end has come."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Queue
from batches.queue.refusals import Code
from batches.reports.forecast import forecast_queue
from batches.tests.support.factories import (
    assert_consistent,
    assert_logged,
    half_checked,
    make_batch,
    ok,
    profile_ids,
    row_statuses,
    token_of,
    unchanged,
    waiting_names,
)

pytestmark = pytest.mark.django_db


def in_an_hour():
    return timezone.now() + timedelta(hours=1)


@pytest.fixture
def end_the_hold():
    return lambda: Queue.objects.update(held_until=timezone.now() - timedelta(seconds=1))


def test_a_hold_says_who_when_and_why_and_lets_nothing_start_until_the_release(manager):
    batch, until, version = make_batch(), in_an_hour(), Queue.objects.get().version
    assert manager.hold_queue("  The network is\0 down. ", until) is True
    queue = Queue.objects.get()
    assert (queue.held, queue.held_by, queue.held_until, queue.held_at is None) == (True, "ada", until, False)
    assert (queue.hold_reason, queue.version) == ("The network is down.", version + 1)
    message = f"The network is down. (until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"
    assert_logged("hold_queue", None, message=message)
    with unchanged():
        assert manager.hold_queue("The network is down.", until) is True
        refusal = manager.start_batch(batch.pk)
        assert (bool(refusal), refusal.code) == (False, Code.QUEUE_HELD)
        assert refusal.message == "The queue is held: The network is down. Release it first."
        assert manager.promote_next_batch() is None
    assert manager.claim_run("worker") is None
    assert manager.hold_queue("The network is down.") is True  # without an end
    assert manager.hold_queue("another reason") is True
    queue.refresh_from_db()
    assert (queue.held, queue.held_until, queue.hold_reason) == (True, None, "another reason")
    assert manager.release_queue() is True
    assert_released()
    assert Queue.objects.get().version == version + 4
    assert_logged("release_queue", None, message="another reason")


def assert_released():
    held = Queue.objects.values_list("held", "held_by", "held_at", "held_until", "hold_reason").get()
    assert held == (False, "", None, None, "")


def test_a_worker_releases_it_when_its_end_has_come_and_continues(manager, end_the_hold):
    batch = make_batch(profiles=1)
    assert manager.hold_queue("Quiet hours", in_an_hour())
    end_the_hold()
    worker = BatchManager("the worker", "worker")
    assert worker.claim_run("the worker").batch.pk == batch.pk
    assert_released()
    line = BatchLog.objects.get(action="release_queue")
    assert (line.actor, line.channel, line.message) == ("the worker", "worker", "The end of the hold has come.")


@pytest.mark.parametrize(
    "until",
    [datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC), datetime(2999, 1, 1), "tomorrow", 5],
    ids=str,
)
def test_an_impossible_end_is_refused(until, manager):
    with unchanged():
        assert manager.hold_queue("why", until).code == Code.BAD_VALUE


def test_nothing_is_interrupted_while_the_queue_is_held(manager):
    half_checked("running")
    assert manager.hold_queue("The network is being repaired.")
    with unchanged():
        last = Batch.objects.get(name="last")
        assert manager.start_batch(last.pk, preempt=True).code == Code.QUEUE_HELD


def test_the_forecast_counts_from_the_end_of_the_hold(manager):
    make_batch()
    assert manager.claim_run("worker")
    make_batch("next")
    assert manager.hold_queue("Quiet hours", in_an_hour())
    start = forecast_queue().turn(1).start
    assert timedelta(minutes=59) < start - timezone.now() <= timedelta(hours=1)
    assert manager.hold_queue("for good")
    assert forecast_queue().turn(1).start is None


# Stopping the running batch too


@pytest.fixture
def stopped():
    """A batch that a hold has stopped; an urgent one has been queued ahead of it since."""
    it = half_checked("running")
    it.token = token_of(it)
    assert BatchManager("ada").hold_queue("New disk", stop_running=True)
    make_batch("urgent", priority=5)
    it.refresh_from_db()
    return it


def test_a_hold_can_stop_the_running_batch_which_keeps_its_results(stopped, manager):
    assert Queue.objects.get().stopped == stopped
    assert (stopped.status, stopped.position, stopped.completed_profiles) == ("queued", 2, 2)
    assert row_statuses(stopped) == ["ok", "failed", "pending"]
    line = stopped.logs.latest("pk")
    assert (line.action, line.actor, line.message) == ("interrupt_batch", "ada", "stopped by the hold: New disk")
    with unchanged():
        assert manager.record_results(stopped.pk, stopped.token, [(profile_ids(stopped)[2], ok())]).code == Code.FENCED
        assert manager.start_batch(stopped.pk).code == Code.QUEUE_HELD
    assert manager.claim_run("worker") is None
    assert_consistent()


def continues(batch):
    assert Queue.objects.get().stopped is None
    batch.refresh_from_db()
    return batch.status == "running"


@pytest.mark.parametrize(
    "release",
    [
        lambda manager: manager.release_queue(),
        lambda manager: manager.claim_run("worker"),
        lambda manager: manager.ensure_run("worker", 4),
        lambda manager: manager.promote_next_batch() is None,
    ],
    ids=["by hand", "by a worker", "by a task", "by code"],
)
def test_after_the_release_it_continues_before_all_others(release, stopped, manager, end_the_hold):
    end_the_hold()
    assert release(manager)
    assert continues(stopped)
    line = stopped.logs.filter(action="start_batch").latest("pk")
    assert line.message == "continues after the hold"
    assert waiting_names()[0] == "urgent"
    assert_consistent()


@pytest.mark.parametrize(
    ("decide", "status"),
    [
        (lambda manager, it: manager.pause_batch(it.pk), "paused"),
        (lambda manager, it: manager.queue_batch(it.pk), "queued"),
        (lambda manager, it: manager.move_batch(it.pk, 1), "queued"),
        (lambda manager, it: manager.set_priority(it.pk, -1), "queued"),
        (lambda manager, it: manager.complete_batch(it.pk), "done"),
        (lambda manager, it: manager.handle_error(it.pk, "Broken."), "error"),
        (lambda manager, it: manager.delete_batch(it.pk), None),
    ],
    ids=["pause", "queue", "move", "priority", "complete", "error", "delete"],
)
def test_a_decision_about_it_during_the_hold_is_not_overruled(decide, status, stopped, manager):
    assert decide(manager, stopped)
    assert Queue.objects.get().stopped is None
    assert manager.release_queue()
    assert Batch.objects.filter(pk=stopped.pk).values_list("status", flat=True).first() == status
    assert not Batch.objects.running().exists()
    assert_consistent()


def test_a_new_name_another_reason_and_another_order_of_others_do_not_matter(stopped, manager):
    assert manager.rename_batch(stopped.pk, "renamed")
    assert manager.hold_queue("Another reason", in_an_hour())
    assert manager.move_batch(Batch.objects.get(name="last").pk, 1)
    assert manager.release_queue()
    assert continues(stopped)


def test_another_batch_that_is_started_first_after_its_end_is_not_interrupted(stopped, manager, end_the_hold):
    end_the_hold()
    urgent = Batch.objects.get(name="urgent")
    assert manager.start_batch(urgent.pk)
    assert manager.claim_run("worker").batch == urgent
    assert not continues(stopped)
    assert waiting_names()[0] == stopped.name


def test_a_hold_that_exists_can_stop_the_running_batch_too(manager):
    it = half_checked("running")
    assert manager.hold_queue("New disk")
    assert manager.hold_queue("New disk", stop_running=True)
    assert Queue.objects.get().stopped == it
    with unchanged():
        assert manager.hold_queue("New disk", stop_running=True)
    assert manager.release_queue()
    assert continues(it)


def test_if_nothing_runs_there_is_nothing_to_stop(manager):
    with unchanged():
        assert manager.hold_queue(stop_running="yes").code == Code.BAD_VALUE
    make_batch()
    assert manager.hold_queue(stop_running=True)
    assert Queue.objects.get().stopped is None
    assert manager.release_queue()
    assert not Batch.objects.running().exists()
