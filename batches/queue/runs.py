"""Runs and leases: who may work on the running batch, and for how long without a heartbeat."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from batches.conf import get_config
from batches.models import Batch, SecondsSince

from .refusals import fenced
from .values import as_uuid


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that its claimer owns for as long as it renews the lease."""

    batch: Batch
    run_token: uuid.UUID


def lock_head() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).queued().order_by("position").first()


def lock_running() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).running().first()


def run_of(batch_id: object, run_token: object) -> QuerySet[Batch]:
    """The batch, as long as this run of it goes on."""
    pk, token = as_uuid(batch_id), as_uuid(run_token)
    if pk is None or token is None:  # a started batch that nobody claimed has no token: it is nobody's
        return Batch.objects.none()
    return Batch.objects.running().filter(pk=pk, run_token=token)


def renew_lease(batch_id: object, run_token: object) -> None:
    """The fence: one conditional write that only the current run's worker can make."""
    if not run_of(batch_id, run_token).update(lease_at=Now(), run_seconds=run_seconds()):
        raise fenced()


def is_owned(batch: Batch) -> bool:
    """Whether its worker showed itself within the lease, by the database's clock.

    A sign of life too far in the future is no better than one too long ago: a clock went back.
    """
    lease = timedelta(seconds=get_config().lease_seconds)
    return Batch.objects.filter(pk=batch.pk, lease_at__range=(Now() - lease, Now() + lease)).exists()


def run_seconds() -> Combinable:
    """The time at work so far, grown by what passed since the last sign of life: at most a lease, since a worker that
    was silent for longer was not at work."""
    return F("run_seconds") + SecondsSince("lease_at", at_most=get_config().lease_seconds)
