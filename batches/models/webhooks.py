"""Webhooks, and the deliveries to them and to subscriptions."""

import secrets
from base64 import b64encode
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_NAME, MAX_URL
from batches.text import Sentence, translate

from .subscriptions import Subscription

#: The Standard Webhooks specification asks for this prefix and a key of 24 to 64 bytes.
SECRET_PREFIX = "whsec_"  # noqa: S105 — it is public
KEY_BYTES = 32


def new_secret() -> str:
    """A random key in the form that receivers use."""
    return SECRET_PREFIX + b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class Webhook(models.Model):
    """An address that is notified about batches, and by the subscriptions that name it."""

    name = models.CharField(
        max_length=MAX_NAME, blank=True, help_text=_("For your own use: who receives it, or what it is for.")
    )
    url = models.CharField(
        _("address"), max_length=MAX_URL, unique=True, help_text=_("Must accept a POST with JSON and answer with 2xx.")
    )
    is_active = models.BooleanField(_("active"), default=True, help_text=_("Deliveries to an inactive webhook wait."))
    every_batch = models.BooleanField(
        default=True,
        help_text=_("Notified when any batch ends or is paused. Off: only when a subscription asks for it."),
    )
    secret = models.CharField(max_length=100, default=new_secret, editable=False)
    #: Keeps signing until then, so that receivers can switch without downtime.
    previous_secret = models.CharField(max_length=100, blank=True, editable=False)
    previous_secret_until = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

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
    """The kinds of deliveries."""

    BATCH_DONE = "batch.done", "batch.done"
    BATCH_ERROR = "batch.error", "batch.error"
    BATCH_PAUSED = "batch.paused", "batch.paused"
    TEST = "webhook.test", "webhook.test"
    # To subscriptions
    RUN = "list.run", "list.run"
    #: Waits for the digest of the day.
    DIGEST_PART = "list.digest_part", "list.digest_part"
    DIGEST = "list.digest", "list.digest"
    QUEUE_HELD = "queue.held", "queue.held"
    NO_WORKER = "queue.no_worker", "queue.no_worker"
    SUBSCRIPTION_TEST = "subscription.test", "subscription.test"


class WebhookDeliveryQuerySet(models.QuerySet["WebhookDelivery"]):
    def waiting(self) -> Self:
        return self.filter(next_attempt_at__isnull=False)

    def due(self) -> Self:
        return self.filter(next_attempt_at__lte=Now())

    def to_prepare(self) -> Self:
        """Stored by the change that they report, but still without content."""
        return self.filter(payload="")

    def claimable(self) -> Self:
        """Due, with their content, and only to active receivers."""
        is_on = Q(webhook=None) | Q(webhook__is_active=True), Q(subscription=None) | Q(subscription__is_active=True)
        return self.due().filter(*is_on).exclude(payload="").exclude(type=Event.DIGEST_PART)

    def delivered(self) -> Self:
        return self.filter(delivered_at__isnull=False)

    def failed(self) -> Self:
        return self.filter(next_attempt_at__isnull=True, delivered_at__isnull=True)


class WebhookDelivery(models.Model):
    """One message to a webhook or a subscription: part of the outbox while it waits, then of the log.

    Only `notifications` writes it. The name is older than subscriptions, and addresses and permissions contain it. A
    message to a subscription by webhook has both.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Failed")

    webhook = models.ForeignKey(Webhook, models.CASCADE, null=True, related_name="deliveries", db_index=False)
    subscription = models.ForeignKey(
        "Subscription", models.CASCADE, null=True, related_name="deliveries", db_index=False
    )
    event_id = models.UUIDField(_("event"), help_text=_("Sent as webhook-id or Message-ID, the same in each attempt."))
    type = models.CharField(max_length=30, choices=Event)
    batch = models.ForeignKey("Batch", models.SET_NULL, null=True, related_name="webhook_deliveries")
    #: The facts of the change, from which the content is prepared.
    facts = models.JSONField(default=dict, editable=False)
    payload = models.TextField(help_text=_("The signed body, or the facts from which a message is written."))
    created_at = models.DateTimeField(_("created"), default=timezone.now, db_index=True)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(
        _("next attempt"), null=True, help_text=_("Empty once it is delivered or has failed.")
    )
    delivered_at = models.DateTimeField(_("delivered"), null=True)
    http_status = models.PositiveIntegerField(_("last HTTP status"), null=True)
    error = models.TextField(_("last error"), blank=True)

    objects = models.Manager.from_queryset(WebhookDeliveryQuerySet)()

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        constraints = [
            models.UniqueConstraint(fields=["webhook", "event_id"], name="one_delivery_per_webhook_and_event"),
            models.UniqueConstraint(fields=["subscription", "event_id"], name="one_delivery_per_subscriber_and_event"),
            models.CheckConstraint(
                name="webhookdelivery_has_a_receiver",
                condition=Q(webhook__isnull=False) | Q(subscription__isnull=False),
            ),
            # It waits, was delivered, or failed with an error.
            models.CheckConstraint(
                name="webhookdelivery_state_is_one",
                condition=Q(next_attempt_at__isnull=False, delivered_at__isnull=True)
                | Q(next_attempt_at__isnull=True, delivered_at__isnull=False, error="")
                | (Q(next_attempt_at__isnull=True, delivered_at__isnull=True) & ~Q(error="")),
            ),
        ]
        # For the due deliveries of one webhook, however long the log is.
        indexes = [
            models.Index(
                fields=["webhook", "next_attempt_at"],
                name="webhookdelivery_waiting",
                condition=Q(next_attempt_at__isnull=False),
            ),
            models.Index(
                fields=["subscription", "next_attempt_at"],
                name="delivery_waiting_for_somebody",
                condition=Q(subscription__isnull=False, next_attempt_at__isnull=False),
            ),
            models.Index(fields=["id"], name="delivery_to_prepare", condition=Q(payload="")),
        ]

    def __str__(self) -> str:
        return translate(Sentence("%(type)s for %(receiver)s", type=self.type, receiver=self.receiver))

    @property
    def receiver(self) -> Webhook | Subscription:
        receiver = self.subscription or self.webhook
        assert receiver is not None
        return receiver

    @property
    def is_open(self) -> bool:
        """Whether its subscription and its webhook are active."""
        return all(one.is_active for one in (self.webhook, self.subscription) if one)

    @property
    def state(self) -> State:
        if self.next_attempt_at is not None:
            return self.State.WAITING
        return self.State.FAILED if self.delivered_at is None else self.State.DELIVERED
