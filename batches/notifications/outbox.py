"""The outbox: messages to webhooks and subscriptions are stored as deliveries until they are delivered or have failed.

An event is stored in the transaction of the change that it reports, so every committed change has its event, and a
change that is rolled back has no event. The messages of subscriptions are prepared afterwards by `message_data`. A
worker claims due deliveries until a visibility timeout, sends them and settles them. The deliveries of a killed worker
are due again after the timeout. So each event arrives at least once, and its ID lets receivers detect repeats. Lock
order: subscription → webhook → deliveries.
"""

import random
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from django.db import transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from batches.checking.checkers.guard import is_public, read_networks
from batches.conf import get_config
from batches.limits import MAX_ERROR
from batches.lists.addresses import InvalidAddress, hostname_of, normalise_address
from batches.models import Batch, Event, Subscription, Webhook, WebhookDelivery, new_secret
from batches.models.public_fields import as_json, batch_as_dict
from batches.text import clean_text

#: Seconds to wait after each failed attempt; the last attempt is a day and a half after the first. Then delivery fails.
BACKOFF = (5, 30, 2 * 60, 10 * 60, 3600, 3 * 3600, 8 * 3600, 24 * 3600)
#: Random variation of each wait, as a fraction, so that deliveries that failed together are not retried together.
JITTER = 0.2
#: The longest `Retry-After` that is honoured, in seconds.
MAX_RETRY_AFTER = 24 * 3600

#: How long a claimed delivery belongs to its worker; then it counts as lost. This is well above the timeout of
#: receivers, since settling may wait for the database.
VISIBILITY = timedelta(minutes=1)

#: How long the previous secret keeps signing after a rotation, so that receivers can switch without downtime.
ROTATION = timedelta(hours=24)
#: The longest time between the presses of a double click. The second one would end the previous secret at once.
DOUBLE_CLICK = timedelta(seconds=10)


# Writing


def write_event(event: Event, batch: Batch) -> None:
    """Notify each active webhook of this batch. Call it in the transaction of the change."""
    # The lock keeps a webhook from being deleted before this commits, which would roll back the change as well.
    active = Webhook.objects.select_for_update(no_key=True).filter(is_active=True, every_batch=True).order_by("pk")
    _insert_deliveries(event, active.values_list("pk", flat=True), batch)


def write_test_event(webhook: Webhook) -> bool:
    """Send a test event to this webhook; False if it is not active."""
    with transaction.atomic():
        active = Webhook.objects.select_for_update(no_key=True).filter(pk=webhook.pk, is_active=True)
        return _insert_deliveries(Event.TEST, active.values_list("pk", flat=True)) > 0


def _insert_deliveries(event: Event, webhook_ids: Iterable[int], batch: Batch | None = None) -> int:
    event_id, data = uuid.uuid4(), {"batch": batch_as_dict(batch) if batch else None}
    content = {"event_id": event_id, "type": event, "batch": batch, "payload": render_payload(event_id, event, data)}
    deliveries = [WebhookDelivery(webhook_id=pk, next_attempt_at=Now(), **content) for pk in webhook_ids]
    return len(WebhookDelivery.objects.bulk_create(deliveries))


def make_delivery(subscription: Subscription, event: str, event_id: uuid.UUID, **values: Any) -> WebhookDelivery:
    """A delivery to this subscription, due at once unless `values` say otherwise. It may get its payload later."""
    values = {"next_attempt_at": Now(), "webhook_id": subscription.webhook_id, **values}
    return WebhookDelivery(subscription=subscription, type=event, event_id=event_id, **values)


def render_payload(event_id: uuid.UUID, event: str, data: Any) -> str:
    payload = {"id": event_id, "type": event, "timestamp": timezone.now(), "data": data}
    return as_json(payload, separators=(",", ":"))


# Sending: called by the worker. A claimed delivery has its webhook, and counts the attempt that follows.


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The outcome of an attempt. `http_status` is None without a response, `error` is empty after a success.

    `retry_after` are the seconds that the receiver asked to wait. A `final` refusal is not retried.
    """

    http_status: int | None
    error: str = ""
    retry_after: float = 0.0
    final: bool = False


#: The receiver of a delivery, for fair shares: the webhook, or else the subscription.
Receiver = tuple[int | None, uuid.UUID | None]


def receiver_of(delivery: WebhookDelivery) -> Receiver:
    return delivery.webhook_id, None if delivery.webhook_id else delivery.subscription_id


def claim_due(limit: int, in_flight: Mapping[Receiver, int], max_per_receiver: int) -> list[WebhookDelivery]:
    """Claim up to `limit` due deliveries to active receivers, until the visibility timeout.

    `in_flight` counts the caller's deliveries by receiver. A receiver gets at most `max_per_receiver` at once, and
    receivers with fewer in flight go first, so that the backlog of a dead receiver does not delay the others.
    """
    webhooks = [(when, (pk, None)) for pk, when in _waiting_for(Webhook.objects.all(), "webhook")]
    others = Subscription.objects.filter(webhook=None)
    receivers = webhooks + [(when, (None, pk)) for pk, when in _waiting_for(others, "subscription")]
    claims: list[WebhookDelivery] = []
    for _, receiver in sorted(receivers, key=lambda waiting: (in_flight.get(waiting[1], 0), waiting[0])):
        free = min(max_per_receiver - in_flight.get(receiver, 0), limit - len(claims))
        if free > 0:
            claims += _claim_for(receiver, free)
    return claims


def _waiting_for(receivers: QuerySet[Any], field: str) -> QuerySet[Any]:
    """(ID, due since) of the active receivers with a due delivery."""
    oldest = WebhookDelivery.objects.claimable().filter(**{field: OuterRef("pk")}).order_by("next_attempt_at")
    due = receivers.filter(is_active=True).annotate(due=Subquery(oldest.values("next_attempt_at")[:1]))
    waiting: QuerySet[Any] = due.exclude(due=None).values_list("pk", "due")
    return waiting


def _claim_for(receiver: Receiver, limit: int) -> list[WebhookDelivery]:
    """Claim each with a conditional write: of two workers that see a due delivery, only one updates the row."""
    webhook, subscription = receiver
    own = {"webhook": webhook} if webhook else {"webhook": None, "subscription": subscription}
    due = WebhookDelivery.objects.claimable().filter(**own)
    claims = []
    for delivery in due.select_related("webhook", "subscription__list").order_by("next_attempt_at")[:limit]:
        same = WebhookDelivery.objects.due().filter(pk=delivery.pk, attempts=delivery.attempts)
        if same.update(next_attempt_at=Now() + VISIBILITY, attempts=F("attempts") + 1):
            delivery.attempts += 1
            claims.append(delivery)
    return claims


def settle(claim: WebhookDelivery, result: AttemptResult) -> None:
    """Record the outcome of an attempt: delivered, to be retried, or failed.

    A failure counts only if the delivery was not claimed again since; a success always counts.
    """
    delivery = WebhookDelivery.objects.filter(pk=claim.pk)
    if not result.error:
        delivery.filter(delivered_at=None).update(
            delivered_at=Now(), next_attempt_at=None, http_status=result.http_status, error=""
        )
        return
    with transaction.atomic():
        is_gone = result.http_status == HTTPStatus.GONE
        if is_gone and claim.webhook:  # the receiver wants no more events; a new address is tried next
            is_gone = Webhook.objects.filter(pk=claim.webhook.pk, url=claim.webhook.url).update(is_active=False) > 0
        is_over = is_gone or result.final
        wait = None if is_over else seconds_to_next_attempt(claim.attempts, result.retry_after)
        delivery.waiting().filter(attempts=claim.attempts).update(
            next_attempt_at=None if wait is None else Now() + timedelta(seconds=wait),
            http_status=result.http_status,
            error=clean_text(result.error, MAX_ERROR) + (": the webhook was switched off" if is_gone else ""),
        )


def seconds_to_next_attempt(attempt: int, retry_after: float) -> float | None:
    """How long to wait after this attempt has failed; None after the last one."""
    if attempt > len(BACKOFF):
        return None
    backoff = BACKOFF[attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return max(backoff, min(retry_after, MAX_RETRY_AFTER))


def find_idle(before: datetime) -> QuerySet[WebhookDelivery]:
    """The deliveries from before this time that are settled or have an inactive receiver, oldest first."""
    idle = Q(next_attempt_at=None) | Q(webhook__in=Webhook.objects.filter(is_active=False))
    idle |= Q(subscription__in=Subscription.objects.filter(is_active=False))
    return WebhookDelivery.objects.filter(idle, created_at__lt=before).order_by("created_at")


# Managing: called by the admin


def reschedule(delivery: WebhookDelivery) -> bool:
    """Start a failed delivery again from the first attempt; False if it has not failed."""
    failed = WebhookDelivery.objects.failed().filter(pk=delivery.pk)
    return failed.update(next_attempt_at=Now(), attempts=0, error="") > 0


def rotate_secret(webhook: Webhook) -> None:
    """Sign with a new secret. During `ROTATION`, the previous secret signs as well."""
    until = timezone.now() + ROTATION
    webhooks = Webhook.objects.filter(pk=webhook.pk).exclude(previous_secret_until__gt=until - DOUBLE_CLICK)
    webhooks.update(previous_secret=F("secret"), secret=new_secret(), previous_secret_until=until)


def signing_secrets(webhook: Webhook) -> tuple[str, ...]:
    """The secrets that sign now, newest first."""
    until = webhook.previous_secret_until
    if until is not None and until > timezone.now():
        return webhook.secret, webhook.previous_secret
    return (webhook.secret,)


def normalise_webhook_url(text: str) -> str:
    """Normalise the address. Raises InvalidAddress, with the problem and the remedy.

    A host name is resolved and checked with each connection; an IP address can be checked here.
    """
    url = normalise_address(text)
    host = hostname_of(url)
    # RFC 6761: these names always mean the machine itself.
    literal = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    looks_like_ip = ":" in literal or literal.replace(".", "").isdigit()
    if looks_like_ip and not is_public(literal, read_networks(get_config().allowed_networks)):
        raise InvalidAddress(f"{host} is not a public address. To allow it, add {literal} to BATCHES_ALLOWED_NETWORKS.")
    return url
