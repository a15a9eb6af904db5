"""Runs and leases: which worker owns the running batch, and for how long without a heartbeat."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import F, QuerySet
from django.db.models.expressions import Combinable
from django.db.models.functions import Now

from batches.conf import get_config
from batches.models import Batch, SecondsSince

from .refusals import Fenced
from .values import as_uuid


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that its claimer owns while it renews the lease."""

    batch: Batch
    run_token: uuid.UUID


def lock_head() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).queued().order_by("position").first()


def lock_running() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).running().first()


def run_of(batch_id: object, run_token: object) -> QuerySet[Batch]:
    """The batch, if this run of it is still going on; else none."""
    pk, token = as_uuid(batch_id), as_uuid(run_token)
    if pk is None or token is None:  # a started batch that nobody has claimed yet has no token
        return Batch.objects.none()
    return Batch.objects.running().filter(pk=pk, run_token=token)


def renew_lease(batch_id: object, run_token: object) -> None:
    """The fence: a conditional write that fails for every run but the current one."""
    if not run_of(batch_id, run_token).update(lease_at=Now(), run_seconds=run_seconds()):
        raise Fenced


def is_owned(batch: Batch) -> bool:
    """Whether its worker sent a heartbeat within the lease, by the database's clock.

    A heartbeat too far in the future does not count either: a clock was set back.
    """
    lease = timedelta(seconds=get_config().lease_seconds)
    return Batch.objects.filter(pk=batch.pk, lease_at__range=(Now() - lease, Now() + lease)).exists()


def run_seconds() -> Combinable:
    """The run time including the time since the last heartbeat, at most one lease: after that the worker was gone."""
    return F("run_seconds") + SecondsSince("lease_at", at_most=get_config().lease_seconds)
