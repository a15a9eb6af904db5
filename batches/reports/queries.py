"""What the queue looks like now, for the admin, the API and the commands alike. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Count, Q, QuerySet

from batches.checking.checkers.base import ProfileToCheck
from batches.lists.addresses import address_prefixes
from batches.models import Batch, BatchLog, BatchProfile, Minute, Queue, StoryResult

#: Rows read at once where a batch's rows are streamed.
STREAM_CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is. `rate` in profiles per second and `seconds_left` are None where nothing is known yet."""

    total: int
    completed: int
    successful: int
    failed: int
    stories: int
    rate: float | None
    seconds_left: float | None

    @property
    def percent(self) -> int:
        """Whole percents; 100 only when everything is checked."""
        return 100 * self.completed // self.total if self.total else 0


def progress(batch: Batch) -> Progress:
    rate = batch.completed_profiles / batch.run_seconds if batch.completed_profiles and batch.run_seconds > 0 else None
    left = batch.total_profiles - batch.completed_profiles
    return Progress(
        total=batch.total_profiles,
        completed=batch.completed_profiles,
        successful=batch.successful_checks,
        failed=batch.failed_checks,
        stories=batch.stories_found,
        rate=rate,
        seconds_left=left / rate if rate else None,
    )


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queue at one moment: who runs, who waits in which order, and whether it is held."""

    queue: Queue
    running: Batch | None
    waiting: QuerySet[Batch]


def queue_state() -> QueueState:
    return QueueState(
        queue=Queue.objects.first() or Queue(),
        running=Batch.objects.running().first(),
        waiting=Batch.objects.queued().order_by("position"),
    )


def first_ahead(batch: Batch) -> Batch | None:
    """The running batch, or else the first waiting one, where it goes before this one."""
    return Batch.objects.filter(position__lt=batch.position).exclude(pk=batch.pk).order_by("position").first()


def failure_reasons(batch: Batch, limit: int | None = None) -> list[tuple[str, int]]:
    """The (reason, count) of a batch's failed profiles, most frequent first, at most `limit` of them."""
    failed = batch.profiles.filter(status=BatchProfile.Status.FAILED)
    return list(failed.values_list("error").annotate(count=Count("pk")).order_by("-count", "error")[:limit])


def ended_before(moment: datetime, *, with_errors: bool = True) -> QuerySet[Batch]:
    """The batches that were done, or stopped by an error, before a moment; the longest ago first.

    One in error counts from the start of its last run, which was not after its error.
    """
    done = Q(status=Batch.Status.DONE, completed_at__lt=moment)
    in_error = Q(status=Batch.Status.ERROR) & (Q(started_at__lt=moment) | Q(started_at=None, created_at__lt=moment))
    return Batch.objects.filter(done | in_error if with_errors else done).order_by("created_at", "pk")


def at_host(field: str, host: str) -> Q:
    """That the normalised address in `field` is at a host, as `address_prefixes` has it. Raises InvalidAddress."""
    return Q(*(_begins_with(field, beginning) for beginning in address_prefixes(host)), _connector=Q.OR)


def _begins_with(field: str, beginning: str) -> Q:
    """A condition for which the index of the addresses is used."""
    if connection.vendor != "sqlite":
        return Q(**{f"{field}__startswith": beginning})
    # SQLite has no index for LIKE; elsewhere a range would follow a language's order of letters, not that of the bytes.
    return Q(**{f"{field}__gte": beginning, f"{field}__lt": beginning[:-1] + chr(ord(beginning[-1]) + 1)})


def checks_per_minute(batch: Batch) -> list[tuple[datetime, int, int]]:
    """The (minute, ok, failed) of each minute in which profiles of the batch were checked, from first to last."""
    minutes = batch.profiles.filter(checked_at__isnull=False).annotate(minute=Minute("checked_at")).values("minute")
    failed = Count("pk", filter=Q(status=BatchProfile.Status.FAILED))
    counted = minutes.annotate(checked=Count("pk"), failed=failed).order_by("minute")
    return [(row["minute"], row["checked"] - row["failed"], row["failed"]) for row in counted]


def new_stories(batch: Batch) -> QuerySet[StoryResult]:
    """The stories that this batch was the first to see, newest find first."""
    return batch.story_results.select_related("profile").order_by("-pk")


def logs(batch: Batch) -> QuerySet[BatchLog]:
    """What happened to a batch, newest first."""
    return batch.logs.order_by("-pk")


class Row(NamedTuple):
    """One profile of a batch with its result, and what its profile remembers."""

    id: int
    profile_id: int
    status: str
    error: str
    http_status: int | None
    duration: float | None
    has_story: bool
    checked_at: datetime | None
    url: str
    name: str
    feed_url: str
    etag: str
    last_modified: str


#: Where each field of a `Row` stands.
ROW_COLUMNS = [f"profile__{name}" if name in Row._fields[8:] else name for name in Row._fields]


class FoundStory(NamedTuple):
    """A story with the profile that showed it."""

    id: int
    found_at: datetime
    published_at: datetime | None
    title: str
    url: str
    story_id: str
    profile_url: str
    profile_name: str


STORY_COLUMNS = [name.replace("profile_", "profile__") for name in FoundStory._fields]


#: What a checker is told of a profile, in the order of `ProfileToCheck`.
REMEMBERED = ("url", "feed_url", "etag", "last_modified", "fingerprint")


def pending_after(batch: Batch, last_id: int, limit: int) -> list[tuple[int, ProfileToCheck]]:
    """The next `limit` profiles to check behind the row `last_id`, each with its row's id."""
    rows = batch.profiles.filter(pk__gt=last_id, status=BatchProfile.Status.PENDING).order_by("pk")
    columns = ("pk", "profile_id", *(f"profile__{name}" for name in REMEMBERED))
    return [(row_id, ProfileToCheck(*values)) for row_id, *values in rows.values_list(*columns)[:limit]]


def all_rows(batch: Batch) -> Iterator[Row]:
    """Every row of a batch in the order of its import, with memory that does not grow with the batch."""
    return stream_rows(batch.profiles.all())


def stream_rows(rows: QuerySet[BatchProfile]) -> Iterator[Row]:
    """These rows in the order of their import."""
    return starmap(Row, _stream(rows, ROW_COLUMNS))


def stream_stories(stories: QuerySet[StoryResult]) -> Iterator[FoundStory]:
    """These stories in the order in which they were found."""
    return starmap(FoundStory, _stream(stories, STORY_COLUMNS))


def _stream(rows: QuerySet[Any], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The columns of each row, of which the first is the key, page by page behind the last key: as fast at any depth,
    and no transaction stays open meanwhile."""
    ordered = rows.order_by("pk").values_list(*columns)
    last_id = 0
    while page := list(ordered.filter(pk__gt=last_id)[:STREAM_CHUNK]):
        yield from page
        last_id = page[-1][0]
