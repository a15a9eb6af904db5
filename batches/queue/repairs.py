"""Repairs of damaged data: what the correct values are, and where rows refer to nothing."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from batches.models import COUNTER_AGGREGATES, DETOUR, Batch, BatchLog, BatchProfile, Profile, StoryResult

from .sql import BATCH, execute

Status = Batch.Status


def find_orphans() -> list[QuerySet[Any]]:
    """Rows whose batch or profile does not exist. Only possible in a database that was damaged or edited by hand."""
    no_batch = ~Exists(Batch.everything.filter(pk=OuterRef("batch_id")))
    no_profile = ~Exists(Profile.objects.filter(pk=OuterRef("profile_id")))
    return [
        BatchProfile.objects.filter(no_batch | no_profile),
        StoryResult.objects.filter((no_batch & Q(batch__isnull=False)) | no_profile),
        BatchLog.objects.filter(no_batch & Q(batch__isnull=False)),
    ]


def derive_repairs(batch: Batch) -> dict[str, Any]:
    """The fields that contradict the status or the rows of the batch, with their correct values."""
    wanted = _derive_from_status(batch)
    if batch.reset_after is None and batch.profiles.exists():
        wanted |= batch.profiles.aggregate(**COUNTER_AGGREGATES)
    return {field: value for field, value in wanted.items() if value != getattr(batch, field)}


def _derive_from_status(batch: Batch) -> dict[str, Any]:
    is_done, has_error = batch.status == Status.DONE, batch.status == Status.ERROR
    wanted: dict[str, Any] = {
        "completed_at": (batch.completed_at or timezone.now()) if is_done else None,
        "error": (batch.error or "Stopped without an error message.") if has_error else "",
    }
    if batch.status == Status.QUEUED:
        wanted |= {} if (batch.position or 0) >= 1 else {"position": Batch.objects.make_room(batch.priority)}
    elif batch.status != Status.RUNNING:
        wanted["position"] = None
    elif Batch.objects.running().exclude(pk=batch.pk).exists():
        wanted |= {"status": Status.PAUSED, "position": None, "run_token": None, "worker": None, "lease_at": None}
    else:
        wanted["position"] = 0
    if batch.status != Status.RUNNING:
        wanted |= {"run_token": None, "worker": None, "lease_at": None}
    return wanted


def renumber_queue() -> None:
    """Renumber the queued batches 1..n in the order of their positions. In two steps, see `DETOUR`."""
    execute(
        f"""UPDATE {BATCH} AS batch SET position = numbered.number + %s
              FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY position) AS number
                      FROM {BATCH} WHERE position >= 1) AS numbered
             WHERE batch.id = numbered.id""",
        [DETOUR],
    )
    execute(f"UPDATE {BATCH} SET position = position - %s WHERE position > %s", [DETOUR, DETOUR])
