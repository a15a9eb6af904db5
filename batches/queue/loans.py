"""Loans of slots: a redirect led a worker to a domain that another worker owns.

The owner of a domain's partition may send it `per_host` requests at once. A worker that needs a slot there stores its
wish. The owner reads it, keeps one slot free, and grants the loan: to one worker at a time, which a constraint ensures.
If nobody owns the partition, the worker becomes its owner. So all workers together keep to the limit.

Lock order: lease → partitions → loans. A loan is deleted only by its worker, or with its lease.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from batches.models import Lease, Loan, Partition

from .partitions import free_partitions, leased_partitions, numbers_under_way, partition_of_domain


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a worker owns, has borrowed and lends after an exchange."""

    #: All partitions of the lease.
    partitions: list[int]
    #: Those of them that it has got for redirects only: no row of the batch is pending there.
    empty: list[int]
    #: The domains of others of which it has a slot.
    borrowed: list[str]
    #: Its own domains that others want, and whether one of them has a slot.
    lent: dict[str, bool]
    #: A wanted domain belongs to a worker that no longer sends heartbeats.
    is_stuck: bool


def exchange(lease: Lease, wanted: Collection[str], spare: Collection[str]) -> Exchange:
    """Store what it wants of others, and lend its spare slots. Safe to repeat. Call it under the lock of the lease."""
    numbers = {domain: partition_of_domain(domain) for domain in wanted}
    empty = lease_for_redirects(lease, set(numbers.values()))
    leased = leased_partitions(lease)
    foreign = {domain: number for domain, number in numbers.items() if number not in leased}
    store_wishes(lease, foreign)
    grant_loans([domain for domain in spare if partition_of_domain(domain) in leased])
    others = Loan.objects.exclude(lease=lease).filter(partition__in=leased)
    owners = Lease.objects.filter(partitions__batch=lease.batch_id, partitions__number__in=set(foreign.values()))
    return Exchange(
        leased,
        [number for number in empty if number in leased],
        list(lease.loans.filter(is_granted=True).values_list("domain", flat=True)),
        dict(others.order_by("is_granted").values_list("domain", "is_granted").distinct()),
        bool(foreign) and owners.expired().exists(),
    )


def lease_for_redirects(lease: Lease, numbers: set[int]) -> list[int]:
    """Lease the free ones of these partitions. Returns those that did not exist, as none of their rows is pending."""
    if not numbers:
        return []
    free = free_partitions(lease.batch_id).filter(number__in=numbers).select_for_update(skip_locked=True)
    Partition.objects.filter(pk__in=list(free.values_list("pk", flat=True))).update(lease=lease)
    existing = Partition.objects.filter(batch=lease.batch_id, number__in=numbers).values_list("number", flat=True)
    missing = sorted(numbers - set(existing) - numbers_under_way())
    rows = [Partition(batch_id=lease.batch_id, number=number, lease=lease) for number in missing]
    Partition.objects.bulk_create(rows, ignore_conflicts=True)  # another worker may do the same
    return missing


def store_wishes(lease: Lease, wishes: Mapping[str, int]) -> None:
    """Delete its other loans: their slots are free again."""
    known = dict(lease.loans.values_list("domain", "pk"))
    lease.loans.filter(pk__in=[pk for domain, pk in known.items() if domain not in wishes]).delete()
    new = sorted(wishes.items() - {(domain, wishes.get(domain)) for domain in known})
    Loan.objects.bulk_create(Loan(lease=lease, domain=domain, partition=number) for domain, number in new)


def grant_loans(domains: Collection[str]) -> None:
    """Grant the oldest wish for each domain without a loan. A wish that its worker is deleting is skipped."""
    granted = Loan.objects.filter(domain__in=domains, is_granted=True).values_list("domain", flat=True)
    free = set(domains) - set(granted)
    wishes = Loan.objects.filter(domain__in=free).select_for_update(skip_locked=True).order_by("-pk")
    oldest = dict(wishes.values_list("domain", "pk"))
    Loan.objects.filter(pk__in=oldest.values()).update(is_granted=True)


def are_slots_wanted(run_token: UUID) -> bool:
    """Whether others wait for a slot of this lease's domains."""
    own = Partition.objects.filter(lease=run_token).values("number")
    return Loan.objects.exclude(lease=run_token).filter(partition__in=own).exists()
