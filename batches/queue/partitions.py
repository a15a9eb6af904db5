"""Partitions of the running batch: assigns rows to partitions, and partitions to workers.

All profiles of a registrable domain are in one partition, so only one worker sends requests to a domain, however many
processes and machines work on the batch.
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
from batches.models import Batch, EndedLease, Lease, Loan, Partition, Queue

#: A larger batch gets all partitions: empty partitions cost less than finding them.
FEW_ROWS = 2_500
#: Seconds for which an unsuccessful worker is remembered. It tries again every `POLL_SECONDS`.
WANTED_SECONDS = 3.0


def partition_of(address: str) -> int:
    """The partition number of a profile with this first address to fetch."""
    return partition_of_domain(domain_of(address))


def partition_of_domain(domain: str) -> int:
    return crc32(domain.encode()) % PARTITIONS


def create_missing_partitions(batch: Batch) -> None:
    """Create the partitions of a new run. Under the lock of the queue, so the cost must not grow with the batch."""
    if batch.partitions.exists():
        return
    numbers: Iterable[int] = range(PARTITIONS)
    if batch.total_profiles <= FEW_ROWS:
        numbers = batch.profiles.order_by().values_list("partition", flat=True).distinct()
    Partition.objects.bulk_create(Partition(batch=batch, number=number) for number in numbers)


def free_partitions(batch_id: UUID) -> QuerySet[Partition]:
    """The partitions without a lease, in which no worker of an earlier run may still have running checks."""
    return Partition.objects.filter(batch=batch_id, lease=None).exclude(number__in=numbers_under_way())


def numbers_under_way() -> set[int]:
    """The partitions in which workers of ended leases may still have running checks."""
    lease = timedelta(seconds=get_config().lease_seconds)
    under_way = EndedLease.objects.filter(until__range=(Now(), Now() + lease))  # the clock may have been set back
    return set().union(*under_way.values_list("partitions", flat=True))


def lease_free_partitions(lease: Lease, processes: int) -> None:
    """Give the lease a fair share of the free partitions, if there are any.

    The share counts all workers of the run, and the `processes` that start together with this one. Workers that lease
    at the same time skip each other's.
    """
    left = Partition.objects.filter(batch=lease.batch_id)
    share = ceil(left.count() / max(processes, Lease.objects.filter(batch=lease.batch_id).count()))
    free = free_partitions(lease.batch_id).select_for_update(skip_locked=True)
    chosen = list(free.order_by("number").values_list("pk", flat=True)[:share])
    Partition.objects.filter(pk__in=chosen).update(lease=lease)


def leased_partitions(lease: Lease) -> list[int]:
    return list(Partition.objects.filter(lease=lease).order_by("number").values_list("number", flat=True))


def return_partitions(lease: Lease, checked: Iterable[int], released: Iterable[int]) -> None:
    """Remove completely checked partitions, and make the released ones free."""
    own = Partition.objects.filter(lease=lease)
    own.filter(number__in=list(checked)).delete()
    own.filter(number__in=list(released)).update(lease=None)


def note_under_way(leases: Iterable[Mapping[str, Any]]) -> None:
    """Block the partitions of these ending leases until their workers have ended their checks.

    Call it under the locks of the leases. It needs `pk`, `worker` and `lease_at` of each.
    """
    by_lease = defaultdict(list)
    tokens = [lease["pk"] for lease in leases]
    owned = Partition.objects.filter(lease__in=tokens).values_list("lease_id", "number")
    borrowed = Loan.objects.filter(lease__in=tokens, is_granted=True).values_list("lease_id", "partition")
    for token, number in [*owned, *borrowed]:
        by_lease[token].append(number)
    lease_seconds = timedelta(seconds=get_config().lease_seconds)
    EndedLease.objects.filter(until__lte=Now()).delete()
    EndedLease.objects.bulk_create(
        EndedLease(worker=lease["worker"], partitions=by_lease[lease["pk"]], until=lease["lease_at"] + lease_seconds)
        for lease in leases
    )


def end_checks(worker: str) -> None:
    """Note that this worker has no more running checks."""
    EndedLease.objects.filter(worker=worker).delete()


def are_wanted(batch: Batch) -> bool:
    """Whether a worker needs partitions of this batch, and all are leased."""
    is_recent = Queue.objects.filter(wanted_at__gt=Now() - timedelta(seconds=WANTED_SECONDS))
    return is_recent.exists() and not Partition.objects.filter(batch=batch, lease=None).exists()
