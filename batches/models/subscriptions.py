"""Subscriptions: the address to notify, the topics and the channel."""

import uuid

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import override

from batches.limits import MAX_STATUS, MAX_URL
from batches.text import Sentence, choose_plural, translate


def no_topics() -> list[str]:
    """`list` is a field in the class below, so it is called here."""
    return []


class Subscription(models.Model):
    """Notifies somebody about a list, or without a list about the queue. Only BatchManager changes it."""

    class Channel(models.TextChoices):
        EMAIL = "email", _("e-mail")
        WEBHOOK = "webhook", _("webhook")
        APPRISE = "apprise", "Apprise"

    class Topic(models.TextChoices):
        """The topics of messages."""

        STORIES = "stories", _("new stories")
        DONE = "done", _("a run is done, with a summary")
        ERROR = "error", _("a run stopped with an error")
        FAILING = "failing", _("profiles that have begun to fail")
        RECOVERED = "recovered", _("profiles that have recovered")
        FAILURES = (
            "failures",
            _("many failures: a share of the profiles, or twice as many as in the previous run"),
        )
        HELD = "held", _("the queue has been held for a long time")
        NO_WORKER = "no_worker", _("no worker runs")

    #: The topics of the queue; lists have the others.
    OF_QUEUE = frozenset({Topic.HELD, Topic.NO_WORKER})

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    list = models.ForeignKey("ProfileList", models.CASCADE, null=True, blank=True, related_name="subscriptions")
    channel = models.CharField(max_length=MAX_STATUS, choices=Channel, default=Channel.EMAIL)
    #: An address of Apprise is a secret. For a webhook it is the webhook's ID: the webhook can get another address.
    address = models.CharField(max_length=MAX_URL)
    webhook = models.ForeignKey("Webhook", models.CASCADE, null=True, blank=True, related_name="subscriptions")
    topics = models.JSONField(default=no_topics)
    failed_percent = models.PositiveSmallIntegerField(
        default=20, help_text=_("Report failures above this percentage of the profiles.")
    )
    after_failures = models.PositiveSmallIntegerField(
        default=3, help_text=_("Failed checks in a row after which a profile has begun to fail.")
    )
    minutes = models.PositiveIntegerField(
        default=60, help_text=_("Minutes that the queue is held, or that no worker runs, before a message is sent.")
    )
    digest_hour = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text=_(
            "Hour of one message a day (0 to 23), in the time zone of the list. Empty: a message for each run."
        ),
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Messages of an inactive subscription wait.")
    )
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)

    class Meta:
        default_permissions = ()  # the permission to change lists is enough
        constraints = [
            models.CheckConstraint(
                name="subscription_has_its_webhook",
                condition=Q(channel="webhook", webhook__isnull=False)
                | (~Q(channel="webhook") & Q(webhook__isnull=True)),
            ),
            models.CheckConstraint(
                name="subscription_digest_hour", condition=Q(digest_hour__isnull=True) | Q(digest_hour__lte=23)
            ),
            models.UniqueConstraint(fields=["list", "channel", "address"], name="one_subscription_per_address"),
            models.UniqueConstraint(
                fields=["channel", "address"],
                condition=Q(list__isnull=True),
                name="one_subscription_of_the_queue_per_address",
            ),
        ]

    def __str__(self) -> str:
        return translate(self.as_sentence)

    @property
    def as_sentence(self) -> Sentence:
        """A description without the address, which fewer people may see."""
        channel = self.channel_word
        if self.list is None:
            return Sentence("%(channel)s for the queue", channel=channel)
        return Sentence("%(channel)s for “%(list)s”", channel=channel, list=self.list)

    @property
    def channel_word(self) -> Sentence:
        with override("en"):
            return Sentence(str(self.get_channel_display()))

    @classmethod
    def list_topics(cls, *, of_queue: bool) -> tuple[Topic, ...]:
        """The topics of the queue, or of lists."""
        return tuple(topic for topic in cls.Topic if (topic in cls.OF_QUEUE) == of_queue)

    @classmethod
    def suggest_topics(cls, *, of_queue: bool) -> tuple[Topic, ...]:
        """The default topics of a new subscription."""
        return cls.list_topics(of_queue=True) if of_queue else (cls.Topic.STORIES, cls.Topic.ERROR)

    @property
    def when(self) -> Sentence:
        """When a message is sent."""
        if self.list_id is None:
            return choose_plural("after %(count)s minute", "after %(count)s minutes", count=self.minutes)
        if self.digest_hour is None:
            return Sentence("each run")
        return Sentence("daily at %(hour)s", hour=self.digest_hour)

    @property
    def shown_address(self) -> str:
        """The address as pages show it, without secrets."""
        if self.channel == self.Channel.APPRISE:
            return f"{self.address.partition('://')[0]}://…"
        return self.webhook.url if self.webhook else self.address
