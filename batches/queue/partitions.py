"""Partitions of the running batch: which rows are in which, and which worker leases which.

All profiles of a registrable domain are in one partition, so a domain gets the requests of one worker only, however
many processes and machines work on the batch.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from zlib import crc32

from batches.limits import PARTITIONS
from batches.lists.domains import domain_of
from batches.models import Lease, Partition

from .sql import PARTITION, ROW, as_json, execute, is_postgresql, json_table, uuid_parameter

NUMBER = {"number": "integer"}


def partition_of(address: str) -> int:
    """The number of the partition for the profile of which this address is fetched first."""
    return crc32(domain_of(address).encode()) % PARTITIONS


def create_partitions(batch_id: uuid.UUID) -> None:
    """Create those that have rows, 256 look-ups in the index at most, however many rows there are."""
    execute(
        f"""INSERT INTO {PARTITION} (batch_id, number)
            SELECT %s, wanted.number FROM {json_table(NUMBER)} AS wanted
             WHERE EXISTS (SELECT 1 FROM {ROW} AS row WHERE {in_partition("wanted.number")})""",
        [
            uuid_parameter(batch_id),
            as_json([(number,) for number in range(PARTITIONS)]),
            *in_partition_parameters(batch_id),
        ],
    )


def in_partition(number: str) -> str:
    """A condition on `row`, with `in_partition_parameters`, that only the index by partition can answer.

    Without statistics, or with those from before the batch, PostgreSQL would read the whole batch for each partition.
    """
    pair = f"(%s, {number})"
    return f"(row.batch_id, row.partition) {f'BETWEEN {pair} AND' if is_postgresql() else '='} {pair}"


def in_partition_parameters(batch_id: uuid.UUID) -> list[object]:
    return [uuid_parameter(batch_id)] * (2 if is_postgresql() else 1)


def lease_free_partitions(lease: Lease, limit: int | None) -> None:
    """Give the lease up to `limit` partitions (None: all) that nobody has.

    Workers that lease at the same time skip each other's.
    """
    free = Partition.objects.select_for_update(skip_locked=True).filter(batch=lease.batch_id, lease=None)
    chosen = list(free.order_by("number").values_list("pk", flat=True)[:limit])
    Partition.objects.filter(pk__in=chosen).update(lease=lease)


def leased_partitions(lease: Lease) -> list[int]:
    return list(Partition.objects.filter(lease=lease).order_by("number").values_list("number", flat=True))


def remove_checked(lease: Lease, numbers: Iterable[int]) -> None:
    """Remove partitions of this lease in which nothing is pending any more."""
    Partition.objects.filter(lease=lease, number__in=list(numbers)).delete()
