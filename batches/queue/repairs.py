"""Repairs of damaged data: finds the correct values, and rows that refer to nothing."""

from collections.abc import Mapping
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from batches.models import (
    COUNTER_AGGREGATES,
    DETOUR,
    Attempt,
    Batch,
    BatchLog,
    BatchProfile,
    Lease,
    ListProfile,
    Partition,
    Profile,
    ProfileList,
    StoryResult,
    is_live,
)

from .partitions import note_under_way
from .sql import BATCH, execute

Status = Batch.Status


def find_orphans() -> list[QuerySet[Any]]:
    """Rows that refer to a missing batch, list or profile, in a damaged or manually edited database."""
    no_batch = ~Exists(Batch.everything.filter(pk=OuterRef("batch_id")))
    no_profile = ~Exists(Profile.objects.filter(pk=OuterRef("profile_id")))
    no_list = ~Exists(ProfileList.everything.filter(pk=OuterRef("list_id")))
    return [
        Partition.objects.filter(no_batch),
        Lease.objects.filter(no_batch),
        BatchProfile.objects.filter(no_batch | no_profile),
        Attempt.objects.filter(no_batch | no_profile),
        ListProfile.everything.filter(no_list | no_profile),
        StoryResult.objects.filter((no_batch & Q(batch__isnull=False)) | no_profile),
        BatchLog.objects.filter(no_batch & Q(batch__isnull=False)),
    ]


def find_miscounted() -> QuerySet[Any]:
    """Lists with a wrong `total_profiles`. `members` has the correct number."""
    members = ListProfile.objects.filter(list=OuterRef("pk")).order_by().values("list")
    count = Coalesce(Subquery(members.annotate(count=Count("pk")).values("count")), 0)
    return ProfileList.objects.annotate(members=count).exclude(total_profiles=F("members"))


def absorb_leases(batch: Batch) -> dict[str, Any]:
    """The sums of the batch and its leases, for its row. The leases restart from zero."""
    batch.leases.update(run_seconds=0.0, successful_checks=0, failed_checks=0, stories_found=0)
    return {field.attname: getattr(batch, field.attname) for field in Batch._meta.concrete_fields if is_live(field)}


def drop_leases(batch: Batch) -> None:
    note_under_way(batch.leases.values("pk", "worker", "lease_at"))
    batch.partitions.all().delete()
    batch.leases.all().delete()


def describe_repairs(repairs: Mapping[str, Any], has_stray_leases: bool) -> str:
    """For the log."""
    done = ["ended its leases"] if has_stray_leases else []
    done += ["set " + ", ".join(sorted(repairs))] if repairs else []
    return "; ".join(done) or "the log did not record this status"


def derive_repairs(batch: Batch) -> dict[str, Any]:
    """The fields that contradict the status or the rows of the batch, with their correct values."""
    wanted = _derive_from_status(batch)
    if batch.reset_after is None and batch.has_rows:
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
        wanted |= {"status": Status.PAUSED, "position": None}
    else:
        wanted["position"] = 0
    return wanted


def renumber_queue() -> None:
    """Renumber the queued batches 1..n in the order of their positions. This takes two steps, see `DETOUR`."""
    execute(
        f"""UPDATE {BATCH} AS batch SET position = numbered.number + %s
              FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY position) AS number
                      FROM {BATCH} WHERE position >= 1) AS numbered
             WHERE batch.id = numbered.id""",
        [DETOUR],
    )
    Batch.objects.end_detour()
