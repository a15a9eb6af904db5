"""The workers: the batch, speed and last heartbeat of each, including those that have died. Reads only."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, Count, ExpressionWrapper

from batches.models import Batch, Lease, Worker, is_in_time


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """`rate` is in profiles per second since it joined the batch; None without a batch."""

    name: str
    version: str
    started_at: datetime
    seen_at: datetime
    alive: bool
    batch: Batch | None = None
    partitions: int = 0
    rate: float | None = None

    @property
    def batch_id(self) -> UUID | None:
        return self.batch.pk if self.batch else None


def list_workers(limit: int) -> tuple[list[WorkerFigures], int]:
    """At most `limit` workers, those that are alive first, and the number of all.

    The processes of Celery are short-lived. While none is running, the latest one represents them.
    """
    alive = ExpressionWrapper(is_in_time("seen_at"), output_field=BooleanField())
    known = Worker.objects.annotate(alive=alive)
    workers = list(known.expected().order_by("-alive", "name")[:limit])
    total = Worker.objects.expected().count() if len(workers) == limit else len(workers)
    workers = workers or list(known.alive().order_by("-seen_at")[:1])
    leases = Lease.objects.filter(worker__in=[worker.name for worker in workers]).select_related("batch")
    by_worker = {lease.worker: lease for lease in leases.annotate(owned=Count("partitions"))}
    return [describe_worker(worker, by_worker.get(worker.name)) for worker in workers], total or len(workers)


def describe_worker(worker: Any, lease: Any) -> WorkerFigures:
    who = worker.name, worker.version, worker.started_at, worker.seen_at, worker.alive
    if lease is None:
        return WorkerFigures(*who)
    checked = lease.successful_checks + lease.failed_checks
    rate = checked / lease.run_seconds if checked and lease.run_seconds > 0 else None
    return WorkerFigures(*who, lease.batch, lease.owned, rate)
