"""The calls of BatchManager that change subscriptions. Lock order: list → subscription."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.utils.translation import gettext_noop as _

from batches.limits import MAX_DELAY, MAX_FAILURES, MAX_SUBSCRIPTIONS, MAX_URL
from batches.models import Action, Subscription, Webhook
from batches.notifications import subscriptions
from batches.notifications.chats import InvalidChat, open_chat
from batches.text import Sentence, clean_text

from .refusals import NO_SUBSCRIPTION, Code, Refused, refusable
from .values import as_uuid, find_list, find_row, require_flag, require_within
from .writer import QueueWriter

Channel, Topic = Subscription.Channel, Subscription.Topic

# The advice in refusals.
TOPIC_OF_QUEUE = _("Choose at least one of the topics of the queue: %(possible)s.")
TOPIC_OF_LIST = _("Choose at least one of the topics of a list: %(possible)s.")
DIGEST_HOUR = _("The hour of the digest must be a whole number from %(least)s to %(most)s.")
AFTER_FAILURES = _("The number of failures in a row must be a whole number from %(least)s to %(most)s.")
FAILED_PERCENT = _("The share of failed profiles must be a whole number from %(least)s to %(most)s.")
MINUTES = _("The number of minutes must be a whole number from %(least)s to %(most)s.")


class SubscriptionCalls(QueueWriter):
    """Subscribes people and programs to the events of a list, or of the queue."""

    @refusable
    def subscribe(
        self, list_id: object, address: str, topics: object, channel: str = Channel.EMAIL, **options: Any
    ) -> Subscription:
        """Subscribe this address to these topics of a list, or without `list_id` of the queue.

        It takes the options of `change_subscription`.
        """
        channel = require_channel(channel)
        values = clean_options({"topics": topics, **options}, of_queue=list_id is None)
        with transaction.atomic():
            of_list = None if list_id is None else find_list(list_id, lock=True)
            others = Subscription.objects.filter(list=of_list)
            if others.count() >= MAX_SUBSCRIPTIONS:
                message = Sentence("A list, or the queue, has at most %(most)s subscriptions.", most=MAX_SUBSCRIPTIONS)
                raise Refused(Code.BAD_VALUE, message)
            usable = clean_text(address, MAX_URL).strip() if isinstance(address, str) else ""
            target = RECEIVERS[channel](usable)
            try:
                with transaction.atomic():
                    made = Subscription.objects.create(list=of_list, channel=channel, **target, **values)
            except IntegrityError as error:  # two calls can pass the checks above at the same moment
                message = Sentence("This address is already subscribed. Change that subscription.")
                raise Refused(Code.ALREADY_EXISTS, message) from error
            self._log_subscription(made, Action.SUBSCRIBE, describe(made))
        return made

    @refusable
    def change_subscription(self, subscription_id: object, **values: Any) -> Literal[True]:
        """Set its `topics`, `after_failures`, `failed_percent`, `minutes`, `digest_hour` or `is_active`."""
        with self._changing_subscription(subscription_id) as changed:
            cleaned = clean_options(values, of_queue=changed.list_id is None)
            news = {name: value for name, value in cleaned.items() if value != getattr(changed, name)}
            for name, value in news.items():
                setattr(changed, name, value)
            if news:
                changed.save(update_fields=list(news))
                self._log_subscription(changed, Action.CHANGE_SUBSCRIPTION, describe(changed))
        return True

    @refusable
    def unsubscribe(self, subscription_id: object) -> Literal[True]:
        """Delete it with its deliveries: waiting messages are not sent."""
        with self._changing_subscription(subscription_id) as ended:
            self._log_subscription(ended, Action.UNSUBSCRIBE, describe(ended))
            ended.delete()
        return True

    def delete_webhooks(self, webhook_ids: Iterable[int]) -> None:
        """Delete them with their deliveries, and end the subscriptions that name them."""
        webhook_ids = list(webhook_ids)
        with transaction.atomic():
            # Without the locks, an event written at the same time would make the deletion fail.
            subscriptions = Subscription.objects.filter(webhook__in=webhook_ids).order_by("pk")
            list(subscriptions.select_for_update())
            locked = Webhook.objects.select_for_update().filter(pk__in=webhook_ids).order_by("pk")
            gone = Webhook.objects.filter(pk__in=[webhook.pk for webhook in locked])
            for ended in subscriptions:  # with those that somebody has added until now
                self._log_subscription(ended, Action.UNSUBSCRIBE, describe(ended))
            gone.delete()

    @refusable
    def send_test_message(self, subscription_id: object) -> Literal[True]:
        """Store a test message for the next worker. Refused if the subscription is not active."""
        found = find_subscription(subscription_id)
        if not subscriptions.write_test_message(found):
            message = Sentence("The subscription is not active. Activate it before you send a test message.")
            raise Refused(Code.BAD_VALUE, message)
        return True

    @contextmanager
    def _changing_subscription(self, subscription_id: object) -> Iterator[Subscription]:
        with transaction.atomic():
            found = find_subscription(subscription_id)
            if found.list_id:
                find_list(found.list_id, lock=True)
            yield find_subscription(subscription_id, lock=True)

    def _log_subscription(self, subscription: Subscription, action: Action, message: str) -> None:
        self._log(None, action, message, list_id=subscription.list_id)


def describe(subscription: Subscription) -> str:
    """A description for the log, without the address, which fewer people may see."""
    topics = ", ".join(subscription.topics)
    daily = "" if subscription.digest_hour is None else f", daily at {subscription.digest_hour}"
    off = "" if subscription.is_active else ", off"
    return f"{subscription.channel_word}: {topics}{daily}{off}"


def find_subscription(subscription_id: object, *, lock: bool = False) -> Subscription:
    """Raises Refused for any value that is not the ID of a subscription."""
    found = Subscription.objects.select_for_update(no_key=True) if lock else Subscription.objects.select_related("list")
    return find_row(found, as_uuid(subscription_id), subscription_id, NO_SUBSCRIPTION)


# Values of callers


def require_channel(channel: object) -> str:
    if channel not in Channel.values:
        message = Sentence("Unknown channel. Use one of: %(known)s.", known=", ".join(Channel.values))
        raise Refused(Code.BAD_VALUE, message)
    return str(channel)


def clean_options(values: Mapping[str, Any], *, of_queue: bool) -> dict[str, Any]:
    """The values of these attributes of a subscription. Raises Refused."""
    if of_queue and values.get("digest_hour") is not None:
        raise Refused(Code.BAD_VALUE, Sentence("A subscription to the queue has no digest."))
    clean: dict[str, Callable[[Any], Any]] = {**CLEAN, "topics": partial(clean_topics, of_queue=of_queue)}
    return {name: clean[name](value) for name, value in values.items()}


def clean_topics(value: object, *, of_queue: bool) -> list[str]:
    """The topics without duplicates, in our order."""
    possible = [topic.value for topic in Subscription.list_topics(of_queue=of_queue)]
    wanted = value if isinstance(value, list | tuple | set | frozenset) else []
    if not wanted or not all(topic in possible for topic in wanted):
        advice = TOPIC_OF_QUEUE if of_queue else TOPIC_OF_LIST
        raise Refused(Code.BAD_VALUE, Sentence(advice, possible=", ".join(possible)))
    return [topic for topic in possible if topic in wanted]


def clean_hour(value: object) -> int | None:
    return None if value is None else require_within(0, 23, DIGEST_HOUR, value)


CLEAN: Mapping[str, Callable[[Any], Any]] = {
    "after_failures": partial(require_within, 1, MAX_FAILURES, AFTER_FAILURES),
    "failed_percent": partial(require_within, 0, 100, FAILED_PERCENT),
    "minutes": partial(require_within, 1, MAX_DELAY, MINUTES),
    "digest_hour": clean_hour,
    "is_active": require_flag,
}


def find_mailbox(address: str) -> dict[str, Any]:
    try:
        validate_email(address)
    except ValidationError as error:
        message = Sentence("This is not an e-mail address. Write one such as ada@example.org.")
        raise Refused(Code.BAD_VALUE, message) from error
    return {"address": address}


def find_webhook(address: str) -> dict[str, Any]:
    """The webhook with this address. It must exist, since it has a secret that its receiver needs."""
    webhook = Webhook.objects.select_for_update(no_key=True).filter(url=address).first()
    if webhook is None:
        message = Sentence("No webhook has this address. Add it in the admin, and give its secret to the receiver.")
        raise Refused(Code.BAD_VALUE, message)
    return {"address": str(webhook.pk), "webhook": webhook}


def find_chat(address: str) -> dict[str, Any]:
    try:
        open_chat(address)
    except InvalidChat as error:
        raise Refused(Code.BAD_VALUE, str(error)) from error
    return {"address": address}


#: The columns of a receiver by channel.
RECEIVERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    Channel.EMAIL: find_mailbox,
    Channel.WEBHOOK: find_webhook,
    Channel.APPRISE: find_chat,
}
