"""Runs and leases: the shares of workers in the running batch, and their end, in order or without a heartbeat.

A worker's share is one row of `Lease`. Its token is the fence: it is valid while the row exists. To end the run or take
over, a caller locks the row, and so waits for a recording in progress. Lock order: batch → leases → partitions.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from batches import __version__
from batches.conf import get_config
from batches.models import Batch, BatchProfile, Lease, Partition, Queue, SecondsSince

from .partitions import (
    are_wanted,
    create_missing_partitions,
    free_partitions,
    lease_free_partitions,
    leased_partitions,
    note_under_way,
)
from .refusals import Fenced
from .sql import reading_in_order
from .values import as_uuid

COUNTERS = ("successful_checks", "failed_checks", "stories_found")


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A worker's share in a run: it owns partitions while it renews the lease."""

    batch: Batch
    run_token: uuid.UUID
    partitions: tuple[int, ...] = ()
    #: No other worker has a share: the run starts, or continues after all workers had ended.
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class Workers:
    """The number of workers in the running batch, and how many more it can use."""

    at_work: int
    wanted: int


def lock_head() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).queued().order_by("position").first()


def lock_running() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).running().first()


def lock_queued(batch_id: uuid.UUID) -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).queued().filter(pk=batch_id).first()


def lease_of(batch_id: object, run_token: object) -> QuerySet[Lease]:
    """The lease with this token, if it is still valid for this batch."""
    # None matches no lease.
    return Lease.objects.filter(batch=as_uuid(batch_id), run_token=as_uuid(run_token))  # type: ignore[misc]


def renew_lease(batch_id: object, run_token: object) -> None:
    """The fence: a conditional write that fails for every token but the valid ones."""
    if not lease_of(batch_id, run_token).update(lease_at=Now(), run_seconds=run_seconds()):
        raise Fenced


def run_seconds() -> Combinable:
    """The run time including the time since the last heartbeat, at most one lease: after that, the worker counts as
    dead.
    """
    return F("run_seconds") + seconds_since_heartbeat()


def seconds_since_heartbeat() -> SecondsSince:
    return SecondsSince("lease_at", at_most=get_config().lease_seconds)


def count_workers(batch: Batch, limit: int) -> Workers:
    """Count one more for each free partition. If all are leased, one more worker can get some of another's."""
    if not batch.leases.exists():
        create_missing_partitions(batch)
    at_work = batch.leases.live().count()
    free = batch.partitions.exclude(lease__in=batch.leases.live()).count()
    return Workers(at_work, max(0, min(max(free, 1), limit - at_work)))


def join_run(batch: Batch, worker: str, processes: int) -> ClaimedRun | None:
    """A new lease of the running batch, with a fair share of the free partitions.

    None if other workers have the remaining partitions, or still have running checks in them. A run without live leases
    and partitions can always be joined: a worker has to finish it.
    """
    is_alone = not batch.leases.exists()
    if is_alone:
        create_missing_partitions(batch)
    is_left = not is_alone or batch.partitions.exists()
    if is_left and not free_partitions(batch.pk).exists():
        Queue.objects.update(wanted_at=Now())
        return None
    lease = Lease.objects.create(batch=batch, worker=worker, version=__version__, lease_at=Now())
    lease_free_partitions(lease, processes)
    Queue.objects.update(wanted_at=None)  # other workers that want some say so again with each claim
    return ClaimedRun(batch, lease.run_token, tuple(leased_partitions(lease)), is_alone)


def is_looked_after(seconds: float) -> bool:
    """Whether a claim would find nothing, and another worker has tried within the last `seconds`.

    It takes no lock. A claim takes the lock of the queue, and hundreds of waiting workers would block others.
    """
    seen = Queue.objects.filter(looked_at__range=(Now() - timedelta(seconds=seconds), Now())).first()
    if seen is None or seen.hold_is_over:
        return False
    running = Batch.objects.running().first()
    if running is None:
        return seen.is_blocked or not Batch.objects.queued().exists()
    return running.leases.exists() and not running.leases.expired().exists() and are_wanted(running)


def has_pending(batch: Batch) -> bool:
    """Whether pending rows are left.

    It sorts by the index: without an order, as in `exists`, PostgreSQL may read the whole table.
    """
    pending = BatchProfile.objects.of_batch(batch).filter(status=BatchProfile.Status.PENDING)
    with reading_in_order():
        return pending.order_by("pk").values_list("pk").first() is not None


def end_leases(batch: Batch, tokens: Collection[uuid.UUID] | None = None) -> bool:
    """Add the counts of all leases to the batch. End these leases (by default all) and free their partitions.

    Returns whether any of them has recorded a result since the last call. Call it before the first write to the batch:
    it waits for recordings in progress, which may need the batch's key.
    """
    locked = Lease.objects.select_for_update(no_key=True).filter(batch=batch).order_by("pk")
    columns = ("pk", "worker", "lease_at", "run_seconds", "unseen", *COUNTERS)
    leases = list(locked.annotate(unseen=seconds_since_heartbeat()).values(*columns))
    if not leases:
        return False
    ending = {lease["pk"] for lease in leases if tokens is None or lease["pk"] in tokens}
    successful, failed, stories = (sum(lease[counter] for lease in leases) for counter in COUNTERS)
    progress = {"takeovers": 0} if successful or failed else {}
    # The workers ran at the same time.
    seconds = max(lease["run_seconds"] + lease["unseen"] * (lease["pk"] in ending) for lease in leases)
    Batch.objects.filter(pk=batch.pk).update(
        **progress,
        completed_profiles=F("completed_profiles") + successful + failed,
        successful_checks=F("successful_checks") + successful,
        failed_checks=F("failed_checks") + failed,
        stories_found=F("stories_found") + stories,
        run_seconds=F("run_seconds") + seconds,
    )
    if len(ending) < len(leases):
        Lease.objects.filter(batch=batch).update(run_seconds=0.0, **dict.fromkeys(COUNTERS, 0))
    if tokens is None and batch.completed_profiles < batch.total_profiles:
        note_under_way(leases)  # the workers learn of the end with their next heartbeats
    Lease.objects.filter(pk__in=ending).delete()
    return bool(progress)


def end_expired(batch: Batch) -> int:
    """End the leases without a heartbeat, so that another worker takes over.

    Returns the number of takeovers in a row without progress, with this one; 0 if no lease has expired.
    """
    expired = batch.leases.expired().values_list("pk", flat=True)
    if expired.exists():
        lock_leases(batch)  # a recording in progress renews its lease
        if lost := list(expired):
            return 1 if end_leases(batch, lost) else batch.takeovers + 1
    return 0


def lock_leases(batch: Batch) -> bool:
    """Wait for results that are being recorded. Returns whether there are leases."""
    return bool(Lease.objects.select_for_update(no_key=True).filter(batch=batch).order_by("pk"))


def end_run(batch: Batch) -> None:
    """End all leases: no further result is recorded."""
    end_leases(batch)
    Partition.objects.filter(batch=batch).delete()
