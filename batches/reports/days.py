"""The totals of a day, the latest finished batches, and the lists that are due next. Reads only."""

from dataclasses import dataclass, replace
from typing import Any, Self

from django.db.models import Count, OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce

from batches.models import Batch, ProfileList

from .failures import Period, is_within, start_of_day


@dataclass(frozen=True, slots=True)
class Day:
    """The sums of the batches that were done on a day. Profiles that rest count as checked, as in each batch."""

    batches: int = 0
    checked: int = 0
    failed: int = 0
    stories: int = 0

    def with_run(self, batch: Batch) -> Self:
        """The sums including the running batch."""
        return replace(
            self,
            checked=self.checked + batch.completed_profiles,
            failed=self.failed + batch.failed_checks,
            stories=self.stories + batch.stories_found,
        )


def sum_up_day(day: Period = Period.TODAY) -> Day:
    done = Batch.objects.filter(is_within(day, "completed_at"), status=Batch.Status.DONE)
    sums = {"checked": "completed_profiles", "failed": "failed_checks", "stories": "stories_found"}
    return Day(**done.aggregate(batches=Count("pk"), **{name: Sum(value, default=0) for name, value in sums.items()}))


def find_latest_runs(limit: int) -> list[Batch]:
    """The latest batches that are done."""
    return list(Batch.objects.filter(status=Batch.Status.DONE).order_by("-completed_at")[:limit])


def find_lists_due(limit: int) -> list[ProfileList]:
    """The lists that run next by their schedules."""
    return list(ProfileList.objects.filter(next_run_at__isnull=False).order_by("next_run_at", "name")[:limit])


#: Maximum number of today's runs to compare, the latest ones.
MOST_COMPARED = 2_000


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run of today, and the latest run of the same list before today.

    For a batch without a list, it is the last batch that was done of those that it repeats, or None.
    """

    run: Batch
    before: Batch | None

    @property
    def is_repeat(self) -> bool:
        """Whether the run's own page compares it with the same run."""
        return self.before is not None and self.before.pk == self.run.previous_id

    def difference(self, field: str) -> float | None:
        return getattr(self.run, field) - getattr(self.before, field) if self.before else None


def compare_runs_of_today() -> list[ComparedRun]:
    """The latest run of each list, those with the largest increase of failures first.

    Three queries, and one more for each repeated batch in a row that was not done.
    """
    start = start_of_day()
    done = Batch.objects.filter(status=Batch.Status.DONE)
    earlier = done.filter(list=OuterRef("list"), created_at__lt=OuterRef("created_at"), completed_at__lt=start)
    before_id = Coalesce(Subquery(earlier.order_by("-created_at").values("pk")[:1]), "previous")
    latest = dict[Any, Any]()
    runs = done.filter(completed_at__gte=start).annotate(before_id=before_id).order_by("-completed_at")
    for run in runs[:MOST_COMPARED]:
        latest.setdefault(run.list_id or run.pk, run)
    before_ids = {run.pk: run.before_id for run in latest.values()}
    others = Batch.objects.exclude(status=Batch.Status.DONE).values_list("pk", "previous")
    while repeated := dict(others.filter(pk__in=before_ids.values())):
        before_ids = {pk: repeated.get(before_id, before_id) for pk, before_id in before_ids.items()}
    before = done.filter(completed_at__lt=start).in_bulk(set(before_ids.values()) - {None})
    compared = [ComparedRun(run, before.get(before_ids[run.pk])) for run in latest.values()]
    return sorted(compared, key=lambda each: (-(each.difference("failed_checks") or 0), each.run.name))
