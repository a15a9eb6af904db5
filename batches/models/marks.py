"""Marks of how far a user has read the new stories. A mark belongs to its reader and changes no batch or list."""

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from .lists import ProfileList
from .profiles import StoryResult


class ReadMark(models.Model):
    """A user has read the new stories up to this one: all of them, or the stories of a list."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    list = models.ForeignKey(ProfileList, models.CASCADE, null=True, related_name="+")
    #: The ID of a story, which may have been deleted since.
    up_to = models.PositiveBigIntegerField()
    marked_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "list"], name="one_mark_per_user_and_list"),
            models.UniqueConstraint(fields=["user"], name="one_mark_per_user", condition=Q(list__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.user} has read up to {self.up_to}"


def find_mark(user_id: Any, found: ProfileList | None) -> ReadMark | None:
    return ReadMark.objects.filter(user=user_id, list=found).first()


def mark_as_read(user_id: Any, found: ProfileList | None, up_to: int) -> None:
    """Mark everything up to this story, or to the latest one, as read. A stale page cannot move the mark back."""
    latest = StoryResult.objects.aggregate(latest=models.Max("pk"))["latest"] or 0
    up_to = min(up_to, latest)
    marks = ReadMark.objects.filter(user=user_id, list=found)
    if not marks.filter(up_to__lt=up_to).update(up_to=up_to, marked_at=timezone.now()) and not marks.exists():
        ReadMark.objects.bulk_create(
            [ReadMark(user_id=user_id, list=found, up_to=up_to)],
            ignore_conflicts=True,  # by another window, just now
        )
