"""The time of each transition in queues of different lengths, and its number of queries."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.queue.sql import execute

REPEATS = 5
INSERT_CHUNK = 5_000

manager = BatchManager(actor="benchmark")


class Transition(NamedTuple):
    """How to choose a batch, what to do with it, and how to undo it. Each shifts as many batches as it can."""

    choose: Callable[[], Any]
    change: Callable[[Any], Any]
    undo: Callable[[Any], Any] = lambda pk: None


def measure(sizes: list[int], by_hand: bool = False) -> dict[str, float]:
    manager.reorder_queue()  # creates the Queue row
    figures = {}
    for size in sizes:
        fill(size)
        figures |= measure_by_hand(size) if by_hand else measure_all(size)
    if not by_hand:
        queries = [value for name, value in figures.items() if name.startswith("queries")]
        figures["queries more in the longest queue"] = max(queries) - min(queries)
    return figures


def measure_all(size: int) -> dict[str, float]:
    times, queries = {}, 0
    for name, transition in TRANSITIONS.items():
        times[name] = median(seconds_of(transition) for _ in range(REPEATS))
        queries += queries_of(transition)
    slowest = max(times, key=lambda name: times[name])
    return {
        f"calls/s with {size:,} waiting": 1 / median(times.values()),
        f"ms for the slowest ({slowest}) with {size:,} waiting": 1000 * times[slowest],
        f"queries with {size:,} waiting": queries,
    }


def measure_by_hand(size: int) -> dict[str, float]:
    """Take the first batch from the queue and move all others up, one after the other."""

    def start(pk: Any) -> bool:
        with transaction.atomic():
            Batch.objects.filter(pk=pk).update(status=Batch.Status.PAUSED, position=None)
            for other in Batch.objects.queued().order_by("position").values_list("pk", flat=True):
                Batch.objects.filter(pk=other).update(position=F("position") - 1)
        return True

    times = [seconds_of(Transition(lambda: find_at(1), start)) for _ in range(2)]
    return {f"calls/s with {size:,} waiting": 1 / median(times)}


def fill(batches: int) -> None:
    """Queue this many batches, in two priority bands."""
    Batch.objects.all().delete()
    Batch.objects.bulk_create(
        (
            Batch(name=f"Batch {number}", position=number + 1, priority=9 if number < batches // 2 else 0)
            for number in range(batches)
        ),
        batch_size=INSERT_CHUNK,
    )
    if connection.vendor == "postgresql":  # autovacuum would do it a minute later
        execute("ANALYZE", [])


def find_at(position: int) -> Any:
    return Batch.objects.get(position=position).pk


def find_last() -> Any:
    return Batch.objects.queued().order_by("-position").first().pk  # type: ignore[union-attr]


def pause_first() -> Any:
    """A paused batch that belongs to the end of the upper band, in the middle of the queue."""
    pk = find_at(1)
    manager.pause_batch(pk)
    return pk


def complete_running(_: Any = None) -> None:
    for batch in Batch.objects.running():
        manager.complete_batch(batch.pk)


TRANSITIONS = {
    "start": Transition(lambda: find_at(1), manager.start_batch, manager.pause_batch),
    "pause": Transition(lambda: find_at(1), manager.pause_batch, manager.queue_batch),
    "queue": Transition(pause_first, manager.queue_batch),
    "move up": Transition(find_last, lambda pk: manager.move_batch(pk, 1)),
    "move down": Transition(lambda: find_at(1), lambda pk: manager.move_batch(pk, 10**6)),
    "priority": Transition(find_last, lambda pk: manager.set_priority(pk, 10), lambda pk: manager.set_priority(pk, 0)),
    "error": Transition(lambda: find_at(1), lambda pk: manager.handle_error(pk, "stopped"), manager.queue_batch),
    "complete": Transition(lambda: find_at(1), manager.complete_batch, manager.queue_batch),
    "create": Transition(lambda: None, lambda _: manager.create_batch("New", priority=10)),
    "delete": Transition(lambda: find_at(1), manager.delete_batch),
    "promote": Transition(lambda: None, lambda _: manager.promote_next_batch(), complete_running),
}


def queries_of(transition: Transition) -> int:
    pk = transition.choose()
    with CaptureQueriesContext(connection) as captured:
        result = transition.change(pk)
    assert result, result
    transition.undo(pk)
    return len(captured)


def seconds_of(transition: Transition) -> float:
    pk = transition.choose()
    started = time.perf_counter()
    result = transition.change(pk)
    seconds = time.perf_counter() - started
    assert result, result
    transition.undo(pk)
    return seconds
