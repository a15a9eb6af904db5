"""What workers read: the next rows of a batch, and what shows that their own machine is offline. Reads only."""

from collections.abc import Collection
from datetime import datetime
from random import randrange

from django.db.models import Max, Q
from django.db.models.functions import Now

from batches.lists.domains import domain_of
from batches.models import Batch, BatchProfile, Host, Profile
from batches.queue.sql import fetch_at_once, reading_in_order

from .checkers.base import ProfileToCheck

#: Random places to search for profiles that answer, so that a table without any costs no more.
PLACES, ROWS_AT_A_PLACE = 10, 200
#: The fields of `ProfileToCheck` after its ID, in its order.
CHECKED_COLUMNS = ("url", "feed_url", "etag", "last_modified", "fingerprint")


def fetch_pending(
    batch: Batch, partitions: Collection[int], last_id: int, limit: int
) -> list[tuple[int, int, ProfileToCheck]]:
    """(row ID, partition, profile) of the next `limit` pending rows of these partitions after the row `last_id`."""
    pending = BatchProfile.objects.of_batch(batch).filter(status=BatchProfile.Status.PENDING)
    rows = pending.filter(pk__gt=last_id, partition__in=sorted(partitions)).order_by("pk")
    columns = ("pk", "partition", "profile_id", *(f"profile__{name}" for name in CHECKED_COLUMNS))
    with reading_in_order():
        page = sorted(fetch_at_once(*rows.values_list(*columns)[:limit].query.sql_with_params(), len(columns)))
    return [(row_id, number, ProfileToCheck(*values)) for row_id, number, *values in page]


def sample_answering(count: int) -> list[str]:
    """At most `count` addresses of profiles that answered last time, at different domains, chosen at random."""
    last = Profile.objects.aggregate(last=Max("pk"))["last"] or 0
    resting = set(Host.objects.filter(not_before__gt=Now()).values_list("name", flat=True))
    found: dict[str, str] = {}
    for place in [*(randrange(last + 1) for _ in range(PLACES)), 0]:  # noqa: S311 — not a secret
        rows = Profile.objects.filter(pk__gte=place).order_by("pk")[:ROWS_AT_A_PLACE]
        for url, feed_url, error, checked_at in rows.values_list("url", "feed_url", "last_error", "last_checked_at"):
            domain = domain_of(feed_url or url)
            if checked_at and not error and domain not in resting:
                found.setdefault(domain, feed_url or url)
            if len(found) == count:
                return list(found.values())
    return list(found.values())


def find_start_of_outage(batch: Batch, noticed_at: datetime) -> datetime:
    """The time of the last answered check of this batch, or the start of the run. Reads all rows of the batch."""
    answered = batch.profiles.filter(Q(status=BatchProfile.Status.OK) | Q(http_status__isnull=False))
    latest = answered.aggregate(latest=Max("checked_at"))["latest"] or batch.started_at
    return min(noticed_at, latest or noticed_at)
