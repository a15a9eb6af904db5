"""Queries shared by the admin, the API and the commands. Reads only."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from random import randrange
from typing import Any

from django.db import connection
from django.db.models import Count, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now

from batches.checking.checkers.base import ProfileToCheck
from batches.checking.checkers.client import NO_CONNECTION, TOO_LATE
from batches.lists.addresses import address_prefixes
from batches.lists.domains import domain_of
from batches.lists.exports import COLUMNS, MEMBER_COLUMNS, PROFILE_COLUMNS, STORY_COLUMNS
from batches.models import Batch, BatchProfile, Host, ListProfile, Minute, Profile, ProfileList, StoryResult
from batches.models.profiles import StoryResultQuerySet

#: Rows per query when the rows of a batch are streamed.
STREAM_CHUNK = 2000
#: Random places that are searched for profiles that answer: a table without any costs no more.
PLACES, ROWS_AT_A_PLACE = 10, 200


def find_first_ahead(batch: Batch) -> Batch | None:
    """The running batch, or else the first waiting one, if it is ahead of this batch."""
    return Batch.objects.filter(position__lt=batch.position).exclude(pk=batch.pk).order_by("position").first()


def count_failure_reasons(batch: Batch, limit: int | None = None) -> list[tuple[str, int]]:
    """(reason, count) of the failed profiles of a batch, most frequent first, at most `limit` reasons."""
    if not batch.failed_checks:  # no index finds the failed ones, see `BatchProfile`
        return []
    failed = batch.profiles.filter(status=BatchProfile.Status.FAILED)
    return list(failed.values_list("error").annotate(count=Count("pk")).order_by("-count", "error")[:limit])


def has_lost_all(batch: Batch) -> bool:
    """Whether every profile of the batch has failed because there was no connection to its host."""
    if not 0 < batch.total_profiles == batch.failed_checks:
        return False
    is_lost = Q(error__in=NO_CONNECTION) | Q(error__startswith=TOO_LATE)
    return not batch.profiles.exclude(is_lost, http_status=None).exists()


def match_host(field: str, host: str) -> Q:
    """Condition: the normalised address in `field` is at this host. Raises InvalidAddress."""
    return Q(*(starts_with(field, prefix) for prefix in address_prefixes(host)), _connector=Q.OR)


def starts_with(field: str, prefix: str) -> Q:
    """A prefix condition that can use the index of the addresses."""
    if connection.vendor != "sqlite":
        return Q(**{f"{field}__startswith": prefix})
    # SQLite cannot use an index for LIKE. PostgreSQL cannot use a range: its collation does not order by bytes.
    return Q(**{f"{field}__gte": prefix, f"{field}__lt": prefix[:-1] + chr(ord(prefix[-1]) + 1)})


def count_checks_per_minute(batch: Batch) -> list[tuple[datetime, int, int]]:
    """(minute, ok, failed) for each minute with checks, in order."""
    minutes = batch.profiles.filter(checked_at__isnull=False).annotate(minute=Minute("checked_at")).values("minute")
    failed = Count("pk", filter=Q(status=BatchProfile.Status.FAILED))
    rows = minutes.annotate(checked=Count("pk"), failed=failed).order_by("minute")
    return [(row["minute"], row["checked"] - row["failed"], row["failed"]) for row in rows]


#: The fields of `ProfileToCheck` after its ID, in its order.
CHECKED_COLUMNS = ("url", "feed_url", "etag", "last_modified", "fingerprint")


def fetch_pending(
    batch: Batch, partitions: Collection[int], last_id: int, limit: int
) -> list[tuple[int, int, ProfileToCheck]]:
    """(row ID, partition, profile) of the next `limit` pending rows of these partitions after the row `last_id`."""
    pending = BatchProfile.objects.of_batch(batch).filter(status=BatchProfile.Status.PENDING)
    rows = pending.filter(pk__gt=last_id, partition__in=sorted(partitions)).order_by("pk")
    columns = ("pk", "partition", "profile_id", *(f"profile__{name}" for name in CHECKED_COLUMNS))
    return [(row_id, number, ProfileToCheck(*values)) for row_id, number, *values in rows.values_list(*columns)[:limit]]


#: How many stories a feed has, at most.
FEED_STORIES = 100
#: In a list with at most FEW_PROFILES, the latest story of each profile is looked up. For a longer one, the
#: LATEST_STORIES of all lists are searched: they soon contain enough of its own.
FEW_PROFILES = 5_000
LATEST_STORIES = 50_000


def fetch_new_stories(found: ProfileList) -> list[StoryResult]:
    """The latest new stories of the profiles that are in the list now, whichever batch found them."""
    members = ListProfile.everything.of_list(found).order_by()
    new = StoryResult.objects.new()
    if found.total_profiles > FEW_PROFILES:
        return _search_latest(new, members)
    latest = Subquery(new.filter(profile=OuterRef("profile")).order_by("-pk").values("pk")[:1])
    rows = members.annotate(latest=latest).order_by(F("latest").desc(nulls_last=True))
    profiles = {pk: story for pk, story in rows.values_list("profile", "latest")[:FEED_STORIES] if story}
    if len(profiles) == FEED_STORIES:  # each has one story at least from here on
        new = new.filter(pk__gte=min(profiles.values()))
    return list(new.filter(profile__in=profiles).newest_first()[:FEED_STORIES])


def _search_latest(new: StoryResultQuerySet, members: QuerySet[ListProfile]) -> list[StoryResult]:
    oldest = (StoryResult.objects.aggregate(latest=Max("pk"))["latest"] or 0) - LATEST_STORIES
    # Not `Exists`, which PostgreSQL may turn into a join with all profiles of the list.
    membership = Subquery(members.filter(profile=OuterRef("profile")).values("pk")[:1])
    own = new.filter(pk__gt=oldest).alias(membership=membership).filter(membership__isnull=False)
    return list(own.newest_first()[:FEED_STORIES])


def sample_answering(count: int) -> list[str]:
    """At most `count` addresses of profiles that answered last time, at different domains, from random places."""
    last = Profile.objects.aggregate(last=Max("pk"))["last"] or 0
    resting = set(Host.objects.filter(not_before__gt=Now()).values_list("name", flat=True))
    found: dict[str, str] = {}
    for place in [*(randrange(last + 1) for _ in range(PLACES)), 0]:  # noqa: S311 — no secret
        rows = Profile.objects.filter(pk__gte=place).order_by("pk")[:ROWS_AT_A_PLACE]
        for url, feed_url, error, checked_at in rows.values_list("url", "feed_url", "last_error", "last_checked_at"):
            domain = domain_of(feed_url or url)
            if checked_at and not error and domain not in resting:
                found.setdefault(domain, feed_url or url)
            if len(found) == count:
                return list(found.values())
    return list(found.values())


def find_start_of_outage(batch: Batch, noticed_at: datetime) -> datetime:
    """When a check of this batch was last answered, or when the run began. Reads all rows of the batch."""
    answered = batch.profiles.filter(Q(status=BatchProfile.Status.OK) | Q(http_status__isnull=False))
    latest = answered.aggregate(latest=Max("checked_at"))["latest"] or batch.started_at
    return min(noticed_at, latest or noticed_at)


def stream_rows(rows: QuerySet[BatchProfile]) -> Iterator[Any]:
    """The columns of the exports of these rows in import order, in constant memory."""
    return _stream(rows.annotate(**{name: F(f"profile__{name}") for name in ("url", "name", "feed_url")}), COLUMNS)


def stream_members(rows: QuerySet[ListProfile]) -> Iterator[Any]:
    """The columns of the exports of these profiles of a list in its order, in constant memory."""
    return _stream(rows.annotate(**{name: F(f"profile__{name}") for name in MEMBER_COLUMNS}), MEMBER_COLUMNS)


def stream_profiles(profiles: QuerySet[Profile]) -> Iterator[Any]:
    """The columns of the exports of these profiles in the order in which they were added, in constant memory."""
    return _stream(profiles, PROFILE_COLUMNS)


def stream_stories(stories: QuerySet[StoryResult]) -> Iterator[Any]:
    """The columns of the exports of these stories in the order in which they were found, in constant memory."""
    return _stream(stories.annotate(profile_url=F("profile__url"), profile_name=F("profile__name")), STORY_COLUMNS)


def _stream(rows: QuerySet[Any], columns: Sequence[str]) -> Iterator[Any]:
    """Keyset pagination: equally fast at any depth, and no transaction stays open."""
    ordered = rows.order_by("pk").values_list("pk", *columns, named=True)
    last_id = 0
    while page := list(ordered.filter(pk__gt=last_id)[:STREAM_CHUNK]):
        yield from page
        last_id = page[-1].pk
