"""A hold of the queue with an end: nothing starts until then, and then a worker releases it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import BatchLog, Queue
from batches.queue.refusals import Code
from batches.reports.outlook import forecast_queue
from batches.tests.support.factories import last_line, make_batch, unchanged

pytestmark = pytest.mark.django_db


def in_an_hour():
    return timezone.now() + timedelta(hours=1)


@pytest.fixture
def end_the_hold():
    return lambda: Queue.objects.update(held_until=timezone.now() - timedelta(seconds=1))


def test_a_hold_with_an_end_says_so_and_lets_nothing_start_until_then(manager):
    batch, until = make_batch(), in_an_hour()
    assert manager.hold_queue("Quiet hours", until)
    queue = Queue.objects.get()
    assert (queue.held, queue.held_by, queue.held_until, queue.hold_reason) == (True, "ada", until, "Quiet hours")
    assert last_line().message == f"Quiet hours (until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"
    assert manager.claim_run("worker") is None
    assert manager.promote_next_batch() is None
    assert manager.start_batch(batch.pk).code == Code.QUEUE_HELD
    assert Queue.objects.get().held


def test_at_its_end_a_worker_releases_it_and_goes_on(manager, end_the_hold):
    batch = make_batch(profiles=1)
    assert manager.hold_queue("Quiet hours", in_an_hour())
    end_the_hold()
    worker = BatchManager("the worker", "worker")
    assert worker.claim_run("the worker").batch.pk == batch.pk
    queue = Queue.objects.get()
    assert (queue.held, queue.held_by, queue.held_at, queue.held_until, queue.hold_reason) == (
        False,
        "",
        None,
        None,
        "",
    )
    line = BatchLog.objects.get(action="release_queue")
    assert (line.actor, line.channel, line.message) == ("the worker", "worker", "The end of the hold has come.")


def test_after_its_end_somebody_can_start_a_batch_before_a_worker_comes(manager, end_the_hold):
    batch = make_batch()
    assert manager.hold_queue("Quiet hours", in_an_hour())
    end_the_hold()
    assert manager.start_batch(batch.pk)


def test_a_release_ends_it_early_and_another_hold_replaces_its_end(manager):
    until = in_an_hour()
    assert manager.hold_queue("Quiet hours", until)
    with unchanged():
        assert manager.hold_queue("Quiet hours", until)
    assert manager.hold_queue("Quiet hours")
    assert (Queue.objects.get().held, Queue.objects.get().held_until) == (True, None)
    assert manager.hold_queue("Quiet hours", until)
    assert manager.release_queue()
    assert (Queue.objects.get().held, Queue.objects.get().held_until) == (False, None)


@pytest.mark.parametrize(
    "until",
    [
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, tzinfo=UTC),
        datetime(2999, 1, 1),
        "tomorrow",
        5,
    ],
    ids=str,
)
def test_an_end_that_cannot_be_is_refused(until, manager):
    with unchanged():
        assert manager.hold_queue("why", until).code == Code.BAD_VALUE


def test_the_forecast_counts_from_the_end_of_the_hold(manager):
    make_batch()
    assert manager.claim_run("worker")
    make_batch("next")
    assert manager.hold_queue("Quiet hours", in_an_hour())
    start = forecast_queue().turn(1).start
    assert timedelta(minutes=59) < start - timezone.now() <= timedelta(hours=1)
    assert manager.hold_queue("for good")
    assert forecast_queue().turn(1).start is None
