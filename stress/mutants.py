"""Mutants: the project without one of its safeguards, in every process that changes the queue.

The harness must fail for each mutant. If it missed one, it would also miss the bug that the mutant represents.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, connections, transaction
from django.db.models import QuerySet

from batches import batch_manager
from batches.checking import partitions
from batches.checking.checkers import slots
from batches.limits import PARTITIONS
from batches.models import BatchProfile, BatchQuerySet, Lease, Queue
from batches.queue import leases, loans, results, worker_calls, writer
from batches.queue import partitions as queue_partitions

SCAN = partitions.Scan


@dataclass(frozen=True, slots=True)
class Mutant:
    """The safeguard that is removed, and the fault that detects its absence."""

    without: str
    caught_by: str
    apply: Callable[[], None]
    databases: tuple[str, ...] = ("sqlite", "postgresql")


@contextmanager
def _unlocked_queue() -> Iterator[Queue]:
    if connection.vendor == "sqlite":  # the transaction is the lock
        yield Queue.objects.get()
    else:
        with transaction.atomic():
            yield Queue.objects.get()


def _find_any_lease(batch_id: Any, run_token: Any) -> QuerySet[Lease]:
    return Lease.objects.filter(batch=batch_id)


def _find_rows_in_any_state(batch_id: uuid.UUID, run_token: uuid.UUID, profile_ids: Any) -> dict[int, int]:
    rows = BatchProfile.objects.filter(batch=batch_id, profile__in=list(profile_ids))
    return dict(rows.values_list("profile_id", "pk"))


def _no_queue_lock() -> None:
    Queue.objects.locked = _unlocked_queue


def _no_run_token() -> None:
    for module in (leases, worker_calls, writer, batch_manager):
        module.lease_of = _find_any_lease


def _no_pending_guard() -> None:
    execute = results.execute
    results.find_pending_rows = _find_rows_in_any_state
    results.execute = lambda sql, parameters: execute(sql.replace("AND row.status = 'pending'", ""), parameters)


def _one_step_shift() -> None:
    BatchQuerySet._renumber = lambda rows, position: rows.update(position=position)


def _scan_everything(numbers: set[int]) -> partitions.Scan:
    return SCAN(set(range(PARTITIONS)))


def _no_partitions() -> None:
    partitions.Scan = _scan_everything


def _no_loans() -> None:
    slots.Slots._limit = lambda self, name: self._per_domain


def _forget_checks_under_way() -> None:
    for module in (queue_partitions, loans):
        module.numbers_under_way = set


def _default_transactions() -> None:
    del connections["default"].settings_dict["OPTIONS"]["transaction_mode"]


MUTANTS = {
    "no-queue-lock": Mutant("the queue lock", "pairs", _no_queue_lock),
    "no-run-token": Mutant("the check of the run token", "freeze", _no_run_token),
    "no-partitions": Mutant("the limit to the partitions that a worker leases", "share", _no_partitions),
    # On SQLite, workers write in turns, and their redirects rarely come together.
    "no-loans": Mutant("the loan of a slot to which a redirect leads", "share", _no_loans, ("postgresql",)),
    "no-ended-leases": Mutant(
        "the wait for checks of a run that was ended", "pause-4", _forget_checks_under_way, ("sqlite",)
    ),
    "no-pending-guard": Mutant("the check that a row is pending", "lose", _no_pending_guard),
    "one-step-shift": Mutant("the two-step shift of positions", "pairs", _one_step_shift),
    "default-transactions": Mutant("BEGIN IMMEDIATE", "pairs", _default_transactions, ("sqlite",)),
}


def apply(name: str) -> None:
    if name:
        MUTANTS[name].apply()
