"""Lists that last: named sets of profiles that can be edited. A batch is one run of a list, or of picked profiles."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.functional import cached_property

from batches.limits import MAX_CHECKER, MAX_NAME, MAX_SCHEDULE, MAX_TIME_ZONE
from batches.lists.schedules import InvalidSchedule, describe_schedule, next_times
from batches.text import pluralise

from .profiles import Profile

COUNT_FIRST = "Stories that are there when a profile is first read count as new, too."


class ProfileListQuerySet(models.QuerySet["ProfileList"]):
    def due(self, moment: datetime) -> Self:
        return self.filter(next_run_at__lte=moment)

    def with_totals(self) -> Self:
        """Each with its `total_profiles`, in one query."""
        members = ListProfile.objects.filter(list=OuterRef("pk")).order_by().values("list")
        count = Subquery(members.annotate(count=Count("pk")).values("count"))
        return self.annotate(total_profiles=Coalesce(count, 0))


class ProfileList(models.Model):
    """A named, lasting list of profiles. Only BatchManager changes it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_NAME, unique=True)
    checker = models.CharField(max_length=MAX_CHECKER, default="feed")
    count_first = models.BooleanField(default=False, db_default=False, help_text=COUNT_FIRST)
    priority = models.SmallIntegerField(default=0, help_text="Of its runs. Higher goes first.")
    schedule = models.CharField(
        max_length=MAX_SCHEDULE, blank=True, help_text="When it runs by itself, as a cron expression. Empty: never."
    )
    time_zone = models.CharField(max_length=MAX_TIME_ZONE, default="UTC", help_text="Of the schedule.")
    delay_minutes = models.PositiveIntegerField(
        "delay", default=0, help_text="Each run starts up to this many minutes later, at random."
    )
    schedule_active = models.BooleanField("schedule is on", default=True)
    #: With the delay. NULL while it has no schedule, or the schedule is off.
    next_run_at = models.DateTimeField("next run", null=True, blank=True, editable=False)
    #: Grows with every change of the list; a change that was decided from an older one can be refused.
    version = models.PositiveBigIntegerField(default=1, editable=False)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)

    objects = models.Manager.from_queryset(ProfileListQuerySet)()

    class Meta:
        verbose_name = "list"
        constraints = [
            models.CheckConstraint(
                name="list_runs_only_by_its_schedule",
                condition=Q(next_run_at__isnull=True) | (Q(schedule_active=True) & ~Q(schedule="")),
            )
        ]
        indexes = [
            models.Index(fields=["next_run_at"], name="list_by_next_run", condition=Q(next_run_at__isnull=False))
        ]

    def __str__(self) -> str:
        return self.name

    @cached_property
    def total_profiles(self) -> int:
        return self.profiles.count()

    @property
    def schedule_in_words(self) -> str:
        if not self.schedule:
            return ""
        try:
            words = describe_schedule(self.schedule)
        except InvalidSchedule as error:  # its time zone or its notation has gone since it was set
            return str(error)
        delay = f", up to {pluralise(self.delay_minutes, 'minute')} later" if self.delay_minutes else ""
        return f"{words} ({self.time_zone}){delay}{'' if self.schedule_active else ', off'}"

    @property
    def next_times(self) -> list[datetime]:
        """The next three times of the schedule, without the delay. None while it is off."""
        if not (self.schedule and self.schedule_active):
            return []
        try:
            return next_times(self.schedule, self.time_zone, timezone.now())
        except InvalidSchedule:
            return []


class ListProfile(models.Model):
    """A profile in a list."""

    # Without indexes of their own: the compound indexes below begin with these columns.
    list = models.ForeignKey(ProfileList, models.CASCADE, related_name="profiles", db_index=False)
    profile = models.ForeignKey(Profile, models.CASCADE, related_name="lists", db_index=False)

    class Meta:
        verbose_name = "profile of a list"
        verbose_name_plural = "profiles of lists"
        constraints = [models.UniqueConstraint(fields=["profile", "list"], name="one_row_per_profile_and_list")]
        indexes = [models.Index(fields=["list", "id"], name="listprofile_keyset")]

    def __str__(self) -> str:
        return str(self.profile)
