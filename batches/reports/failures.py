"""The failing profiles by reason and by host. Reads only.

The last check of a profile counts, in whichever batch: a profile that has answered since is not listed. So only the
index of failing profiles is read, however many checks a day has. The rows of a batch show its own failures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.db.models import Q, QuerySet, TextChoices
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.models import Batch, HostOf, Profile
from batches.models.profiles import ProfileQuerySet
from batches.queue.sql import fetch_all


class Period(TextChoices):
    """The day of the failed check, in the project's time zone."""

    TODAY = "today", _("today")
    YESTERDAY = "yesterday", _("yesterday")
    WEEK = "week", _("last 7 days")
    ALL = "all", _("any time")


@dataclass(frozen=True, slots=True)
class Failures:
    """The number of failing profiles, and the most frequent of their reasons and hosts."""

    total: int
    reasons: Sequence[tuple[str, int]]
    hosts: Sequence[tuple[str, int]]


def start_of_day(days_ago: int = 0) -> datetime:
    return start_of(timezone.localdate() - timedelta(days=days_ago))


def start_of(day: date) -> datetime:
    """The start of the period, in the project's time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def is_within(period: Period, field: str) -> Q:
    """Condition: the time in this field is in the period."""
    start, end = f"{field}__gte", f"{field}__lt"
    conditions: Mapping[Period, Q] = {
        Period.TODAY: Q(**{start: start_of_day()}),
        Period.YESTERDAY: Q(**{start: start_of_day(1), end: start_of_day()}),
        Period.WEEK: Q(**{start: start_of_day(6)}),
        Period.ALL: Q(),
    }
    return conditions[period]


def find_failing(period: Period) -> ProfileQuerySet:
    return Profile.objects.failing().filter(is_within(period, "last_checked_at"))


def summarise_failures(period: Period, limit: int) -> Failures:
    """Summarise with at most `limit` reasons and hosts.

    It reads each failing profile once; the ORM would read it three times.
    """
    failing, parameters = (
        find_failing(period).annotate(host=HostOf("url")).values("host", "last_error").query.sql_with_params()
    )

    def count(column: str) -> str:
        counts = (
            f"SELECT '{column}', {column}, COUNT(*) FROM failing GROUP BY {column} ORDER BY 3 DESC, 2 LIMIT {limit}"
        )
        return f"SELECT * FROM ({counts}) AS counts"

    rows = fetch_all(
        f"""WITH failing AS MATERIALIZED ({failing})
            SELECT 'total', '', COUNT(*) FROM failing UNION ALL {count("last_error")} UNION ALL {count("host")}""",
        parameters,
    )
    counted: dict[str, list[tuple[str, int]]] = {"last_error": [], "host": [], "total": []}
    for column, name, number in rows:
        counted[column].append((name, number))
    return Failures(counted["total"][0][1], counted["last_error"], counted["host"])


def find_batches_with_failures(period: Period) -> QuerySet[Batch]:
    """The batches that were done in the period, or have not ended, the most failures first."""
    ended = Q(status=Batch.Status.DONE) & is_within(period, "completed_at")
    others = Q(status__in=[Batch.Status.RUNNING, Batch.Status.PAUSED, Batch.Status.ERROR])
    others &= is_within(period, "started_at")
    return Batch.objects.filter(ended | others, failed_checks__gt=0).order_by("-failed_checks", "name", "pk")
