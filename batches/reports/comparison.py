"""A repeated batch beside the one before it: what is new, what broke, what came back. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, TextChoices, Value
from django.db.models.functions import Coalesce

from batches.models import Batch, BatchProfile

Status = BatchProfile.Status


class Change(TextChoices):
    """What became of a profile since the batch before."""

    NEWLY_FAILING = "newly_failing", "newly failing"  # was ok, now fails
    RECOVERED = "recovered", "recovered"  # failed, is ok now
    UNCHANGED = "unchanged", "unchanged"  # ok both times, or failed both times
    NOT_COMPARED = "not_compared", "not compared"  # one of the two has no result for it


#: (before, now) of a profile that has a result in both batches.
CHANGES = {
    (Status.OK, Status.FAILED): Change.NEWLY_FAILING,
    (Status.FAILED, Status.OK): Change.RECOVERED,
    (Status.OK, Status.OK): Change.UNCHANGED,
    (Status.FAILED, Status.FAILED): Change.UNCHANGED,
}

# The same for the database. Each names `before` once: that is how often the row of the other batch is looked up.
CONDITIONS = {
    Change.NEWLY_FAILING: Q(status=Status.FAILED, before=Status.OK),
    Change.RECOVERED: Q(status=Status.OK, before=Status.FAILED),
    Change.UNCHANGED: Q(status__in=[Status.OK, Status.FAILED], before=F("status")),
    Change.NOT_COMPARED: Q(status=Status.PENDING) | Q(before=Status.PENDING),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many profiles of a batch changed how since `previous`, and how many stories are new since then."""

    previous: Batch
    stories: int
    newly_failing: int
    recovered: int
    unchanged: int
    not_compared: int


def compare(batch: Batch) -> Comparison | None:
    """The batch against the one that it repeats; None where it repeats none, or one that is deleted."""
    previous = previous_of(batch)
    if previous is None:
        return None
    # One look at each pair of rows; an aggregate with a filter for each change looks four times as often.
    pairs = _with_before(batch.profiles.all(), previous).values_list("before", "status").annotate(count=Count("pk"))
    counts = dict.fromkeys(Change, 0)
    for before, now, count in pairs.order_by():
        counts[CHANGES.get((before, now), Change.NOT_COMPARED)] += count
    return Comparison(previous, batch.stories_found, **{change.value: count for change, count in counts.items()})


def rows_with(batch: Batch, change: Change) -> QuerySet[BatchProfile]:
    """The rows of a batch that changed so since the one before; none where there is none before."""
    return with_change(batch.profiles.all(), previous_of(batch), change)


def with_change(rows: QuerySet[BatchProfile], previous: Batch | None, change: Change) -> QuerySet[BatchProfile]:
    """Those of the rows that changed so since the batch `previous`; none where there is none."""
    return rows.none() if previous is None else _with_before(rows, previous).filter(CONDITIONS[change])


def previous_of(batch: Batch) -> Batch | None:
    return Batch.objects.filter(pk=batch.previous_id).first() if batch.previous_id else None


def _with_before(rows: QuerySet[BatchProfile], previous: Batch) -> QuerySet[Any]:
    """With `before`: the status in the other batch, `pending` also where it has no row of the profile."""
    before = BatchProfile.objects.filter(profile=OuterRef("profile"), batch=previous)
    return rows.annotate(before=Coalesce(Subquery(before.values("status")[:1]), Value(Status.PENDING.value)))
