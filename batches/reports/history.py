"""The checks of one profile over all batches, with what each found. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import DateTimeField, F, QuerySet
from django.db.models.functions import Coalesce

from batches.models import Attempt, Batch, BatchProfile, Profile, StoryResult

#: New stories that are looked through for those of the checks.
LATEST_STORIES = 200
#: For the checks that are still to be made.
LATER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Check:
    """A check that a batch has made of the profile, or will make. `is_earlier`: the batch checked it again since."""

    batch_id: UUID
    batch: Batch
    is_earlier: bool
    status: str
    error: str
    http_status: int | None
    duration: float | None
    has_story: bool
    checked_at: datetime | None
    stories: list[StoryResult] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in Attempt.RESULT}
        return {"batch": self.batch_id, "batch_name": self.batch.name} | values | {"is_earlier": self.is_earlier}


def fetch_history(profile: Profile, limit: int) -> list[Check]:
    """The latest checks, newest first, in four queries. Those that are still to be made come before all others."""
    rows = _fetch(BatchProfile.objects.filter(profile=profile), limit)
    attempts = _fetch(Attempt.objects.filter(profile=profile), limit)
    checks = [*_as_checks(rows, is_earlier=False), *_as_checks(attempts, is_earlier=True)]
    checks.sort(key=lambda check: check.checked_at or LATER, reverse=True)
    del checks[limit:]
    _add_stories(profile, checks)
    return checks


def _fetch(found: QuerySet[Any], limit: int) -> Iterable[Any]:
    """The latest ones. Sorted by an expression: along the primary key, PostgreSQL would read the rows of all profiles.

    A deleted batch is hidden, and its rows are on their way out.
    """
    moment = Coalesce("checked_at", F("checked_at"), output_field=DateTimeField())
    newest_first = (moment.desc(nulls_first=True), "-pk")
    names = ("batch__name", "batch__status", *Attempt.RESULT)
    return found.filter(batch__deleted_at=None).select_related("batch").only(*names).order_by(*newest_first)[:limit]


def _as_checks(found: Iterable[Any], *, is_earlier: bool) -> list[Check]:
    return [
        Check(row.batch_id, row.batch, is_earlier, *(getattr(row, name) for name in Attempt.RESULT)) for row in found
    ]


def _add_stories(profile: Profile, checks: list[Check]) -> None:
    """To the check that found them, which was recorded at the same moment; else to the latest one of their batch."""
    latest = {check.batch_id: check for check in reversed(checks)}
    exact = {(check.batch_id, check.checked_at): check for check in checks}
    new = StoryResult.objects.new().filter(profile=profile).newest_first().select_related(None)
    for story in new[:LATEST_STORIES]:
        check = exact.get((story.batch_id, story.found_at)) if story.batch_id else None
        check = check or (latest.get(story.batch_id) if story.batch_id else None)
        if check is not None:
            check.stories.append(story)
