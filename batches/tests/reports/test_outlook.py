"""What is expected of the queue: turns, moves, signs of life. What nobody can know is left out."""

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
    """One was there just now."""
    BatchManager().claim_run("worker")


def finished(rate, checker="feed", profiles=100):
    """A batch that was checked at so many profiles per second."""
    batch = make_batch("finished", checker=checker, queue=False)
    Batch.objects.filter(pk=batch.pk).update(
        total_profiles=profiles, completed_profiles=profiles, run_seconds=profiles / rate
    )
    assert BatchManager().complete_batch(batch.pk)


def waiting(*sizes, checker="feed"):
    """Queued batches of so many profiles, without rows."""
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
    found = [outlook.turn(position) for position in range(1, outlook.waiting + 1)]
    return [
        tuple(moment and round((moment - outlook.now).total_seconds()) for moment in (t.start, t.end)) for t in found
    ]


def seen(seconds_ago):
    Queue.objects.update(worker_seen_at=timezone.now() - timedelta(seconds=seconds_ago))


def test_the_turns_follow_from_how_fast_finished_batches_were_checked(worker):
    finished(rate=10)
    finished(rate=30, profiles=300)  # as long as the other: 20 profiles per second together
    waiting(100, 200, 40)
    outlook = forecast_queue()
    assert turns(outlook) == [(0, 5), (5, 15), (15, 17)]
    assert outlook.all_done == outlook.turn(3).end
    assert (outlook.waiting, outlook.waiting_profiles) == (3, 340)


def test_the_running_batch_is_finished_first_at_its_own_rate():
    running(profiles=1000, completed=500, seconds=50)
    waiting(100)
    assert turns(forecast_queue()) == [(50, 60)]


def test_a_batch_that_was_only_just_started_is_expected_to_go_as_the_others_went():
    finished(rate=10)
    running(profiles=100, completed=0, seconds=0)
    waiting(50)
    assert turns(forecast_queue()) == [(10, 15)]


def test_only_what_is_not_checked_yet_takes_time(worker):
    finished(rate=10)
    waiting(100)
    Batch.objects.queued().update(completed_profiles=80)
    assert turns(forecast_queue()) == [(0, 2)]


def test_where_nothing_is_known_nothing_is_said(worker):
    waiting(0, 100, 0)  # a batch of nothing takes no time, whoever checks it
    outlook = forecast_queue()
    assert turns(outlook) == [(0, 0), (0, None), (None, None)]
    assert outlook.all_done is None


def test_what_waits_behind_a_batch_of_a_checker_that_was_not_at_work_lately_is_not_known(worker):
    finished(rate=10)
    waiting(10)
    waiting(10, checker="http")
    waiting(10)
    outlook = forecast_queue()
    assert turns(outlook) == [(0, 1), (1, None), (None, None)]
    assert [outlook.turn(position).seconds for position in (1, 2, 3)] == [1, None, 1]


def test_while_the_queue_is_held_only_durations_are_known(worker):
    finished(rate=10)
    waiting(100)
    BatchManager().hold_queue("why")
    outlook = forecast_queue()
    assert turns(outlook) == [(None, None)]
    assert outlook.turn(1).seconds == 10


@pytest.mark.parametrize(("seconds_ago", "is_alive"), [(1, True), (LEASE + 5, False), (-LEASE - 5, False)])
def test_a_worker_is_alive_while_its_last_sign_is_within_the_lease(worker, seconds_ago, is_alive):
    finished(rate=10)
    waiting(100)
    seen(seconds_ago)
    outlook = forecast_queue()
    assert outlook.worker_is_alive is is_alive
    assert turns(outlook) == ([(0, 10)] if is_alive else [(None, None)])


def test_a_worker_that_is_busy_shows_itself_by_its_lease():
    running(profiles=10, completed=1, seconds=1)
    seen(LEASE + 5)
    outlook = forecast_queue()
    assert outlook.worker_is_alive
    assert outlook.run_is_alive


def test_a_run_whose_worker_fell_silent_ends_nobody_knows_when(worker):
    running(profiles=10, completed=1, seconds=1)
    waiting(10)
    Batch.objects.running().update(lease_at=timezone.now() - timedelta(seconds=LEASE + 5))
    outlook = forecast_queue()
    assert not outlook.run_is_alive
    assert turns(outlook) == [(None, None)]


def test_an_installation_where_no_worker_was_ever_seen_says_so():
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
    ],
)
def test_a_move_shifts_the_moved_batch_and_those_it_passes(worker, position, target, later, others, others_later):
    finished(rate=10)
    waiting(10, 20, 40)
    move = forecast_queue().move(position, target)
    assert (move.later, move.others_later) == (later, others_later)
    assert (move.first, move.last) == others
    assert move.others == others[1] - others[0] + 1


def test_a_move_to_its_own_place_shifts_nobody(worker):
    waiting(10, 20)
    assert forecast_queue().move(2, 5).others == 0


def test_how_long_a_move_delays_others_may_be_unknown(worker):
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


def test_a_new_batch_would_start_where_the_manager_would_place_it(worker):
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
def test_nothing_starts_at_a_place_that_does_not_exist(worker, position):
    assert forecast_queue().start_at(1) is not None
    assert forecast_queue().start_at(position) is None
