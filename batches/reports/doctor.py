"""Recounts everything from the rows, and tells what does not agree: what the constraints and the manager rule out, and
what a damaged disk, a restored dump or a hand in the database can bring about all the same.

Each look is one statement, so that a queue at work is never taken for a broken one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.conf import get_config
from batches.models import COUNTED_ROWS, Batch, BatchLog, BatchProfile
from batches.queue.repairs import orphans

Status = Batch.Status

#: Leases after which a silent run is told of: until then the next worker takes it over as a matter of course.
PATIENCE = 2

#: What a status demands of the other columns. A constraint keeps the first two; it can be missing in a restored dump.
CONTRADICTIONS = {
    "its status and its position contradict each other": ~(
        Q(status=Status.RUNNING, position__isnull=False, position=0)
        | Q(status=Status.QUEUED, position__isnull=False, position__gte=1)
        | Q(status__in=[Status.PAUSED, Status.DONE, Status.ERROR], position__isnull=True)
    ),
    "it belongs to a run, but it is not running": ~Q(status=Status.RUNNING)
    & (Q(run_token__isnull=False) | Q(lease_at__isnull=False)),
    "it is done, but nobody knows since when": Q(status=Status.DONE, completed_at__isnull=True),
    "it has the time of its end, but it is not done": ~Q(status=Status.DONE) & Q(completed_at__isnull=False),
    "it is in error, but does not say why": Q(status=Status.ERROR, error=""),
    "it has an error, but is not in error": ~Q(status=Status.ERROR) & ~Q(error=""),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree. `can_be_fixed`: what is right follows from the rest."""

    message: str
    batch_id: UUID | None = None
    batch: str = ""
    can_be_fixed: bool = True


def examine() -> list[Finding]:
    """Everything that is wrong now, batch by batch; empty where nothing is."""
    return [
        *_order(),
        *_states(),
        *_counters(),
        *_logs(),
        *_silent_runs(),
        *_rows_of_nothing(),
        *_interrupted_deletions(),
    ]


def fix(findings: list[Finding], manager: BatchManager) -> None:
    """Repair what can be derived. Each repair looks anew, under the queue's lock, and writes what it did to the log."""
    found = {finding.batch_id for finding in findings if finding.can_be_fixed and finding.batch_id}
    # A place must be free before another batch can take it: first who has none to claim, the running one last.
    claims = {Status.QUEUED: 1, Status.RUNNING: 2}
    for batch in sorted(Batch.objects.filter(pk__in=found), key=lambda batch: claims.get(Status(batch.status), 0)):
        manager.repair_batch(batch.pk)
    manager.reorder_queue()
    manager.repair_rows()


def _order() -> Iterator[Finding]:
    queued = Batch.objects.queued().aggregate(count=Count("pk"), last=Max("position"))
    if queued["count"] != (queued["last"] or 0):
        yield Finding(f"The queue has gaps: {queued['count']:,} batches wait, the last one at {queued['last']:,}.")
    if (running := Batch.objects.filter(status=Status.RUNNING).count()) > 1:
        yield Finding(f"{running} batches are running at once.")


def _states() -> Iterator[Finding]:
    for message, condition in CONTRADICTIONS.items():
        yield from _about(Batch.objects.filter(condition), message)
    # Of several at the one place of a running batch (without the unique constraint), the first one is right.
    running = Batch.objects.filter(status=Status.RUNNING, position=0).order_by("started_at")
    yield from _about(running[1:], "another batch is running")


def _counters() -> Iterator[Finding]:
    """Rows and counters in one statement: a worker records meanwhile."""
    counters = {f"batch__{field}": f"counted_{field}" for field in COUNTED_ROWS}
    counted = {f"counted_{field}": count for field, count in COUNTED_ROWS.items()}
    rows = BatchProfile.objects.filter(batch__deleted_at=None).values("batch_id", "batch__name", *counters)
    for row in rows.annotate(**counted):
        wrong = {counter: row[count] for counter, count in counters.items() if row[counter] != row[count]}
        for counter, right in wrong.items():
            message = f"{counter.removeprefix('batch__')} is {row[counter]:,}, but its rows say {right:,}"
            yield Finding(message, row["batch_id"], row["batch__name"])


def _logs() -> Iterator[Finding]:
    latest = BatchLog.objects.filter(batch=OuterRef("pk")).order_by("-pk").values("to_status")[:1]
    batches = Batch.objects.annotate(logged=Subquery(latest)).filter(Q(logged=None) | ~Q(logged=F("status")))
    for pk, name, status, logged in batches.values_list("pk", "name", "status", "logged"):
        told = f"left it {logged}" if logged else "does not tell of it"
        yield Finding(f"it is {status}, but the log {told}", pk, name)


def _silent_runs() -> Iterator[Finding]:
    lease = timedelta(seconds=get_config().lease_seconds) * PATIENCE
    silent = Batch.objects.running().exclude(lease_at__range=(Now() - lease, Now() + lease))
    for batch in silent.filter(started_at__lt=Now() - lease):
        since = f"its worker has been silent since {batch.lease_at:%Y-%m-%d %H:%M:%S %Z}" if batch.lease_at else ""
        message = f"{since or 'no worker has taken it up'}: start one with manage.py batchworker"
        yield Finding(message, batch.pk, batch.name, can_be_fixed=False)


def _rows_of_nothing() -> Iterator[Finding]:
    for rows in orphans():
        if count := rows.count():
            yield Finding(
                f"{count:,} {rows.model._meta.verbose_name_plural} belong to a batch or a profile that is gone."
            )


def _interrupted_deletions() -> Iterator[Finding]:
    if deleted := Batch.everything.exclude(deleted_at=None).count():
        yield Finding(f"The rows of {deleted:,} deleted batches are not all gone.")


def _about(batches: QuerySet[Batch], message: str) -> Iterator[Finding]:
    for pk, name in batches.values_list("pk", "name"):
        yield Finding(message, pk, name)


def as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "batch": finding.batch_id,
        "name": finding.batch,
        "message": finding.message,
        "can_be_fixed": finding.can_be_fixed,
    }
