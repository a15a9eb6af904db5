"""The forecast of the queue: turns, moves and heartbeats; unknown values are None."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, Queue
from batches.reports.outlook import forecast_queue
from batches.tests.support.factories import make_batch, make_waiting, start_run

pytestmark = pytest.mark.django_db

LEASE = 30


@pytest.fixture(autouse=True)
def lease(settings):
    settings.BATCHES = {"LEASE_SECONDS": LEASE}


@pytest.fixture
def worker():
    """A heartbeat of a worker."""
    BatchManager().claim_run("worker")


def finished(rate, checker="feed", profiles=100):
    """A batch that was checked at `rate` profiles per second."""
    batch = make_batch("finished", checker=checker, queue=False)
    Batch.objects.filter(pk=batch.pk).update(
        total_profiles=profiles, completed_profiles=profiles, run_seconds=profiles / rate
    )
    assert BatchManager().complete_batch(batch.pk)


def waiting(*sizes, checker="feed"):
    """Queued batches of these sizes, without rows."""
    for size in sizes:
        batch = make_batch(f"of {size}", checker=checker)
        Batch.objects.filter(pk=batch.pk).update(total_profiles=size)


def running(profiles, completed, seconds):
    run = start_run(make_batch("running"))
    Batch.objects.filter(pk=run.batch.pk).update(
        total_profiles=profiles, completed_profiles=completed, run_seconds=seconds
    )


def turns(outlook):
    """Start and end of each waiting batch in seconds from now."""
    expected = [outlook.turn(position) for position in range(1, outlook.waiting + 1)]
    return [
        tuple(moment and round((moment - outlook.now).total_seconds()) for moment in (turn.start, turn.end))
        for turn in expected
    ]


def seen(seconds_ago):
    Queue.objects.update(worker_seen_at=timezone.now() - timedelta(seconds=seconds_ago))


def test_turns_use_the_speed_of_finished_batches(worker):
    finished(rate=10)
    finished(rate=30, profiles=300)  # as long as the other: 20 profiles per second together
    waiting(100, 200, 40)
    outlook = forecast_queue()
    assert turns(outlook) == [(0, 5), (5, 15), (15, 17)]
    assert outlook.all_done == outlook.turn(3).end
    assert (outlook.waiting, outlook.waiting_profiles) == (3, 340)


def test_the_running_batch_continues_at_its_own_rate():
    running(profiles=1000, completed=500, seconds=50)
    waiting(100)
    assert turns(forecast_queue()) == [(50, 60)]


def test_a_batch_without_progress_is_expected_to_run_like_the_finished_ones():
    finished(rate=10)
    running(profiles=100, completed=0, seconds=0)
    waiting(50)
    assert turns(forecast_queue()) == [(10, 15)]


def test_only_profiles_that_are_not_checked_take_time(worker):
    finished(rate=10)
    waiting(100)
    Batch.objects.queued().update(completed_profiles=80)
    assert turns(forecast_queue()) == [(0, 2)]


def test_turns_are_unknown_without_a_known_speed(worker):
    waiting(0, 100, 0)  # an empty batch takes no time
    outlook = forecast_queue()
    assert turns(outlook) == [(0, 0), (0, None), (None, None)]
    assert outlook.all_done is None


def test_turns_behind_a_batch_with_an_unknown_speed_are_unknown(worker):
    finished(rate=10)
    waiting(10)
    waiting(10, checker="http")
    waiting(10)
    outlook = forecast_queue()
    assert turns(outlook) == [(0, 1), (1, None), (None, None)]
    assert [outlook.turn(position).seconds for position in (1, 2, 3)] == [1, None, 1]


def test_only_durations_are_known_while_the_queue_is_held(worker):
    finished(rate=10)
    waiting(100)
    BatchManager().hold_queue("why")
    outlook = forecast_queue()
    assert turns(outlook) == [(None, None)]
    assert outlook.turn(1).seconds == 10


@pytest.mark.parametrize(("seconds_ago", "is_alive"), [(1, True), (LEASE + 5, False), (-LEASE - 5, False)])
def test_a_worker_is_alive_within_the_lease_of_its_last_heartbeat(worker, seconds_ago, is_alive):
    finished(rate=10)
    waiting(100)
    seen(seconds_ago)
    outlook = forecast_queue()
    assert outlook.worker_is_alive is is_alive
    assert turns(outlook) == ([(0, 10)] if is_alive else [(None, None)])


def test_the_lease_of_a_run_is_a_heartbeat_of_its_worker():
    running(profiles=10, completed=1, seconds=1)
    seen(LEASE + 5)
    outlook = forecast_queue()
    assert outlook.worker_is_alive
    assert outlook.run_is_alive


def test_the_end_of_a_run_without_heartbeats_is_unknown(worker):
    running(profiles=10, completed=1, seconds=1)
    waiting(10)
    Batch.objects.running().update(lease_at=timezone.now() - timedelta(seconds=LEASE + 5))
    outlook = forecast_queue()
    assert not outlook.run_is_alive
    assert turns(outlook) == [(None, None)]


def test_an_installation_without_any_worker_has_no_heartbeat():
    waiting(10)
    Queue.objects.all().delete()
    outlook = forecast_queue()
    assert outlook.worker_seen_at is None
    assert not outlook.worker_is_alive


@pytest.mark.parametrize(
    ("position", "target", "later", "others", "others_later"),
    [
        (3, 1, -3, (1, 2), 4),
        (1, 3, 6, (2, 3), -1),
        (2, 99, 4, (3, 3), -2),
        (2, 0, -1, (1, 1), 2),
        (2, 2, 0, (3, 2), -2),  # it passes nobody
    ],
)
def test_a_move_shifts_the_moved_batch_and_those_it_passes(worker, position, target, later, others, others_later):
    finished(rate=10)
    waiting(10, 20, 40)
    move = forecast_queue().move(position, target)
    assert (move.later, move.others_later) == (later, others_later)
    assert (move.first, move.last) == others
    assert move.others == others[1] - others[0] + 1


def test_the_delay_of_a_move_can_be_unknown(worker):
    waiting(10, 20)
    move = forecast_queue().move(2, 1)
    assert (move.later, move.others_later) == (None, None)


def test_the_number_of_queries_does_not_grow_with_the_queue(worker):
    counts = []
    for _ in range(2):
        make_waiting(3)
        finished(rate=10)
        with CaptureQueriesContext(connection) as captured:
            forecast_queue()
        counts.append(len(captured))
    assert counts == [4, 4]


def test_a_new_batch_starts_at_the_position_that_the_manager_would_choose(worker):
    finished(rate=10)
    for priority in (5, 1):
        make_batch("waits", priority=priority)
    Batch.objects.queued().update(total_profiles=300)
    outlook = forecast_queue()
    positions = [Batch.objects.end_of_band(priority) for priority in (9, 5, 1, 0)]
    assert positions == [1, 2, 3, 3]
    starts = [outlook.start_at(position) for position in positions]
    assert [round((start - outlook.now).total_seconds()) for start in starts] == [0, 30, 60, 60]


@pytest.mark.parametrize("position", [0, -1, 2])
def test_an_invalid_position_has_no_start(worker, position):
    assert forecast_queue().start_at(1) is not None
    assert forecast_queue().start_at(position) is None
