"""The time of each transition in a long queue, and its number of queries compared with a short queue."""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch

PROFILES = 10_000  # batches
FEW = 10
GOAL = 100

manager = BatchManager(actor="benchmark")


def run(batches: int, rounds: int) -> Iterator[str]:
    manager.reorder_queue()  # creates the Queue row
    fill(FEW)
    few = {name: queries_of(transition) for name, transition in transitions().items()}
    fill(batches)
    for name, transition in transitions().items():
        count = queries_of(transition)
        times = [seconds_of(transition) for _ in range(max(rounds, 5))]
        yield (
            f"{name:<12} {1000 * median(times):6.1f} ms (goal {GOAL}), {count} queries "
            f"({'as' if count == few[name] else f'{few[name]}'} with {FEW} batches)"
        )


def fill(batches: int) -> None:
    """Queue this many batches, in two priority bands."""
    Batch.objects.all().delete()
    Batch.objects.bulk_create(
        Batch(name=f"Batch {number}", position=number + 1, priority=9 if number < batches // 2 else 0)
        for number in range(batches)
    )


def find_at(position: int) -> Any:
    return Batch.objects.get(position=position).pk


def find_last() -> Any:
    return Batch.objects.queued().order_by("-position").first().pk  # type: ignore[union-attr]


def transitions() -> dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]]:
    """By name: how to choose a batch, the transition, and how to undo it. Each shifts as many batches as it can."""
    return {
        "start": (lambda: find_at(1), manager.start_batch, manager.pause_batch),
        "pause": (lambda: find_at(1), manager.pause_batch, manager.queue_batch),
        "queue": (pause_first, manager.queue_batch, lambda pk: None),
        "move up": (find_last, lambda pk: manager.move_batch(pk, 1), lambda pk: None),
        "move down": (lambda: find_at(1), lambda pk: manager.move_batch(pk, 10**6), lambda pk: None),
        "priority": (find_last, lambda pk: manager.set_priority(pk, 10), lambda pk: manager.set_priority(pk, 0)),
        "error": (lambda: find_at(1), lambda pk: manager.handle_error(pk, "stopped"), manager.queue_batch),
        "complete": (lambda: find_at(1), manager.complete_batch, manager.queue_batch),
        "create": (lambda: None, lambda _: manager.create_batch("New", priority=10), lambda _: None),
        "delete": (lambda: find_at(1), manager.delete_batch, lambda pk: None),
        "promote": (lambda: None, lambda _: manager.promote_next_batch(), lambda _: complete_running()),
    }


def pause_first() -> Any:
    """A paused batch whose place is at the end of the upper band, in the middle of the queue."""
    pk = find_at(1)
    manager.pause_batch(pk)
    return pk


def complete_running() -> None:
    for batch in Batch.objects.running():
        manager.complete_batch(batch.pk)


def queries_of(transition: tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]) -> int:
    choose, change, put_back = transition
    pk = choose()
    with CaptureQueriesContext(connection) as captured:
        result = change(pk)
    assert result, result
    put_back(pk)
    return len(captured)


def seconds_of(transition: tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any], Any]]) -> float:
    choose, change, put_back = transition
    pk = choose()
    started = time.perf_counter()
    result = change(pk)
    seconds = time.perf_counter() - started
    assert result, result
    put_back(pk)
    return seconds
