"""The tables, and the constraints that make a wrong state impossible. Only `batch_manager` writes state."""

from __future__ import annotations

import uuid
from typing import Any, Self, cast

from django.conf import settings
from django.db import models
from django.db.models import Count, F, Q
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.authtoken.models import TokenProxy

from batches.notifications.signatures import new_secret

MAX_URL = 2000
MAX_STORY_ID = 255
MAX_TITLE = 500
MAX_ERROR = 2000
MAX_NAME = 200
MAX_MEMORY = 500
MAX_FINGERPRINT = 64
MAX_KEY = 255
MIN_PRIORITY, MAX_PRIORITY = -32_768, 32_767


class SecondsSince(models.Func):
    """Seconds from a time to now by the database's clock, from 0 to `at_most`; 0 when there is no such time."""

    output_field = models.FloatField()

    def __init__(self, moment: str, *, at_most: float) -> None:
        super().__init__(F(moment), models.Value(at_most, models.FloatField()))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "COALESCE(MIN(MAX((julianday('now') - julianday(%(moment)s)) * 86400.0, 0.0), %(at_most)s), 0.0)"
        return self._as_sql(compiler, template)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        seconds = "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - %(moment)s)::float8"
        template = f"CASE WHEN %(moment)s IS NULL THEN 0 ELSE LEAST(GREATEST({seconds}, 0), %(at_most)s) END"
        return self._as_sql(compiler, template)

    def _as_sql(self, compiler: Any, template: str) -> Any:
        moment, at_most = (compiler.compile(expression) for expression in self.source_expressions)
        return template % {"moment": moment[0], "at_most": at_most[0]}, (*moment[1], *at_most[1])


class Profile(models.Model):
    """One address that can be checked, and what its checks remember."""

    url = models.CharField("address", max_length=MAX_URL, unique=True, help_text="Normalised; it is what is fetched.")
    name = models.CharField(max_length=MAX_NAME, blank=True)
    feed_url = models.CharField("feed address", max_length=MAX_URL, blank=True, help_text="Found in the page.")
    etag = models.CharField("ETag", max_length=MAX_MEMORY, blank=True)
    last_modified = models.CharField("Last-Modified", max_length=MAX_MEMORY, blank=True)
    fingerprint = models.CharField(max_length=MAX_FINGERPRINT, blank=True, help_text="Of the document last read.")
    last_checked_at = models.DateTimeField("last check", null=True, blank=True)
    last_error = models.TextField(blank=True, help_text="Empty when the last check was ok.")
    last_story_at = models.DateTimeField("last new story", null=True, blank=True)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)

    def __str__(self) -> str:
        return self.name or self.url


class BatchQuerySet(models.QuerySet["Batch"]):
    # The position follows from the status; naming it lets both use its index, however many finished batches there are.

    def running(self) -> Self:
        return self.filter(status=Batch.Status.RUNNING, position=0)

    def queued(self) -> Self:
        return self.filter(status=Batch.Status.QUEUED, position__gte=1)

    def in_queue_order(self) -> Self:
        """The running batch, the queued ones in their order, then the others, newest first."""
        return self.order_by(F("position").asc(nulls_last=True), "-created_at", "pk")


AllBatches = models.Manager.from_queryset(BatchQuerySet)


class VisibleBatches(AllBatches["Batch"]):
    """Batches that exist for everybody: a deleted one is gone at once, though its rows go in small steps."""

    def get_queryset(self) -> BatchQuerySet:
        return cast(BatchQuerySet, super().get_queryset().filter(deleted_at=None))


class Batch(models.Model):
    """A named list of profiles to check, with a status, a place in the queue, a priority and counters."""

    class Status(models.TextChoices):
        QUEUED = "queued"  # waits for its turn at `position` 1..n
        RUNNING = "running"  # at position 0; at most one
        PAUSED = "paused"  # set aside by somebody; goes on where it stopped when queued again
        DONE = "done"  # every profile was checked, or somebody closed it
        ERROR = "error"  # stopped by a fault that is told in `error`

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=MAX_NAME)
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    position = models.IntegerField(null=True, blank=True, unique=True)
    priority = models.SmallIntegerField(default=0, help_text="Higher goes first.")
    checker = models.CharField(max_length=50, default="feed")

    total_profiles = models.PositiveIntegerField("profiles", default=0)
    completed_profiles = models.PositiveIntegerField("checked", default=0)
    successful_checks = models.PositiveIntegerField("ok", default=0)
    failed_checks = models.PositiveIntegerField("failed", default=0)
    stories_found = models.PositiveIntegerField("new stories", default=0)
    error = models.TextField(blank=True)

    created_at = models.DateTimeField("created", default=timezone.now, editable=False, db_index=True)
    started_at = models.DateTimeField("started", null=True, blank=True, help_text="Start of the latest run.")
    completed_at = models.DateTimeField("completed", null=True, blank=True)
    run_seconds = models.FloatField(default=0.0, help_text="Seconds that a worker was at work on it.")

    run_token = models.UUIDField(null=True, blank=True, editable=False)
    lease_at = models.DateTimeField(null=True, blank=True, help_text="Last sign of life of the worker.")
    takeovers = models.PositiveSmallIntegerField(default=0, help_text="Since the last progress.")
    previous = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="repeats")
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = VisibleBatches()
    # Sees the deleted ones as well, whose rows are not all gone yet.
    everything = AllBatches()

    class Meta:
        verbose_name_plural = "batches"
        permissions = [("operate_batch", "Can queue, start, pause and move batches, and hold the queue")]
        # A CHECK passes on NULL: each arm therefore says whether `position` may be NULL.
        constraints = [
            models.CheckConstraint(
                name="batch_status_matches_position",
                condition=Q(status="running", position__isnull=False, position=0)
                | Q(status="queued", position__isnull=False, position__gte=1)
                | Q(status__in=["paused", "done", "error"], position__isnull=True),
                violation_error_message="Status and position contradict each other.",
            ),
            models.CheckConstraint(
                name="batch_run_only_while_running",
                condition=Q(status="running") | Q(run_token__isnull=True, lease_at__isnull=True),
                violation_error_message="Only a running batch belongs to a run.",
            ),
            models.CheckConstraint(
                name="batch_counters_add_up",
                condition=Q(completed_profiles__gte=F("successful_checks") + F("failed_checks"))
                & Q(total_profiles__gte=F("completed_profiles")),
                violation_error_message="The counters do not add up.",
            ),
            models.CheckConstraint(
                name="batch_counters_not_negative",
                condition=Q(
                    total_profiles__gte=0,
                    completed_profiles__gte=0,
                    successful_checks__gte=0,
                    failed_checks__gte=0,
                    stories_found__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="batch_deleted_is_out_of_queue",
                condition=Q(deleted_at__isnull=True) | Q(position__isnull=True),
            ),
        ]
        # "Done today" and the speed of the latest ones, however many finished batches there are.
        indexes = [models.Index(fields=["status", "completed_at"], name="batch_by_completion")]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """As usual, but a new queued batch without a place is given the one at the end of its band."""
        if self._state.adding and self.status == self.Status.QUEUED and self.position is None:
            # The one import that points up: the place is decided under the queue's lock, which is the manager's.
            from .batch_manager import BatchManager

            BatchManager().insert_queued(self, *args, **kwargs)
        else:
            super().save(*args, **kwargs)


class BatchProfile(models.Model):
    """One profile's row in one batch."""

    class Status(models.TextChoices):
        PENDING = "pending"
        OK = "ok"
        FAILED = "failed"

    # No index of their own: the compound ones below begin with these columns.
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="profiles", db_index=False)
    profile = models.ForeignKey(Profile, models.CASCADE, related_name="checks", db_index=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    error = models.TextField(blank=True)
    http_status = models.PositiveIntegerField("HTTP status", null=True, blank=True)
    duration = models.FloatField("seconds", null=True, blank=True)
    has_story = models.BooleanField("new story", default=False)
    checked_at = models.DateTimeField("checked", null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["profile", "batch"], name="one_row_per_profile_and_batch"),
            models.CheckConstraint(
                name="batchprofile_status_known", condition=Q(status__in=["pending", "ok", "failed"])
            ),
        ]
        indexes = [
            # Keyset reading of a batch's rows. Without `status`, so that recording a result need not touch it.
            models.Index(fields=["batch", "id"], name="batchprofile_keyset"),
            models.Index(fields=["batch", "id"], name="batchprofile_failed", condition=Q(status="failed")),
        ]

    def __str__(self) -> str:
        return f"{self.profile} ({self.status})"


#: What a batch's counters have to be, as aggregates over its rows.
COUNTED_ROWS = {
    "total_profiles": Count("pk"),
    "completed_profiles": Count("pk", filter=~Q(status=BatchProfile.Status.PENDING)),
    "successful_checks": Count("pk", filter=Q(status=BatchProfile.Status.OK)),
    "failed_checks": Count("pk", filter=Q(status=BatchProfile.Status.FAILED)),
}


class StoryResult(models.Model):
    """A story seen for the first time. It outlives its batch, since it is what makes the next sight of it old."""

    profile = models.ForeignKey(Profile, models.CASCADE, related_name="stories", db_index=False)
    batch = models.ForeignKey(Batch, models.SET_NULL, null=True, related_name="story_results", db_index=False)
    story_id = models.CharField(max_length=MAX_STORY_ID)
    title = models.CharField(max_length=MAX_TITLE, blank=True)
    url = models.CharField("address", max_length=MAX_URL, blank=True)
    published_at = models.DateTimeField("published", null=True, blank=True)
    found_at = models.DateTimeField("found", default=timezone.now)

    class Meta:
        verbose_name = "story"
        verbose_name_plural = "stories"
        constraints = [models.UniqueConstraint(fields=["profile", "story_id"], name="one_result_per_story")]
        indexes = [models.Index(fields=["batch", "id"], name="storyresult_keyset")]

    def __str__(self) -> str:
        return self.title or self.story_id


class Channel(models.TextChoices):
    """The door through which a change came."""

    ADMIN = "admin"
    API = "api"
    COMMAND = "command"
    WORKER = "worker"
    CODE = "code"


class BatchLog(models.Model):
    """What happened to a batch, or (without a batch) to the queue: written in the transaction of the change."""

    batch = models.ForeignKey(Batch, models.CASCADE, null=True, related_name="logs", db_index=False)
    action = models.CharField(max_length=30)
    actor = models.CharField(max_length=150, blank=True)
    channel = models.CharField(max_length=10, choices=Channel, default=Channel.CODE)
    from_status = models.CharField(max_length=10, blank=True)
    to_status = models.CharField(max_length=10, blank=True)
    from_position = models.IntegerField(null=True)
    to_position = models.IntegerField(null=True)
    message = models.TextField(blank=True)
    created_at = models.DateTimeField("time", default=timezone.now)

    class Meta:
        verbose_name = "log entry"
        verbose_name_plural = "log entries"
        indexes = [models.Index(fields=["batch", "id"], name="batchlog_keyset")]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S} {self.action}"


class Queue(models.Model):
    """The one row that is locked for every change of order or status."""

    THE_ONE = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=THE_ONE, editable=False)
    #: Grows with every change of order or status; a move that was decided from an older one can be refused.
    version = models.PositiveBigIntegerField(default=0)
    held = models.BooleanField(default=False)
    held_by = models.CharField(max_length=150, blank=True)
    held_at = models.DateTimeField(null=True, blank=True)
    hold_reason = models.TextField(blank=True)
    worker = models.CharField(max_length=150, blank=True)
    worker_seen_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(name="only_one_queue", condition=Q(id=1))]

    def __str__(self) -> str:
        return "the queue"


class Webhook(models.Model):
    """An address that is told what becomes of batches."""

    name = models.CharField(max_length=MAX_NAME, blank=True, help_text="For you: whose it is, or what it is for.")
    url = models.CharField(
        "address", max_length=MAX_URL, unique=True, help_text="Takes a POST with JSON, and answers with 2xx."
    )
    is_active = models.BooleanField("active", default=True, help_text="While it is not, its deliveries wait.")
    secret = models.CharField(max_length=100, default=new_secret, editable=False)
    #: Signs beside the new one until then, so that the receiver can change over without losing a message.
    previous_secret = models.CharField(max_length=100, blank=True, editable=False)
    previous_secret_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField("created", default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(name="webhook_has_a_secret", condition=~Q(secret="")),
            models.CheckConstraint(
                name="webhook_previous_secret_ends",
                condition=Q(previous_secret="", previous_secret_until__isnull=True)
                | (~Q(previous_secret="") & Q(previous_secret_until__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return self.name or self.url


class Event(models.TextChoices):
    """What webhooks are told of."""

    BATCH_DONE = "batch.done", "batch.done"
    BATCH_ERROR = "batch.error", "batch.error"
    BATCH_PAUSED = "batch.paused", "batch.paused"  # by the system, not by a person
    TEST = "webhook.test", "webhook.test"


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def waiting(self) -> Self:
        return self.filter(next_attempt_at__isnull=False)

    def due(self) -> Self:
        return self.filter(next_attempt_at__lte=Now())

    def delivered(self) -> Self:
        return self.filter(delivered_at__isnull=False)

    def given_up(self) -> Self:
        return self.filter(next_attempt_at__isnull=True, delivered_at__isnull=True)


class WebhookDelivery(models.Model):
    """One event for one webhook: the outbox while it waits, the log afterwards. Only `outbox` writes it."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        GIVEN_UP = "given up"

    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries", db_index=False)
    event_id = models.UUIDField("event", help_text="Sent as webhook-id, the same with each attempt.")
    type = models.CharField(max_length=30, choices=Event)
    batch = models.ForeignKey(Batch, models.SET_NULL, null=True, related_name="webhook_deliveries")
    payload = models.TextField(help_text="As it is signed and sent.")
    created_at = models.DateTimeField("created", default=timezone.now, db_index=True)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField("next attempt", null=True, help_text="Empty when it is settled.")
    delivered_at = models.DateTimeField("delivered", null=True)
    http_status = models.PositiveIntegerField("last HTTP status", null=True)
    error = models.TextField("last error", blank=True)

    objects = models.Manager.from_queryset(WebhookDeliveryQuerySet)()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["webhook", "event_id"], name="one_delivery_per_webhook_and_event"),
            # It waits, or it was delivered, or it was given up for a reason.
            models.CheckConstraint(
                name="webhookdelivery_state_is_one",
                condition=Q(next_attempt_at__isnull=False, delivered_at__isnull=True)
                | Q(next_attempt_at__isnull=True, delivered_at__isnull=False, error="")
                | (Q(next_attempt_at__isnull=True, delivered_at__isnull=True) & ~Q(error="")),
            ),
        ]
        # What is due of one webhook, however long the log and however many wait for another.
        indexes = [
            models.Index(
                fields=["webhook", "next_attempt_at"],
                name="webhookdelivery_waiting",
                condition=Q(next_attempt_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} for {self.webhook}"

    @property
    def state(self) -> State:
        if self.next_attempt_at is not None:
            return self.State.WAITING
        return self.State.GIVEN_UP if self.delivered_at is None else self.State.DELIVERED


class KeptAnswer(models.Model):
    """What a request of the API with an `Idempotency-Key` was answered: written in the transaction of its change."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=MAX_KEY)
    fingerprint = models.CharField(max_length=MAX_FINGERPRINT, help_text="Of the request.")
    #: NULL between the key's insertion and the answer: nobody sees that, since one transaction writes both.
    status_code = models.PositiveSmallIntegerField(null=True)
    location = models.TextField(blank=True)
    body = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"the answer to {self.key}"


class ApiToken(TokenProxy):
    """A user's token under the user's name: its own text would be its key, which pages and logs must not show."""

    class Meta:
        proxy = True
        verbose_name = "API token"

    def __str__(self) -> str:
        return str(self.user.get_username())
