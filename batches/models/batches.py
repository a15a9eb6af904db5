"""Batches and their rows, and the constraints that make a wrong state impossible."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, cast

from django.db import models
from django.db.models import Count, F, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_CHECKER, MAX_NAME, MAX_STATUS
from batches.text import Sentence, translate

from .actions import Action
from .counters import LiveCount, LiveSeconds
from .lists import COUNT_FIRST, ProfileList
from .logs import BatchLog
from .owners import rows_of
from .profiles import Profile, StoryResult, StoryResultQuerySet
from .queue import Queue
from .queue_order import QueueOrder

#: The statuses of batches and of their rows, as sentences and columns show them.
STATUS_WORDS: Mapping[str, Sentence] = {
    "queued": Sentence("queued"),
    "running": Sentence("running"),
    "paused": Sentence("paused"),
    "done": Sentence("done"),
    "error": Sentence("error"),
    "pending": Sentence("pending"),
    "ok": Sentence("ok"),
    "failed": Sentence("failed"),
    "skipped": Sentence("skipped"),
}


class BatchQuerySet(QueueOrder["Batch"]):
    # The position follows from the status. Naming it, too, lets the queries use its index, however many have finished.

    def running(self) -> Self:
        return self.filter(status=Batch.Status.RUNNING, position=0)

    def queued(self) -> Self:
        return self.filter(status=Batch.Status.QUEUED, position__gte=1)

    def ended_before(self, moment: datetime, *, with_errors: bool = True) -> Self:
        """The batches that ended (done or error) before `moment`, oldest first.

        The time of an error is not stored, so a batch in error counts from the start of its last run.
        """
        ended = Q(status=Batch.Status.DONE, completed_at__lt=moment)
        if with_errors:
            began = Q(started_at__lt=moment) | Q(started_at=None, created_at__lt=moment)
            ended |= Q(status=Batch.Status.ERROR) & began
        return self.filter(ended).order_by("created_at", "pk")

    def to_reset(self) -> Self:
        """Batches that are checked again, with rows that still have their previous results."""
        return self.filter(reset_after__isnull=False)

    def with_exact_ledger(self) -> Self:
        """Visible batches with complete rows that agree with the counters."""
        return self.filter(deleted_at=None, reset_after=None)


AllBatches = models.Manager.from_queryset(BatchQuerySet)


class VisibleBatches(AllBatches["Batch"]):
    """All batches except hidden ones, which are being stored or removed in small steps.

    A deleted batch disappears immediately. A new one appears when all its rows are stored.
    """

    def get_queryset(self) -> BatchQuerySet:
        return cast(BatchQuerySet, super().get_queryset().filter(deleted_at=None))


class Batch(models.Model):
    """One pass over a set of profiles, with a status, a position in the queue, a priority and counters."""

    class Status(models.TextChoices):
        QUEUED = "queued", _("Queued")  # waits for its turn at `position` 1..n
        RUNNING = "running", _("Running")  # at position 0; at most one
        PAUSED = "paused", _("Paused")  # paused by somebody; when queued again, it continues where it stopped
        DONE = "done", _("Done")  # every profile was checked, or somebody completed it early
        ERROR = "error", _("Error")  # stopped with the message in `error`

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_NAME)
    status = models.CharField(max_length=MAX_STATUS, choices=Status, default=Status.QUEUED)
    position = models.IntegerField(null=True, blank=True, unique=True)
    priority = models.SmallIntegerField(default=0, help_text=_("Higher goes first."))
    checker = models.CharField(max_length=MAX_CHECKER, default="feed")
    count_first = models.BooleanField(default=False, db_default=False, help_text=COUNT_FIRST)

    total_profiles = models.PositiveIntegerField(_("profiles"), default=0)
    completed_profiles = LiveCount(
        _("checked"), default=0, counted="SUM(lease.successful_checks + lease.failed_checks)"
    )
    successful_checks = LiveCount(_("ok"), default=0, counted="SUM(lease.successful_checks)")
    failed_checks = LiveCount(_("failed"), default=0, counted="SUM(lease.failed_checks)")
    skipped_profiles = models.PositiveIntegerField(
        _("skipped"),
        default=0,
        db_default=0,
        help_text=_("Profiles that rest after many failures. They count as checked."),
    )
    stories_found = LiveCount(_("new stories"), default=0, counted="SUM(lease.stories_found)")
    error = models.TextField(blank=True)

    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False, db_index=True)
    started_at = models.DateTimeField(_("started"), null=True, blank=True, help_text=_("Start of the latest run."))
    completed_at = models.DateTimeField(_("completed"), null=True, blank=True)
    # Workers run at the same time, so the longest of their times counts.
    run_seconds = LiveSeconds(
        default=0.0, counted="MAX(lease.run_seconds)", help_text=_("Seconds that workers have spent on it.")
    )
    takeovers = models.PositiveSmallIntegerField(default=0, help_text=_("Takeovers since the last progress."))
    # Most batches repeat none: `batch_repeats` has only the others, since each move of the queue writes to all indexes.
    previous = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="repeats", db_index=False)
    list = models.ForeignKey(  # without a separate index: `batch_of_list` begins with it
        ProfileList, models.SET_NULL, null=True, blank=True, related_name="runs", db_index=False
    )
    #: The batch is hidden, and its rows are removed from this time on. See `hidden.py`.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    #: The last row that a running reset has reached. See `queue/resets.py`.
    reset_after = models.BigIntegerField(null=True, blank=True, editable=False)
    #: The reset removes only failures without an answer since this time, which come from an outage of our own.
    reset_since = models.DateTimeField(null=True, blank=True, editable=False)
    #: The reset removes only failures for these reasons.
    reset_reasons = models.JSONField(null=True, blank=True, editable=False)

    objects = VisibleBatches()
    # With the hidden ones.
    everything = AllBatches()

    class Meta:
        verbose_name_plural = _("batches")
        permissions = [("operate_batch", "Can queue, start, pause and move batches, and hold the queue")]
        # A CHECK passes on NULL, so each arm says whether `position` can be NULL.
        constraints = [
            models.CheckConstraint(
                name="batch_status_matches_position",
                condition=Q(status="running", position__isnull=False, position=0)
                | Q(status="queued", position__isnull=False, position__gte=1)
                | Q(status__in=["paused", "done", "error"], position__isnull=True),
                violation_error_message=_("Status and position contradict each other."),
            ),
            models.CheckConstraint(
                name="batch_counters_add_up",
                condition=Q(completed_profiles__gte=F("successful_checks") + F("failed_checks") + F("skipped_profiles"))
                & Q(total_profiles__gte=F("completed_profiles")),
                violation_error_message=_("The counters do not add up."),
            ),
            models.CheckConstraint(
                name="batch_reset_has_a_place",
                condition=Q(reset_since__isnull=True, reset_reasons__isnull=True) | Q(reset_after__isnull=False),
            ),
            models.CheckConstraint(
                name="batch_deleted_is_out_of_queue",
                condition=Q(deleted_at__isnull=True) | Q(position__isnull=True),
            ),
        ]
        # For "done today" and for the speed of recent batches, however many have finished.
        indexes = [
            models.Index(fields=["status", "completed_at"], name="batch_by_completion", condition=Q(deleted_at=None)),
            # Also counts all batches without reading their rows.
            models.Index(fields=["name", "id"], name="batch_by_name", condition=Q(deleted_at=None)),
            models.Index(fields=["list", "created_at"], name="batch_of_list", condition=Q(list__isnull=False)),
            models.Index(fields=["previous"], name="batch_repeats", condition=Q(previous__isnull=False)),
        ]

    #: All other fields follow from the calls of the manager.
    SAVED = frozenset({"name", "priority", "checker", "previous"})

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the batch. A new queued batch without a position gets the one at the end of its band.

        For an existing batch, only `SAVED` is written: an old instance would undo later changes of the manager.
        """
        if not self._state.adding:
            managed = {field.name for field in self._meta.concrete_fields} - self.SAVED
            fields = self.SAVED if kwargs.get("update_fields") is None else set(kwargs["update_fields"]) - managed
            super().save(*args, **kwargs | {"update_fields": fields})
            return
        if self.status != self.Status.QUEUED or self.position is not None:
            super().save(*args, **kwargs)
            return
        try:
            with Queue.objects.locked():
                self.position = Batch.objects.make_room(self.priority)
                super().save(*args, **kwargs)
                Queue.objects.bump_version()
                BatchLog.objects.create(
                    batch=self, action=Action.CREATE_BATCH, to_status=self.status, to_position=self.position
                )
        except BaseException:
            self.position = None
            raise

    @property
    def new_stories(self) -> StoryResultQuerySet:
        """Its `stories_found`, newest first, without stories that it found before it was done and queued again."""
        if not self.stories_found:
            return StoryResult.objects.none()
        return self.stories.filter(is_baseline=False)

    @property
    def stories(self) -> StoryResultQuerySet:
        """Its new stories and its baseline, newest first."""
        return self.counted_stories.newest_first()

    @property
    def counted_stories(self) -> StoryResultQuerySet:
        """Its new stories and its baseline, including pruned ones."""
        found = StoryResult.objects.filter(batch=self)
        if not self.stories_found:
            return found.filter(is_baseline=True)
        # There are fewer if a profile was deleted.
        return found.filter(Q(is_baseline=True) | Q(pk__gte=Coalesce(Subquery(self.oldest_counted), 0)))

    @property
    def oldest_counted(self) -> models.QuerySet[StoryResult, int]:
        """The primary key of the oldest of its `stories_found`, which must not be 0. Empty if that story is gone."""
        new = StoryResult.objects.filter(batch=self, is_baseline=False).order_by("-pk")
        return new.values_list("pk", flat=True)[self.stories_found - 1 : self.stories_found]

    @property
    def has_rows(self) -> bool:
        """A batch of which another program reports the progress has none."""
        return BatchProfile.objects.of_batch(self).exists()

    @property
    def has_baseline(self) -> bool:
        """Whether it was the first batch to read a profile with stories, and did not count them."""
        return StoryResult.objects.filter(batch=self, is_baseline=True).exists()

    @property
    def heartbeat_at(self) -> datetime | None:
        """The last heartbeat of the workers that check it now; None without any."""
        is_running = self.status == self.Status.RUNNING
        return max(self.leases.values_list("lease_at", flat=True), default=None) if is_running else None

    @property
    def outcomes(self) -> dict[str, int]:
        """The number of its profiles by the status of their rows, those that are not checked yet last."""
        counts = {str(status): getattr(self, counter) for status, counter in COUNTER_OF.items()}
        return counts | {BatchProfile.Status.PENDING.value: self.total_profiles - self.completed_profiles}

    @property
    def percent(self) -> int:
        """The percentage, rounded down, so that 100 means that everything is checked."""
        return 100 * self.completed_profiles // self.total_profiles if self.total_profiles else 0

    @property
    def rate(self) -> float | None:
        """Profiles per second; None while unknown."""
        checked = self.completed_profiles - self.skipped_profiles
        return checked / self.run_seconds if checked and self.run_seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """None while unknown."""
        return (self.total_profiles - self.completed_profiles) / self.rate if self.rate else None


class BatchProfileQuerySet(models.QuerySet["BatchProfile"]):
    def of_batch(self, batch: Batch) -> Self:
        return rows_of(self, batch=batch)


class BatchProfile(models.Model):
    """One profile's row in one batch, with the result of its check."""

    class Status(models.TextChoices):
        PENDING = "pending", _("Pending")
        OK = "ok", _("Ok")
        FAILED = "failed", _("Failed")
        SKIPPED = "skipped", _("Skipped")  # it rests after many failures, and the scheduled run left it out

    # No separate indexes: the compound indexes below begin with these columns.
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="profiles", db_index=False)
    profile = models.ForeignKey(Profile, models.CASCADE, related_name="checks", db_index=False)
    status = models.CharField(max_length=MAX_STATUS, choices=Status, default=Status.PENDING)
    error = models.TextField(blank=True)
    http_status = models.PositiveIntegerField(_("HTTP status"), null=True, blank=True)
    duration = models.FloatField(_("seconds"), null=True, blank=True)
    has_story = models.BooleanField(_("new story"), default=False)
    checked_at = models.DateTimeField(_("checked"), null=True, blank=True)
    #: Derived from the domain that is fetched first, see `queue/partitions.py`.
    partition = models.PositiveSmallIntegerField(db_default=0, editable=False)

    objects = BatchProfileQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["profile", "batch"], name="one_row_per_profile_and_batch"),
            models.CheckConstraint(
                name="batchprofile_status_known", condition=Q(status__in=["pending", "ok", "failed", "skipped"])
            ),
        ]
        indexes = [
            # For keyset pagination of a batch. No index or condition of an index may name a column that recording a
            # result writes: PostgreSQL would then write each row again into every index (0 instead of 90 % HOT
            # updates).
            models.Index(fields=["batch", "id"], name="batchprofile_keyset"),
        ]

    def __str__(self) -> str:
        return translate(Sentence("%(profile)s (%(status)s)", profile=self.profile, status=STATUS_WORDS[self.status]))


#: The counter of a batch that counts its rows with this status. `completed_profiles` counts the rows of all of them.
COUNTER_OF: Mapping[str, str] = {
    BatchProfile.Status.OK: "successful_checks",
    BatchProfile.Status.FAILED: "failed_checks",
    BatchProfile.Status.SKIPPED: "skipped_profiles",
}


def aggregate_counters(path: str = "") -> dict[str, Count]:
    """The correct counters of a batch, as aggregates over its rows, which are at this path."""
    by_status = {counter: Q(**{f"{path}status": status}) for status, counter in COUNTER_OF.items()}
    checked = {"completed_profiles": ~Q(**{f"{path}status": BatchProfile.Status.PENDING})} | by_status
    return {"total_profiles": Count(f"{path}pk")} | {
        counter: Count(f"{path}pk", filter=condition) for counter, condition in checked.items()
    }


COUNTER_AGGREGATES = aggregate_counters()
