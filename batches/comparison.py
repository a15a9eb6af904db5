"""A repeated batch beside the one before it: what is new, what broke, what came back. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, TextChoices

from .models import Batch, BatchProfile

Status = BatchProfile.Status


class Change(TextChoices):
    """What became of a profile since the batch before."""

    NEWLY_FAILING = "newly_failing"  # was ok, now fails
    RECOVERED = "recovered"  # failed, is ok now
    UNCHANGED = "unchanged"  # ok both times, or failed both times
    NOT_COMPARED = "not_compared"  # one of the two has no result for it


CONDITIONS = {
    Change.NEWLY_FAILING: Q(status=Status.FAILED, before=Status.OK),
    Change.RECOVERED: Q(status=Status.OK, before=Status.FAILED),
    Change.UNCHANGED: Q(status=Status.OK, before=Status.OK) | Q(status=Status.FAILED, before=Status.FAILED),
    Change.NOT_COMPARED: Q(status=Status.PENDING) | Q(before=Status.PENDING) | Q(before=None),
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
    counts = {change.value: Count("pk", filter=condition) for change, condition in CONDITIONS.items()}
    return Comparison(previous, batch.stories_found, **_with_before(batch, previous).aggregate(**counts))


def rows_with(batch: Batch, change: Change) -> QuerySet[BatchProfile]:
    """The rows of a batch that changed so since the one before; none where there is none before."""
    previous = previous_of(batch)
    if previous is None:
        return BatchProfile.objects.none()
    return _with_before(batch, previous).filter(CONDITIONS[change])


def previous_of(batch: Batch) -> Batch | None:
    return Batch.objects.filter(pk=batch.previous_id).first() if batch.previous_id else None


def _with_before(batch: Batch, previous: Batch) -> QuerySet[BatchProfile]:
    before = BatchProfile.objects.filter(profile=OuterRef("profile"), batch=previous)
    return batch.profiles.annotate(before=Subquery(before.values("status")[:1]))
