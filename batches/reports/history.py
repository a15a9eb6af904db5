"""The checks of one profile in all batches, with the stories of each. Reads only."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import DateTimeField, F, Q, QuerySet
from django.db.models.functions import Coalesce

from batches.models import Attempt, Batch, BatchProfile, Profile, StoryResult

#: The place of a check in the history: its time, whether it was repeated since, and the key of its row.
Place = tuple[str, bool, int]

#: The number of new stories to search for stories of the checks.
LATEST_STORIES = 200


@dataclass(frozen=True, slots=True)
class Check:
    """A check that a batch has made of the profile. `is_earlier`: the batch has checked it again since."""

    pk: int
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

    @property
    def batch_name(self) -> str:
        return self.batch.name

    @property
    def place(self) -> Place:
        """Its place in the history: the latest first; at the same moment, rows of batches before earlier checks."""
        return self.checked_at.isoformat(), self.is_earlier, self.pk


def fetch_history(profile: Profile, limit: int) -> list[Check]:
    """The latest checks, newest first, with their stories, in three queries."""
    checks = fetch_checks(profile, limit)
    # A story is added to the check that found it, which was recorded at the same moment, or to the latest one of its
    # batch.
    latest: dict[UUID | None, Check] = {check.batch_id: check for check in reversed(checks)}
    exact: dict[Any, Check] = {(check.batch_id, check.checked_at): check for check in checks}
    new = StoryResult.objects.new().filter(profile=profile).newest_first().select_related(None)
    for story in new[:LATEST_STORIES]:
        check = exact.get((story.batch_id, story.found_at)) or latest.get(story.batch_id)
        if check is not None:
            check.stories.append(story)
    return checks


def fetch_checks(profile: Profile, limit: int, place: Place | None = None) -> list[Check]:
    """The latest checks, or those after a place, without their stories."""
    rows, attempts = BatchProfile.objects.filter(profile=profile), Attempt.objects.filter(profile=profile)
    if place is not None:
        rows, attempts = rows.filter(_behind(place, False)), attempts.filter(_behind(place, True))
    checks = [
        Check(row.pk, row.batch_id, row.batch, is_earlier, *(getattr(row, name) for name in Attempt.RESULT))
        for found, is_earlier in ((rows, False), (attempts, True))
        for row in _fetch(found, limit)
    ]
    checks.sort(key=lambda check: check.checked_at, reverse=True)
    return checks[:limit]


def _behind(place: Place, is_earlier: bool) -> Q:
    """The condition for the rows of batches, or for earlier checks, after the place."""
    moment, of_earlier, pk = place
    at_once = Q(checked_at=moment, pk__lt=pk) if is_earlier == of_earlier else Q(checked_at=moment)
    return Q(checked_at__lt=moment) if of_earlier and not is_earlier else Q(checked_at__lt=moment) | at_once


def _fetch(found: QuerySet[Any], limit: int) -> Iterable[Any]:
    """The latest ones. Sorted by an expression: along the primary key, PostgreSQL would read the rows of all profiles.

    The rows of hidden batches, which are being deleted, are left out.
    """
    moment = Coalesce("checked_at", F("checked_at"), output_field=DateTimeField())
    shown = found.filter(batch__deleted_at=None, checked_at__isnull=False).select_related("batch")
    return shown.only("batch__name", *Attempt.RESULT).order_by(moment.desc(), "-pk")[:limit]
