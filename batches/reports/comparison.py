"""Compares a repeated batch with its previous run: new stories, new failures, recoveries. Reads only."""

from dataclasses import dataclass

from django.db import connection
from django.db.models import F, Field, Func, OuterRef, Q, QuerySet, Subquery, TextChoices, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import GreaterThanOrEqual, LessThanOrEqual
from django.utils.translation import gettext_lazy as _

from batches.models import Batch, BatchProfile
from batches.queue.sql import ROW, fetch_all, postgresql_setting, uuid_parameter

Status = BatchProfile.Status


class Change(TextChoices):
    """The change of a profile's result since the previous batch."""

    NEWLY_FAILING = "newly_failing", _("newly failing")  # was ok, now fails
    RECOVERED = "recovered", _("recovered")  # failed, is ok now
    UNCHANGED = "unchanged", _("unchanged")  # ok both times, or failed both times
    NOT_COMPARED = "not_compared", _("not compared")  # at least one of the two batches has no result


#: By (before, now), for a profile with a result in both batches.
CHANGES = {
    (Status.OK, Status.FAILED): Change.NEWLY_FAILING,
    (Status.FAILED, Status.OK): Change.RECOVERED,
    (Status.OK, Status.OK): Change.UNCHANGED,
    (Status.FAILED, Status.FAILED): Change.UNCHANGED,
}

# The same as conditions for the database. Each uses `before` once, since each use is a lookup of the previous row.
NO_RESULT = [Status.PENDING, Status.SKIPPED]
CONDITIONS = {
    Change.NEWLY_FAILING: Q(status=Status.FAILED, before=Status.OK),
    Change.RECOVERED: Q(status=Status.OK, before=Status.FAILED),
    Change.UNCHANGED: Q(status__in=[Status.OK, Status.FAILED], before=F("status")),
    Change.NOT_COMPARED: Q(status__in=NO_RESULT) | Q(before__in=NO_RESULT),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Number of profiles by change since `previous`, and number of new stories."""

    previous: Batch
    stories: int
    newly_failing: int
    recovered: int
    unchanged: int
    not_compared: int


class Pair(Func):
    """Two values as one row: (a, b)."""

    function = ""
    output_field = Field()


def compare(batch: Batch) -> Comparison | None:
    """None if the batch is not a repeat, or if the previous batch was deleted."""
    previous = find_previous(batch)
    if previous is None:
        return None
    # One join of all rows: a lookup for each takes more than 1.5 times as long. With older statistics, PostgreSQL would
    # join them in a loop, and read the whole batch for each row.
    with postgresql_setting("enable_nestloop", "off"):
        pairs = fetch_all(
            f"""SELECT before.status, now.status, COUNT(*) FROM {ROW} AS now
                  LEFT JOIN {ROW} AS before ON before.profile_id = now.profile_id AND before.batch_id = %s
                 WHERE now.batch_id = %s GROUP BY 1, 2""",
            [uuid_parameter(previous.pk), uuid_parameter(batch.pk)],
        )
    counts = dict.fromkeys(Change, 0)
    for before, now, count in pairs:
        counts[CHANGES.get((before, now), Change.NOT_COMPARED)] += count
    return Comparison(previous, batch.stories_found, **{change.value: count for change, count in counts.items()})


def filter_by_change(rows: QuerySet[BatchProfile], previous: Batch | None, change: Change) -> QuerySet[BatchProfile]:
    """The rows with this change since `previous`; none without a previous batch."""
    if previous is None:
        return rows.none()
    before = BatchProfile.objects.filter(_is_in(previous), profile=OuterRef("profile")).values("status")
    pending = Value(Status.PENDING.value)  # also if that batch lacks the profile
    return rows.annotate(before=Coalesce(Subquery(before), pending)).filter(CONDITIONS[change])


def find_previous(batch: Batch) -> Batch | None:
    return Batch.objects.filter(pk=batch.previous_id).first() if batch.previous_id else None


def _is_in(batch: Batch) -> Q:
    """Condition for the one row of the profile in this batch.

    With older statistics, PostgreSQL considers the index on the batch as good, and reads the whole batch for each row:
    15 s for 20,000 rows. Only the unique index can compare the pair. A LIMIT would make it read the whole table,
    because it expects to find the first of many rows soon.
    """
    if connection.vendor == "sqlite":
        return Q(batch=batch)
    pair, wanted = Pair("profile", "batch"), Pair(OuterRef("profile"), Value(batch.pk))
    return Q(GreaterThanOrEqual(pair, wanted), LessThanOrEqual(pair, wanted))
