"""The order of the queue: bands of priority, moves, and shifts that hold in any physical order of the rows."""

import random

import pytest
from django.db.models import F

from batches.models import Batch, Queue
from batches.queue.refusals import Code
from batches.queue.values import fingerprint_of
from batches.tests.support.factories import (
    assert_consistent,
    assert_logged,
    counters,
    half_checked,
    make_batch,
    make_waiting,
    unchanged,
    undone,
    values_of,
    waiting_names,
)

pytestmark = pytest.mark.django_db

read_version = Queue.objects.read_version

# Bands


def test_the_band_ends_behind_its_last_batch_even_if_batches_were_moved(manager):
    high, low = make_batch("high", priority=5), make_batch("low")
    make_batch("low 2")
    assert manager.move_batch(low.pk, 1)
    make_batch("high 2", priority=5)
    assert waiting_names() == ["low", "high", "high 2", "low 2"]
    assert manager.move_batch(high.pk, 4)
    make_batch("high 3", priority=5)
    assert waiting_names() == ["low", "high 2", "low 2", "high", "high 3"]


# Priority


@pytest.mark.parametrize(
    ("priority", "order"),
    [
        (9, ["b", "a", "c", "d"]),
        (5, ["a", "b", "c", "d"]),
        (3, ["a", "c", "b", "d"]),
        (-1, ["a", "c", "d", "b"]),
        (-32_768, ["a", "c", "d", "b"]),
        (32_767, ["b", "a", "c", "d"]),
    ],
)
def test_a_queued_batch_moves_to_the_end_of_its_new_band(priority, order, manager):
    make_batch("a", priority=5)
    batch = make_batch("b", priority=4)
    make_batch("c", priority=3), make_batch("d")
    assert manager.set_priority(batch.pk, priority) is True
    assert waiting_names() == order
    assert values_of(batch.pk)["priority"] == priority
    moved = ("queued", 2), ("queued", order.index("b") + 1)
    assert_logged("set_priority", batch, *moved, f"priority 4 → {priority}")


UNCHANGED = {
    "the same priority": (lambda manager, pk: manager.set_priority(pk, 0), True),
    "the same position": (lambda manager, pk: manager.move_batch(pk, 2), True),
    "the last one behind the end": (lambda manager, _: manager.move_batch(Batch.objects.get(name="3").pk, 1000), True),
    "the last one again": (lambda manager, _: manager.queue_batch(Batch.objects.get(name="3").pk), True),
    "an unchanged order": (lambda manager, pk: manager.reorder_queue(), True),
    "a release without a hold": (lambda manager, pk: manager.release_queue(), True),
    **{
        f"the priority {priority!r}": (lambda manager, pk, it=priority: manager.set_priority(pk, it), Code.BAD_VALUE)
        for priority in (32_768, "1")
    },
    **{
        f"the position {position!r}": (lambda manager, pk, it=position: manager.move_batch(pk, it), Code.BAD_VALUE)
        for position in (None, "1", 1.5, True)
    },
}


@pytest.mark.parametrize(("call", "answer"), UNCHANGED.values(), ids=UNCHANGED.keys())
def test_a_call_without_effect_or_with_an_invalid_value_changes_nothing(call, answer, manager):
    batch = make_waiting(3)[1]
    with unchanged():
        result = call(manager, batch.pk)
        assert (result if result else result.code) == answer


# Moves


@pytest.mark.parametrize(
    ("position", "order"),
    [
        (1, ["3", "1", "2", "4", "5"]),
        (2, ["1", "3", "2", "4", "5"]),
        (3, ["1", "2", "3", "4", "5"]),
        (5, ["1", "2", "4", "5", "3"]),
        (6, ["1", "2", "4", "5", "3"]),
        (10**30, ["1", "2", "4", "5", "3"]),
        (0, ["3", "1", "2", "4", "5"]),
        (-(10**30), ["3", "1", "2", "4", "5"]),
    ],
)
@pytest.mark.parametrize("by_distance", [False, True])
def test_a_move_is_clamped_and_shifts_the_others(position, order, by_distance, manager):
    batch = make_waiting(5)[2]
    running = make_batch("running")
    assert manager.start_batch(running.pk)
    if by_distance:
        passed = Batch.objects.passed_by(batch, position - 3).values_list("pk", flat=True)
        assert manager.move_batch_past(batch.pk, position - 3, fingerprint_of(passed)) is True
    else:
        assert manager.move_batch(batch.pk, position, expected_version=read_version()) is True
    assert waiting_names() == order
    assert values_of(running.pk)["position"] == 0
    assert_consistent()


# Starts, gaps


def test_the_head_of_the_queue_is_promoted_unless_one_runs_or_the_queue_is_empty(manager):
    assert manager.promote_next_batch() is None
    first, _ = make_waiting(2)
    version = read_version()
    promoted = manager.promote_next_batch()
    assert read_version() == version + 1
    assert promoted == first
    assert (promoted.status, promoted.position, promoted.leases.exists()) == ("running", 0, False)
    assert promoted.started_at is not None
    assert waiting_names() == ["2"]
    assert_logged("promote_next_batch", first, ("queued", 1), ("running", 0))
    with unchanged():
        assert manager.promote_next_batch() is None


@pytest.mark.parametrize("before", ["queued", "paused"])
def test_a_start_can_interrupt_the_running_batch_which_waits_at_the_front_with_its_results(before, manager):
    it = half_checked("running")
    urgent, started_at, version = make_batch("urgent", 1, queue=before == "queued"), it.started_at, read_version()
    assert manager.start_batch(urgent.pk, preempt=True) is True
    urgent.refresh_from_db()
    assert (urgent.status, urgent.position) == ("running", 0)
    assert (counters(it), it.stories_found) == ((2, 1, 1), 1)
    assert (it.status, it.position, it.started_at, it.takeovers) == ("queued", 1, started_at, 0)
    assert waiting_names() == ["it", "first", "last"]
    assert read_version() > version
    assert_logged("start_batch", urgent, (before, 4 if before == "queued" else None), ("running", 0), "interrupts “it”")
    interrupted = it.logs.latest("pk")
    assert (interrupted.action, interrupted.actor, interrupted.channel) == ("interrupt_batch", "ada", "api")
    assert (interrupted.from_status, interrupted.to_status, interrupted.to_position) == ("running", "queued", 1)
    assert interrupted.message == "interrupted by “urgent”"
    assert_consistent()


def test_if_nothing_runs_it_is_a_start_like_any_other(manager):
    batch = make_batch()
    assert manager.start_batch(batch.pk, preempt=True) is True
    assert_logged("start_batch", batch, ("queued", 1), ("running", 0))


def test_reordering_closes_gaps_in_the_order_of_position(manager):
    make_waiting(4)
    for batch in Batch.objects.queued().order_by("-position"):
        Batch.objects.filter(pk=batch.pk).update(position=F("position") * 7)
    version = read_version()
    assert manager.reorder_queue() is True
    assert waiting_names() == ["1", "2", "3", "4"]
    assert_consistent()
    assert read_version() == version + 1
    assert_logged("reorder_queue", None, message="renumbered 4 queued batches")


def test_a_missing_queue_row_is_created_again(manager):
    """A restored dump may lack it."""
    Queue.objects.all().delete()
    make_waiting(2)
    Queue.objects.all().delete()
    assert manager.promote_next_batch()
    Queue.objects.all().delete()
    assert manager.hold_queue()
    assert Queue.objects.get().held


# Shifts for any physical order of the rows: wrong SQL passes if the rows are in the order of insertion.

COUNT = 12
SEEDS = range(3)


def shuffled_queue(seed):
    """Queued batches "1", "2", … with rows in a random physical order, some of them rewritten."""
    positions = list(range(1, COUNT + 1))
    random.Random(seed).shuffle(positions)
    Batch.objects.bulk_create(Batch(name=f"{position}", position=position) for position in positions)
    for position in positions[: COUNT // 3]:
        Batch.objects.filter(position=position).update(error="")
    return list(Batch.objects.order_by("position"))


SHIFTS = {
    "start the head": (lambda manager, batches: manager.start_batch(batches[0].pk), "2 3 4 5 6 7 8 9 10 11 12"),
    "start another": (lambda manager, batches: manager.start_batch(batches[3].pk), "1 2 3 5 6 7 8 9 10 11 12"),
    "promote": (lambda manager, batches: manager.promote_next_batch(), "2 3 4 5 6 7 8 9 10 11 12"),
    "claim": (lambda manager, batches: manager.claim_run("worker"), "2 3 4 5 6 7 8 9 10 11 12"),
    "pause": (lambda manager, batches: manager.pause_batch(batches[2].pk), "1 2 4 5 6 7 8 9 10 11 12"),
    "complete": (lambda manager, batches: manager.complete_batch(batches[2].pk), "1 2 4 5 6 7 8 9 10 11 12"),
    "fail": (lambda manager, batches: manager.handle_error(batches[2].pk, "Broken."), "1 2 4 5 6 7 8 9 10 11 12"),
    "delete": (lambda manager, batches: manager.delete_batch(batches[4].pk), "1 2 3 4 6 7 8 9 10 11 12"),
    "move up": (lambda manager, batches: manager.move_batch(batches[9].pk, 2), "1 10 2 3 4 5 6 7 8 9 11 12"),
    "move down": (lambda manager, batches: manager.move_batch(batches[1].pk, 10), "1 3 4 5 6 7 8 9 10 2 11 12"),
    "raise": (lambda manager, batches: manager.set_priority(batches[9].pk, 1), "10 1 2 3 4 5 6 7 8 9 11 12"),
    "lower": (lambda manager, batches: manager.set_priority(batches[1].pk, -1), "1 3 4 5 6 7 8 9 10 11 12 2"),
    "queue to the end": (lambda manager, batches: manager.queue_batch(batches[1].pk), "1 3 4 5 6 7 8 9 10 11 12 2"),
    "close gaps": (
        lambda manager, batches: Batch.objects.filter(name__in=["3", "6", "9"]).delete() and manager.reorder_queue(),
        "1 2 4 5 7 8 10 11 12",
    ),
    "create in front": (lambda manager, batches: make_batch("new", priority=1), "new 1 2 3 4 5 6 7 8 9 10 11 12"),
    "insert in front": (
        lambda manager, batches: Batch.objects.create(name="new", priority=1),
        "new 1 2 3 4 5 6 7 8 9 10 11 12",
    ),
    "repeat in front": (
        lambda manager, batches: manager.set_priority(batches[5].pk, 1) and manager.repeat_batch(batches[5].pk),
        "6 6 1 2 3 4 5 7 8 9 10 11 12",
    ),
}


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_shift_is_correct_for_any_physical_order_of_the_rows(shift, manager):
    call, order = SHIFTS[shift]
    for seed in SEEDS:
        with undone():
            assert call(manager, shuffled_queue(seed))
            assert waiting_names() == order.split()
            assert_consistent()
