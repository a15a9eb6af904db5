"""What the batches of a day came to. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, F, Sum

from batches.models import Batch

from .failures import start_of_day


@dataclass(frozen=True, slots=True)
class Day:
    """The sums of the batches that were done on a day. A profile that rests is not checked."""

    batches: int = 0
    checked: int = 0
    failed: int = 0
    stories: int = 0

    def with_run(self, batch: Batch) -> Day:
        """And what a batch that still runs has so far."""
        checked = batch.completed_profiles - batch.skipped_profiles
        return Day(
            self.batches, self.checked + checked, self.failed + batch.failed_checks, self.stories + batch.stories_found
        )


def sum_up_day(days_ago: int = 0) -> Day:
    done = Batch.objects.filter(status=Batch.Status.DONE, completed_at__gte=start_of_day(days_ago))
    if days_ago:
        done = done.filter(completed_at__lt=start_of_day(days_ago - 1))
    checked = F("completed_profiles") - F("skipped_profiles")
    sums = {"checked": checked, "failed": "failed_checks", "stories": "stories_found"}
    return Day(**done.aggregate(batches=Count("pk"), **{name: Sum(value, default=0) for name, value in sums.items()}))
