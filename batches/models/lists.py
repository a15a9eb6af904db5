"""Lists: named sets of profiles that can be edited. A batch is one run of a list, or of chosen profiles."""

import uuid
from datetime import datetime
from typing import Self, cast

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_CHECKER, MAX_NAME, MAX_SCHEDULE, MAX_TIME_ZONE
from batches.lists.cron import InvalidSchedule, describe_schedule, next_times
from batches.text import Sentence, choose_plural, join

from .hidden import HideableQuerySet
from .profiles import Profile

COUNT_FIRST = _("Stories found when a profile is first read also count as new.")

#: The last edition of a profile that is still in the list.
NO_EDITION = 2**31 - 1


class ProfileListQuerySet(HideableQuerySet["ProfileList"]):
    def due(self, moment: datetime) -> Self:
        return self.filter(next_run_at__lte=moment)

    def being_edited(self, editor: uuid.UUID | None) -> Self:
        """The list that this editor holds. If an editor stops renewing its hold, the list is settled."""
        return self.filter(editor=editor, edit_until__gt=Now())

    def to_settle(self) -> Self:
        """Lists with rows of an edit that has ended, or was interrupted."""
        return self.filter(edit_until__lte=Now())


AllLists = models.Manager.from_queryset(ProfileListQuerySet)


class VisibleLists(AllLists["ProfileList"]):
    """All lists except hidden ones."""

    def get_queryset(self) -> ProfileListQuerySet:
        return cast(ProfileListQuerySet, super().get_queryset().filter(deleted_at=None))


class ProfileList(models.Model):
    """A named list of profiles that is kept. Only BatchManager changes it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_NAME)
    checker = models.CharField(max_length=MAX_CHECKER, default="feed")
    count_first = models.BooleanField(default=False, db_default=False, help_text=COUNT_FIRST)
    priority = models.SmallIntegerField(default=0, help_text=_("The priority of its runs. Higher goes first."))
    schedule = models.CharField(
        max_length=MAX_SCHEDULE,
        blank=True,
        help_text=_("When it runs automatically, as a cron expression. Empty: never."),
    )
    time_zone = models.CharField(max_length=MAX_TIME_ZONE, default="UTC", help_text=_("Of the schedule."))
    delay_minutes = models.PositiveIntegerField(
        _("delay"), default=0, help_text=_("Each run starts up to this many minutes later, at random.")
    )
    schedule_active = models.BooleanField(_("schedule is on"), default=True)
    #: With the delay. NULL without a schedule, or while it is off.
    next_run_at = models.DateTimeField(_("next run"), null=True, blank=True, editable=False)
    #: Grows with every change of the list. A change that was decided from an older version can be refused.
    version = models.PositiveBigIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    #: Stored, because counting a million takes longer than an edit may hold its lock.
    total_profiles = models.PositiveIntegerField(_("profiles"), default=0, editable=False)

    #: Its current profiles are the rows of this edition. See `queue/editions.py`.
    edition = models.PositiveIntegerField(default=0, editable=False)
    #: The editor that stages the next edition, and the end of its hold. A time in the past means unsettled rows.
    editor = models.UUIDField(null=True, editable=False)
    edit_until = models.DateTimeField(null=True, editable=False)
    #: The list is hidden, and its rows are removed from this time on. See `hidden.py`.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = VisibleLists()
    # With the hidden ones.
    everything = AllLists()

    class Meta:
        verbose_name = _("list")
        constraints = [
            models.UniqueConstraint(fields=["name"], name="one_list_per_name", condition=Q(deleted_at__isnull=True)),
            models.CheckConstraint(
                name="list_runs_only_by_its_schedule",
                condition=Q(next_run_at__isnull=True) | (Q(schedule_active=True) & ~Q(schedule="")),
            ),
            models.CheckConstraint(
                name="list_is_edited_by_somebody_for_a_time",
                condition=Q(editor__isnull=True, edit_until__isnull=True)
                | Q(editor__isnull=False, edit_until__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["next_run_at"], name="list_by_next_run", condition=Q(next_run_at__isnull=False))
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def schedule_in_words(self) -> str:
        if not self.schedule:
            return ""
        try:
            words = describe_schedule(self.schedule)
        except InvalidSchedule as error:  # its time zone or its notation has been removed since it was set
            return str(error)
        parts = [Sentence("%(schedule)s (%(zone)s)", schedule=words, zone=self.time_zone)]
        if self.delay_minutes:
            parts.append(
                choose_plural("up to %(count)s minute later", "up to %(count)s minutes later", count=self.delay_minutes)
            )
        if not self.schedule_active:
            parts.append(Sentence("off"))
        return join(parts, ", ")

    @property
    def next_times(self) -> list[datetime]:
        """The next three times of the schedule, without the delay. None while it is off."""
        if not (self.schedule and self.schedule_active):
            return []
        try:
            return next_times(self.schedule, self.time_zone, timezone.now())
        except InvalidSchedule:
            return []


class Members(models.QuerySet["ListProfile"]):
    def of_list(self, found: ProfileList) -> Self:
        """Its current profiles, like `ListProfile.objects`, but without looking up the list for each."""
        return self.filter(list=found, first_edition__lte=found.edition, last_edition__gte=found.edition)


class CurrentMembers(models.Manager["ListProfile"]):
    """The current profiles of lists, without those that are being added or have been removed."""

    def get_queryset(self) -> "models.QuerySet[ListProfile]":
        now = F("list__edition")
        members = super().get_queryset().filter(first_edition__lte=now, last_edition__gte=now)
        return members.filter(list__deleted_at=None)


class ListProfile(models.Model):
    """A profile in a list, from its first edition to its last."""

    # No separate indexes: the compound indexes below begin with these columns.
    list = models.ForeignKey(ProfileList, models.CASCADE, related_name="profiles", db_index=False)
    profile = models.ForeignKey(Profile, models.CASCADE, related_name="lists", db_index=False)
    first_edition = models.PositiveIntegerField(db_default=0, editable=False)
    last_edition = models.PositiveIntegerField(db_default=NO_EDITION, editable=False)

    objects = CurrentMembers()
    everything = models.Manager.from_queryset(Members)()

    class Meta:
        verbose_name = _("profile of a list")
        verbose_name_plural = _("profiles of lists")
        constraints = [models.UniqueConstraint(fields=["profile", "list"], name="one_row_per_profile_and_list")]
        indexes = [models.Index(fields=["list", "id"], name="listprofile_keyset")]

    def __str__(self) -> str:
        return str(self.profile)
