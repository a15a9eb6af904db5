"""Partitions of the running batch: which rows are in which, and which worker leases which.

All profiles of a registrable domain are in one partition, so a domain gets the requests of one worker only, however
many processes and machines work on the batch.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from math import ceil
from typing import Any
from uuid import UUID
from zlib import crc32

from django.db.models import QuerySet
from django.db.models.functions import Now

from batches.conf import get_config
from batches.limits import PARTITIONS
from batches.lists.domains import domain_of
from batches.models import Batch, EndedLease, Lease, Partition, Queue

#: A larger batch gets all partitions: those without rows cost less than looking for them.
FEW_ROWS = 2_500
#: Seconds for which a worker that found nothing to do is remembered. It looks again every `POLL_SECONDS`.
WANTED_SECONDS = 3.0


def partition_of(address: str) -> int:
    """The number of the partition for the profile of which this address is fetched first."""
    return partition_of_domain(domain_of(address))


def partition_of_domain(domain: str) -> int:
    return crc32(domain.encode()) % PARTITIONS


def create_missing_partitions(batch: Batch) -> None:
    """For a run that begins. Under the lock of the queue, so at a cost that does not grow with the batch."""
    if batch.partitions.exists():
        return
    numbers: Iterable[int] = range(PARTITIONS)
    if batch.total_profiles <= FEW_ROWS:
        numbers = batch.profiles.order_by().values_list("partition", flat=True).distinct()
    Partition.objects.bulk_create(Partition(batch=batch, number=number) for number in numbers)


def free_partitions(batch_id: UUID) -> QuerySet[Partition]:
    """Those without a lease, and in which no worker of an earlier run may still have checks under way."""
    under_way = EndedLease.objects.under_way().values_list("partitions", flat=True)
    return Partition.objects.filter(batch=batch_id, lease=None).exclude(number__in=set().union(*under_way))


def lease_free_partitions(lease: Lease, processes: int) -> None:
    """Give the lease a fair share of the free partitions, if there are any.

    All workers that have a part in the run share them, and so do the `processes` that start together with this one.
    Workers that lease at the same time skip each other's.
    """
    left = Partition.objects.filter(batch=lease.batch_id)
    share = ceil(left.count() / max(processes, Lease.objects.filter(batch=lease.batch_id).count()))
    free = free_partitions(lease.batch_id).select_for_update(skip_locked=True)
    chosen = list(free.order_by("number").values_list("pk", flat=True)[:share])
    Partition.objects.filter(pk__in=chosen).update(lease=lease)


def leased_partitions(lease: Lease) -> list[int]:
    return list(Partition.objects.filter(lease=lease).order_by("number").values_list("number", flat=True))


def return_partitions(lease: Lease, checked: Iterable[int], released: Iterable[int]) -> None:
    """Remove those in which every row is checked, and let others have those that are released."""
    own = Partition.objects.filter(lease=lease)
    own.filter(number__in=list(checked)).delete()
    own.filter(number__in=list(released)).update(lease=None)


def note_under_way(leases: Iterable[Mapping[str, Any]]) -> None:
    """Keep the partitions of these leases, which end now, from others until their workers have ended their checks.

    Under the locks of the leases. Of each it needs `pk`, `worker` and `lease_at`.
    """
    by_lease = defaultdict(list)
    owned = Partition.objects.filter(lease__in=[lease["pk"] for lease in leases])
    for token, number in owned.values_list("lease_id", "number"):
        by_lease[token].append(number)
    lease_seconds = timedelta(seconds=get_config().lease_seconds)
    EndedLease.objects.filter(until__lte=Now()).delete()
    EndedLease.objects.bulk_create(
        EndedLease(worker=lease["worker"], partitions=by_lease[lease["pk"]], until=lease["lease_at"] + lease_seconds)
        for lease in leases
    )


def end_checks(worker: str) -> None:
    """This worker has no more checks under way."""
    EndedLease.objects.filter(worker=worker).delete()


def note_wanted() -> None:
    """A worker found no free partition."""
    Queue.objects.update(wanted_at=Now())


def are_wanted(batch: Batch) -> bool:
    """Whether a worker looks for partitions of this batch, and all belong to others."""
    is_recent = Queue.objects.filter(wanted_at__gt=Now() - timedelta(seconds=WANTED_SECONDS))
    return is_recent.exists() and not Partition.objects.filter(batch=batch, lease=None).exists()
