"""Queries shared by the admin, the API and the commands. Reads only."""

from datetime import datetime

from django.db import connection
from django.db.models import Count, Q

from batches.checking.checkers.base import NO_CONNECTION, TOO_LATE
from batches.lists.addresses import address_prefixes
from batches.models import Batch, BatchProfile, Minute


def find_first_ahead(batch: Batch) -> Batch | None:
    """The running batch, or the first waiting batch, if it is ahead of this batch."""
    return Batch.objects.filter(position__lt=batch.position).exclude(pk=batch.pk).order_by("position").first()


def count_failure_reasons(batch: Batch, limit: int | None = None) -> list[tuple[str, int]]:
    """(reason, count) of the failed profiles of a batch, most frequent first, at most `limit` reasons."""
    if not batch.failed_checks:  # no index contains the status, see `BatchProfile`
        return []
    failed = batch.profiles.filter(status=BatchProfile.Status.FAILED)
    return list(failed.values_list("error").annotate(count=Count("pk")).order_by("-count", "error")[:limit])


def has_lost_all(batch: Batch) -> bool:
    """Whether every profile of the batch has failed to connect to its host."""
    if not 0 < batch.total_profiles == batch.failed_checks:
        return False
    is_lost = Q(error__in=NO_CONNECTION) | Q(error__startswith=TOO_LATE)
    return not BatchProfile.objects.of_batch(batch).exclude(is_lost, http_status=None).exists()


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
