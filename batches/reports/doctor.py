"""Finds inconsistent data. The constraints and the manager prevent it, but a damaged disk, a restored dump or a manual
change in the database can cause it.

Each check is a single statement, so that concurrent changes never look like damage.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import CheckConstraint, Count, Exists, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.conf import command_line, get_config, worker_command
from batches.models import COUNTER_AGGREGATES, Batch, BatchLog, Lease, ProfileList, Queue, aggregate_counters
from batches.queue.repairs import find_miscounted, find_orphans
from batches.text import pluralise

Status = Batch.Status

#: Number of leases without a heartbeat after which a run is reported: until then, the next worker takes it over anyway.
MISSED_LEASES = 2

CHECKS = {check.name: check.condition for check in Batch._meta.constraints if isinstance(check, CheckConstraint)}

#: Contradictions in a batch. A constraint prevents the first two, but a restored dump may lack it.
CONTRADICTIONS = {
    "status and position contradict each other": ~Q(CHECKS["batch_status_matches_position"]),
    "is leased by a worker, but is not running": ~Q(status=Status.RUNNING)
    & Exists(Lease.objects.filter(batch=OuterRef("pk"))),
    "is done, but has no completion time": Q(status=Status.DONE, completed_at__isnull=True),
    "has a completion time, but is not done": ~Q(status=Status.DONE) & Q(completed_at__isnull=False),
    "is in error, but has no error message": Q(status=Status.ERROR, error=""),
    "has an error message, but is not in error": ~Q(status=Status.ERROR) & ~Q(error=""),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One inconsistency. `can_be_fixed` if the correct value can be derived from other data."""

    message: str
    batch: UUID | None = None
    name: str = ""
    can_be_fixed: bool = True


def diagnose() -> list[Finding]:
    """All current inconsistencies."""
    return [
        *_check_order(),
        *_check_states(),
        *_check_counters(),
        *_check_logs(),
        *_check_heartbeats(),
        *_check_outage(),
        *_check_orphans(),
        *_check_interrupted(),
    ]


def repair(findings: list[Finding], manager: BatchManager) -> None:
    """Repair everything that can be derived. Each repair checks again under the queue's lock and logs its changes."""
    damaged = {finding.batch for finding in findings if finding.can_be_fixed and finding.batch}
    # Begin with batches that lose their position, so that it is free for the batch that needs it.
    order = {Status.QUEUED: 1, Status.RUNNING: 2}
    for batch in sorted(Batch.objects.filter(pk__in=damaged), key=lambda batch: order.get(Status(batch.status), 0)):
        manager.repair_batch(batch.pk)
    manager.reorder_queue()
    manager.repair_rows()


def _check_order() -> Iterator[Finding]:
    queued = Batch.objects.queued().aggregate(count=Count("pk"), last=Max("position"))
    if queued["count"] != (queued["last"] or 0):
        count = pluralise(queued["count"], "queued batch", "queued batches")
        yield Finding(f"The queue has gaps: {count}, the last at position {queued['last']:,}.")
    if (running := Batch.objects.filter(status=Status.RUNNING).count()) > 1:
        yield Finding(f"{running} batches are running at once.")


def _check_states() -> Iterator[Finding]:
    for message, condition in CONTRADICTIONS.items():
        yield from _report(Batch.objects.filter(condition), message)
    # Without the unique constraint, several batches may run; the one that started first continues.
    running = Batch.objects.filter(status=Status.RUNNING, position=0).order_by("started_at")
    yield from _report(running[1:], "is running, but so is another batch")


def _check_counters() -> Iterator[Finding]:
    """Compare rows and counters in one statement, since a worker may be recording results."""
    counts: dict[str, Any] = {f"rows_{field}": count for field, count in aggregate_counters("profiles__").items()}
    for batch in Batch.objects.with_exact_ledger().annotate(**counts).iterator():
        values = vars(batch)
        for field in COUNTER_AGGREGATES:
            counter, count = values[field], values[f"rows_{field}"]
            if counter != count and values["rows_total_profiles"]:
                message = f"{field} is {counter:,}, but its rows add up to {count:,}"
                yield Finding(message, batch.pk, batch.name)
    for found in find_miscounted():
        counted = pluralise(found.total_profiles, "profile")
        yield Finding(f"The list “{found}” counts {counted}, but has {found.members:,}.")


def _check_logs() -> Iterator[Finding]:
    latest = BatchLog.objects.filter(batch=OuterRef("pk")).order_by("-pk").values("to_status")[:1]
    batches = Batch.objects.annotate(logged=Subquery(latest)).filter(Q(logged=None) | ~Q(logged=F("status")))
    for pk, name, status, logged in batches.values_list("pk", "name", "status", "logged"):
        entry = f"its last log entry says {logged}" if logged else "has no log entry"
        yield Finding(f"is {status}, but {entry}", pk, name)


def _check_heartbeats() -> Iterator[Finding]:
    lease = timedelta(seconds=get_config().lease_seconds) * MISSED_LEASES
    recent = Lease.objects.filter(batch=OuterRef("pk"), lease_at__range=(Now() - lease, Now() + lease))
    overdue = Batch.objects.running().exclude(Exists(recent))
    for batch in overdue.filter(started_at__lt=Now() - lease):
        since = f"no heartbeat since {batch.heartbeat_at:%Y-%m-%d %H:%M:%S %Z}" if batch.heartbeat_at else ""
        message = f"{since or 'no worker has claimed it'}. Start a worker with: {worker_command()}"
        yield Finding(message, batch.pk, batch.name, can_be_fixed=False)


def _check_outage() -> Iterator[Finding]:
    """Report an outage only after a while: a short one is over before an operator could act."""
    lease = timedelta(seconds=get_config().lease_seconds) * MISSED_LEASES
    for queue in Queue.objects.filter(outage_since__lt=Now() - lease):
        since = f"{queue.outage_since:%Y-%m-%d %H:%M:%S %Z}"
        release = command_line("queue release")
        advice = f"Check its network. Workers continue automatically, or release the queue: {release}"
        yield Finding(f"The queue is held since {since}. {queue.hold_reason} {advice}", can_be_fixed=False)


def _check_orphans() -> Iterator[Finding]:
    for rows in find_orphans():
        if count := rows.count():
            names = rows.model._meta
            left = pluralise(count, str(names.verbose_name), str(names.verbose_name_plural))
            yield Finding(f"Rows without their batch, list or profile: {left}.")


def _check_interrupted() -> Iterator[Finding]:
    if deleted := Batch.everything.to_purge().count():
        yield Finding(f"The deletion of {pluralise(deleted, 'batch', 'batches')} is not complete.")
    if deleted := ProfileList.everything.to_purge().count():
        yield Finding(f"The deletion of {pluralise(deleted, 'list')} is not complete.")
    if edited := ProfileList.objects.to_settle().count():
        yield Finding(f"Rows of a finished edit are left in {pluralise(edited, 'list')}.")
    if reset := Batch.objects.to_reset().count():
        yield Finding(f"Previous results are left in {pluralise(reset, 'rechecked batch', 'rechecked batches')}.")


def _report(batches: QuerySet[Batch], message: str) -> Iterator[Finding]:
    for pk, name in batches.values_list("pk", "name"):
        yield Finding(message, pk, name)
