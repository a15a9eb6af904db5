"""The totals of a day, the latest finished batches, and the lists that are due next. Reads only."""

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Self

from django.db.models import Count, Sum

from batches.models import Batch, ProfileList

from .failures import start_of_day


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


def sum_up_day(days_ago: int = 0) -> Day:
    done = Batch.objects.filter(status=Batch.Status.DONE, completed_at__gte=start_of_day(days_ago))
    if days_ago:
        done = done.filter(completed_at__lt=start_of_day(days_ago - 1))
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

    For a batch without a list, it is the batch that it repeats, or None.
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
    """The latest run of each list, those with the largest increase of failures first. Two queries.

    Each run of a list refers to the previous one, so today's first run refers to the last run before today.
    """
    start = start_of_day()
    done = Batch.objects.filter(status=Batch.Status.DONE)
    latest, first = dict[Any, Batch](), dict[Any, Batch]()
    for run in done.filter(completed_at__gte=start).order_by("-completed_at")[:MOST_COMPARED]:
        key = run.list_id or run.pk
        latest.setdefault(key, run)
        first[key] = min(first.get(key, run), run, key=attrgetter("created_at"))  # an older run may be rechecked later
    wanted = [run.previous_id for run in first.values() if run.previous_id]
    before = {run.pk: run for run in done.filter(completed_at__lt=start, pk__in=wanted)}
    compared = [ComparedRun(run, before.get(first[key].previous_id or run.pk)) for key, run in latest.items()]
    return sorted(compared, key=lambda each: (-(each.difference("failed_checks") or 0), each.run.name))
