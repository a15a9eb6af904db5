"""The forecast of the queue: turns, moves and heartbeats; unknown values are None."""

from datetime import timedelta

import pytest
from django.db.models import F

from batches.batch_manager import BatchManager
from batches.models import Batch, Lease
from batches.reports.forecast import forecast_queue
from batches.tests.support.factories import age_workers, make_batch, start_run

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


def expire_lease():
    Lease.objects.update(lease_at=F("lease_at") - timedelta(seconds=LEASE + 5))


def seen(seconds_ago):
    age_workers(timedelta(seconds=seconds_ago))


def turns(outlook):
    """Start and end of each waiting batch in seconds from now."""
    now = outlook.now.replace(microsecond=0)
    expected = [outlook.turn(position) for position in range(1, outlook.waiting + 1)]
    return [tuple(moment and (moment - now).total_seconds() for moment in (turn.start, turn.end)) for turn in expected]


#: The queue of a worker that is alive, and the turns.
TURNS = {
    "the speed of finished batches of different lengths": (
        lambda: (finished(10), finished(30, profiles=300), waiting(100, 200, 40)),
        [(0, 5), (5, 15), (15, 17)],
    ),
    "behind a running batch, which continues at its own rate": (
        lambda: (running(1000, completed=500, seconds=50), waiting(100)),
        [(50, 60)],
    ),
    "behind a batch without progress, which is expected to run like the finished ones": (
        lambda: (finished(10), running(100, completed=0, seconds=0), waiting(50)),
        [(10, 15)],
    ),
    "only profiles that are not checked take time": (
        lambda: (finished(10), waiting(100), Batch.objects.queued().update(completed_profiles=80)),
        [(0, 2)],
    ),
    "without a known speed, where an empty batch takes no time": (
        lambda: waiting(0, 100, 0),
        [(0, 0), (0, None), (None, None)],
    ),
    "behind a batch with an unknown speed": (
        lambda: (finished(10), waiting(10), waiting(10, checker="http"), waiting(10)),
        [(0, 1), (1, None), (None, None)],
    ),
    "while the queue is held": (lambda: (finished(10), waiting(100), BatchManager().hold_queue()), [(None, None)]),
    "without a heartbeat of a worker": (lambda: (finished(10), waiting(100), seen(LEASE + 5)), [(None, None)]),
    "behind a run without heartbeats": (
        lambda: (running(10, completed=1, seconds=1), waiting(10), expire_lease()),
        [(None, None)],
    ),
}


SUMS = ("waiting", "waiting_profiles", "all_done_in")


@pytest.mark.parametrize(("fill", "expected"), TURNS.values(), ids=TURNS.keys())
def test_each_waiting_batch_has_a_turn_as_far_as_it_can_be_known(fill, expected, worker):
    fill()
    outlook = forecast_queue()
    assert turns(outlook) == expected
    assert outlook.all_done == outlook.turn(len(expected)).end
    sizes = Batch.objects.queued().values_list("total_profiles", "completed_profiles")
    assert (outlook.waiting, outlook.waiting_profiles) == (len(expected), sum(a - b for a, b in sizes))
    short = forecast_queue(turns=1)
    assert turns(short) == expected[:1] + [(None, None)] * (len(expected) - 1)
    assert [getattr(short, name) for name in SUMS] == [getattr(outlook, name) for name in SUMS]


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        (lambda: None, 50),
        (lambda: BatchManager().hold_queue("why"), 50),  # it continues
        (expire_lease, None),
        (lambda: BatchManager().pause_batch(Batch.objects.running().get().pk), None),
    ],
    ids=["running", "held", "without heartbeat", "paused"],
)
def test_the_running_batch_has_an_end_while_it_is_checked(worker, change, seconds):
    running(1000, completed=500, seconds=50)
    change()
    outlook = forecast_queue()
    end = outlook.run_end and (outlook.run_end - outlook.now.replace(microsecond=0)).total_seconds()
    assert end == seconds


def test_a_duration_can_be_known_without_a_start(worker):
    finished(rate=10)
    waiting(10)
    waiting(10, checker="http")
    waiting(100)
    BatchManager().hold_queue("why")
    outlook = forecast_queue()
    assert [outlook.turn(position).seconds for position in (1, 2, 3)] == [1, None, 10]
    moves = [outlook.move(2, 1), outlook.move(3, 1)]
    assert [(move.later, move.others_later) for move in moves] == [(-1, None), (None, 10)]


@pytest.mark.parametrize(
    ("seconds_ago", "is_alive"), [(1, True), (LEASE + 5, False), (5 - LEASE, True), (-LEASE - 5, False)]
)
def test_a_worker_is_alive_within_the_lease_of_its_last_heartbeat(worker, seconds_ago, is_alive):
    seen(seconds_ago)
    assert forecast_queue().worker_is_alive is is_alive


def test_a_worker_that_died_before_the_clock_was_set_back_is_not_the_last_one(worker):
    seen(-LEASE - 5)
    BatchManager().claim_run("other")
    outlook = forecast_queue()
    assert (str(outlook.last_worker), outlook.worker_is_alive) == ("other", True)


def test_a_worker_that_renews_its_lease_is_alive():
    running(profiles=10, completed=1, seconds=1)
    seen(LEASE + 5)
    assert not forecast_queue().worker_is_alive
    lease = Lease.objects.get()
    assert BatchManager().renew_lease(lease.batch_id, lease.pk)
    outlook = forecast_queue()
    assert outlook.worker_is_alive
    assert outlook.run_is_alive
    expire_lease()
    assert not forecast_queue().run_is_alive


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


def test_a_new_batch_starts_at_the_position_that_the_manager_would_choose(worker):
    finished(rate=10)
    for priority in (5, 1):
        make_batch("waits", priority=priority)
    Batch.objects.queued().update(total_profiles=300)
    outlook = forecast_queue()
    positions = [Batch.objects.end_of_band(priority) for priority in (9, 5, 1, 0)]
    assert positions == [1, 2, 3, 3]
    now = outlook.now.replace(microsecond=0)
    assert [(outlook.start_at(position) - now).total_seconds() for position in positions] == [0, 30, 60, 60]
    assert [outlook.start_at(position) for position in (0, -1, 4)] == [None] * 3
