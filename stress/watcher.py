"""Checks the invariants every 100 ms, each time in one snapshot, from a separate process."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Max

from batches.models import COUNTER_AGGREGATES, Batch, BatchLog, BatchProfile, Channel, Lease, Partition, Queue, snapshot

Status = Batch.Status

INTERVAL = 0.1
#: A broken invariant stays broken, so the first few reports are enough.
MAX_REPORTED = 5

BLINK = "blink"

FIELDS = ("pk", "status", "position", *COUNTER_AGGREGATES)


def watch(link: Connection) -> None:
    """Watch until "stop" arrives. The harness sends how long the queue may stall from now on; None means no limit.

    Sends ("breach", description) for each problem, and finally ("watched", snapshots, longest stall).
    """
    stall, longest, snapshots, reported, is_blind = Stall(), 0.0, 0, 0, False
    due = time.monotonic()
    while True:
        due = max(due + INTERVAL, time.monotonic())
        if link.poll(max(0.0, due - time.monotonic())):
            order = link.recv()
            if order == "stop":
                break
            if is_blind := order == BLINK:
                connection.close()
                link.send((BLINK, time.monotonic()))
            else:
                stall = Stall(order)
            continue
        if is_blind:
            continue
        try:
            found, movement, is_waiting = read_invariants()
        except (DatabaseError, InterfaceError):
            connection.close()  # unavailable; the fault itself limits the time
            continue
        snapshots += 1
        found += stall.update(movement, is_waiting)
        longest = max(longest, stall.seconds)
        for breach in found[: MAX_REPORTED - reported]:
            link.send(("breach", breach))
            reported += 1
    link.send(("watched", snapshots, longest))


@dataclass
class Stall:
    """The time in which nothing has moved although work is waiting."""

    limit: float | None = None
    movement: Any = None
    since: float = 0.0
    seconds: float = 0.0
    is_reported: bool = False

    def update(self, movement: Any, is_waiting: bool) -> list[str]:
        now = time.monotonic()
        if self.limit is None or not is_waiting or movement != self.movement:
            self.movement, self.since, self.is_reported = movement, now, False
        self.seconds = now - self.since
        if self.limit is None or self.seconds <= self.limit or self.is_reported:
            return []
        self.is_reported = True
        return [f"the queue has stalled for more than {self.limit:.1f} s"]


def read_invariants() -> tuple[list[str], Any, bool]:
    """The problems, a value that changes with every step forward, and whether work is waiting."""
    with snapshot():
        batches = list(Batch.objects.values(*FIELDS))
        rows = list(
            BatchProfile.objects.filter(batch__in=Batch.objects.with_exact_ledger())
            .values("batch_id")
            .annotate(**COUNTER_AGGREGATES)
        )
        last_line = BatchLog.objects.filter(channel=Channel.WORKER).aggregate(last=Max("pk"))["last"]
        at_work = {pk for model in (Lease, Partition) for (pk,) in model.objects.values_list("batch_id").distinct()}
        queue = Queue.objects.first()
    running = [batch for batch in batches if batch["status"] == Status.RUNNING]
    waiting = [batch for batch in batches if batch["status"] == Status.QUEUED]
    movement = last_line, sum(batch["completed_profiles"] for batch in batches)
    is_waiting = bool(running) or (bool(waiting) and not (queue and queue.held))
    return [*_order(running, waiting), *_states(batches, at_work), *_ledger(batches, rows)], movement, is_waiting


def _order(running: list[dict[str, Any]], waiting: list[dict[str, Any]]) -> Iterator[str]:
    if len(running) > 1:
        yield f"{len(running)} batches are running at once"
    positions = sorted(batch["position"] or 0 for batch in waiting)
    if positions != list(range(1, len(positions) + 1)):
        yield f"the queued batches have the positions {positions}"


def _states(batches: list[dict[str, Any]], at_work: set[UUID]) -> Iterator[str]:
    for batch in batches:
        status, position = batch["status"], batch["position"]
        wanted = {Status.RUNNING: position == 0, Status.QUEUED: bool(position)}.get(status, position is None)
        if not wanted:
            yield f"batch {batch['pk']} is {status} at position {position}"
        if batch["pk"] in at_work and status != Status.RUNNING:
            yield f"batch {batch['pk']} is {status} but has leases or partitions"


def _ledger(batches: list[dict[str, Any]], rows: Iterable[Any]) -> Iterator[str]:
    counted: dict[UUID, dict[str, Any]] = {row["batch_id"]: row for row in rows}
    for batch in batches:
        row = counted.get(batch["pk"])
        for counter in COUNTER_AGGREGATES:
            if row and row[counter] != batch[counter]:
                yield f"batch {batch['pk']} has {counter} {batch[counter]}, but its rows say {row[counter]}"
