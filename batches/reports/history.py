"""The checks of one profile over all batches, with what each found. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import DateTimeField, F, QuerySet
from django.db.models.functions import Coalesce

from batches.models import Attempt, Batch, BatchProfile, Profile, StoryResult

#: New stories that are looked through for those of the checks.
LATEST_STORIES = 200


@dataclass(frozen=True, slots=True)
class Check:
    """A check that a batch has made of the profile. `is_earlier`: the batch has checked it again since."""

    batch_id: UUID
    batch: Batch
    is_earlier: bool
    status: str
    error: str
    http_status: int | None
    duration: float | None
    has_story: bool
    checked_at: datetime
    stories: list[StoryResult] = field(default_factory=list)

    @property
    def label(self) -> str:
        return str(BatchProfile.Status(self.status).label)

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in Attempt.RESULT}
        return {"batch": self.batch_id, "batch_name": self.batch.name} | values | {"is_earlier": self.is_earlier}


def fetch_history(profile: Profile, limit: int) -> list[Check]:
    """The latest checks, newest first, in three queries."""
    rows = _fetch(BatchProfile.objects.filter(profile=profile), limit)
    attempts = _fetch(Attempt.objects.filter(profile=profile), limit)
    checks = [*_as_checks(rows, is_earlier=False), *_as_checks(attempts, is_earlier=True)]
    checks.sort(key=lambda check: check.checked_at, reverse=True)
    del checks[limit:]
    _add_stories(profile, checks)
    return checks


def _fetch(found: QuerySet[Any], limit: int) -> Iterable[Any]:
    """The latest ones. Sorted by an expression: along the primary key, PostgreSQL would read the rows of all profiles.

    A deleted batch is hidden, and its rows are on their way out.
    """
    moment = Coalesce("checked_at", F("checked_at"), output_field=DateTimeField())
    shown = found.filter(batch__deleted_at=None, checked_at__isnull=False).select_related("batch")
    return shown.only("batch__name", *Attempt.RESULT).order_by(moment.desc(), "-pk")[:limit]


def find_waiting(profile: Profile) -> QuerySet[Batch]:
    """The batches that have still to check it, in the order of the queue."""
    waiting = BatchProfile.objects.filter(profile=profile, status=BatchProfile.Status.PENDING)
    return Batch.objects.filter(pk__in=waiting.values("batch")).in_queue_order()


def _as_checks(found: Iterable[Any], *, is_earlier: bool) -> list[Check]:
    return [
        Check(row.batch_id, row.batch, is_earlier, *(getattr(row, name) for name in Attempt.RESULT)) for row in found
    ]


def _add_stories(profile: Profile, checks: list[Check]) -> None:
    """To the check that found them, which was recorded at the same moment; else to the latest one of their batch."""
    latest: dict[UUID | None, Check] = {check.batch_id: check for check in reversed(checks)}
    exact: dict[Any, Check] = {(check.batch_id, check.checked_at): check for check in checks}
    new = StoryResult.objects.new().filter(profile=profile).newest_first().select_related(None)
    for story in new[:LATEST_STORIES]:
        check = exact.get((story.batch_id, story.found_at)) or latest.get(story.batch_id)
        if check is not None:
            check.stories.append(story)
