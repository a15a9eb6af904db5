"""The outbox of the webhooks: what is to be told to whom, in the database, until it is told or given up.

An event is written in the transaction of the change that it tells of: no change without its message, no message of a
change that was rolled back. A worker claims what is due for a while (the visibility time-out), sends it, and settles
it; what a killed worker had claimed falls due again. So each message arrives at least once, and its id tells the
receiver which one it has already. The order of locks is webhook → deliveries.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django.db import transaction
from django.db.models import F, OuterRef, Q, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from batches.checking.checkers.guard import is_public, read_networks
from batches.conf import get_config
from batches.limits import MAX_ERROR
from batches.lists.addresses import InvalidAddress, hostname_of, normalise_address
from batches.models import Batch, Event, Webhook, WebhookDelivery, new_secret
from batches.models.vocabulary import as_json, batch_as_dict
from batches.text import clean_text

#: Seconds from each failed attempt to the next one, the last of them a day and a half after the first. A delivery whose
#: last attempt failed is given up.
SCHEDULE = (5, 30, 2 * 60, 10 * 60, 3600, 3 * 3600, 8 * 3600, 24 * 3600)
#: By which part a wait is longer or shorter by chance, so that what failed together does not come back together.
JITTER = 0.2
#: The longest `Retry-After` that is honoured, in seconds.
MAX_RETRY_AFTER = 24 * 3600

#: How long both secrets sign after a new one was made.
ROTATION = timedelta(hours=24)

#: Settled deliveries are kept as a log for so long, and deleted in steps of so many.
KEPT = timedelta(days=30)
PRUNE_CHUNK = 1000


# Writing


def announce(event: Event, batch: Batch) -> None:
    """Tell each active webhook what became of this batch. Within the transaction in which it does."""
    # Locked, so that none of them can be deleted before this commits: that would undo the change too.
    active = Webhook.objects.select_for_update(no_key=True).filter(is_active=True).order_by("pk")
    _write(event, active.values_list("pk", flat=True), batch)


def send_test(webhook: Webhook) -> bool:
    """Put a test event for this webhook into the outbox; False if it is not active any more."""
    with transaction.atomic():
        active = Webhook.objects.select_for_update(no_key=True).filter(pk=webhook.pk, is_active=True)
        return _write(Event.TEST, active.values_list("pk", flat=True)) > 0


def _write(event: Event, webhook_ids: Iterable[int], batch: Batch | None = None) -> int:
    event_id = uuid.uuid4()
    payload = as_json(_payload(event_id, event, batch), separators=(",", ":"))
    deliveries = [
        WebhookDelivery(
            webhook_id=webhook_id,
            event_id=event_id,
            type=event,
            batch=batch,
            payload=payload,
            next_attempt_at=Now(),
        )
        for webhook_id in webhook_ids
    ]
    return len(WebhookDelivery.objects.bulk_create(deliveries))


def _payload(event_id: uuid.UUID, event: Event, batch: Batch | None) -> dict[str, Any]:
    return {
        "id": event_id,
        "type": event.value,
        "timestamp": timezone.now(),
        "data": {"batch": None if batch is None else batch_as_dict(batch)},
    }


# Sending: the worker's calls


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that its claimer may attempt until the visibility time-out. `attempt` counts from 1."""

    delivery_id: int
    webhook_id: int
    webhook: str
    url: str
    secrets: tuple[str, ...]
    event_id: str
    type: str
    payload: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt brought: the status of the answer, if there was one, and what was wrong with it, if anything."""

    http_status: int | None
    error: str = ""
    retry_after: float = 0.0


def claim_due(room: int, under_way: Mapping[int, int], per_webhook: int, visibility: float) -> list[Claim]:
    """Claim up to `room` due deliveries of active webhooks, for `visibility` seconds.

    `under_way` counts the caller's deliveries by webhook: a webhook gets no more than `per_webhook` at once, and one
    with fewer goes first, so that thousands waiting for a dead receiver hold nobody else up.
    """
    oldest = WebhookDelivery.objects.due().filter(webhook=OuterRef("pk")).order_by("next_attempt_at")
    waiting = Webhook.objects.filter(is_active=True).annotate(due=Subquery(oldest.values("next_attempt_at")[:1]))
    claims: list[Claim] = []
    for webhook in sorted(waiting.exclude(due=None).order_by("due"), key=lambda webhook: under_way.get(webhook.pk, 0)):
        free = min(per_webhook - under_way.get(webhook.pk, 0), room - len(claims))
        if free > 0:
            claims += _claim_of(webhook, free, timedelta(seconds=visibility))
    return claims


def _claim_of(webhook: Webhook, limit: int, visibility: timedelta) -> list[Claim]:
    """One conditional write for each: of two workers that saw it due, one hits the row."""
    due = WebhookDelivery.objects.due().filter(webhook=webhook)
    return [
        _claim(webhook, delivery)
        for delivery in due.order_by("next_attempt_at")[:limit]
        if due.filter(pk=delivery.pk, attempts=delivery.attempts).update(
            next_attempt_at=Now() + visibility, attempts=F("attempts") + 1
        )
    ]


def _claim(webhook: Webhook, delivery: WebhookDelivery) -> Claim:
    return Claim(
        delivery_id=delivery.pk,
        webhook_id=webhook.pk,
        webhook=str(webhook),
        url=webhook.url,
        secrets=valid_secrets(webhook),
        event_id=str(delivery.event_id),
        type=delivery.type,
        payload=delivery.payload,
        attempt=delivery.attempts + 1,
    )


def settle(claim: Claim, answer: Answer) -> None:
    """Write down what an attempt brought: delivered, to be tried again, or given up.

    A failure counts only as long as nobody else has claimed the delivery since; a success counts in any case.
    """
    delivery = WebhookDelivery.objects.filter(pk=claim.delivery_id)
    if not answer.error:
        delivery.filter(delivered_at=None).update(
            delivered_at=Now(), next_attempt_at=None, http_status=answer.http_status, error=""
        )
        return
    with transaction.atomic():
        is_gone = answer.http_status == HTTPStatus.GONE
        if is_gone:  # the receiver wants nothing more; unless it has another address by now
            Webhook.objects.filter(pk=claim.webhook_id, url=claim.url).update(is_active=False)
        wait = None if is_gone else seconds_to_next_attempt(claim.attempt, answer.retry_after)
        delivery.waiting().filter(attempts=claim.attempt).update(
            next_attempt_at=None if wait is None else Now() + timedelta(seconds=wait),
            http_status=answer.http_status,
            error=clean_text(answer.error, MAX_ERROR) + (": the webhook was switched off" if is_gone else ""),
        )


def seconds_to_next_attempt(attempt: int, retry_after: float) -> float | None:
    """How long to wait after this attempt has failed; None if it was the last one."""
    if attempt > len(SCHEDULE):
        return None
    backoff = SCHEDULE[attempt - 1] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return max(backoff, min(retry_after, MAX_RETRY_AFTER))


def prune() -> bool:
    """Delete old deliveries that are settled, or wait for a webhook that is not active. Whether there may be more."""
    idle = Q(next_attempt_at=None) | Q(webhook__in=Webhook.objects.filter(is_active=False))
    old = WebhookDelivery.objects.filter(idle, created_at__lt=timezone.now() - KEPT).order_by("created_at")
    chunk = list(old.values_list("pk", flat=True)[:PRUNE_CHUNK])
    WebhookDelivery.objects.filter(pk__in=chunk).delete()
    return len(chunk) == PRUNE_CHUNK


# Steering: the doors' calls


def deliver_again(delivery: WebhookDelivery) -> bool:
    """Try a delivery that was given up from the beginning; False if it was not given up."""
    given_up = WebhookDelivery.objects.given_up().filter(pk=delivery.pk)
    return given_up.update(next_attempt_at=Now(), attempts=0, error="") > 0


def replace_secret(webhook: Webhook) -> None:
    """Sign with a new secret; for a day, the one before signs too."""
    with transaction.atomic():
        locked = Webhook.objects.select_for_update(no_key=True).get(pk=webhook.pk)
        locked.previous_secret, locked.secret = locked.secret, new_secret()
        locked.previous_secret_until = timezone.now() + ROTATION
        locked.save(update_fields=["secret", "previous_secret", "previous_secret_until"])


def delete_webhooks(webhook_ids: Iterable[int]) -> None:
    """Delete them with their deliveries."""
    with transaction.atomic():
        # First the lock: an event that is written to one of them meanwhile would make the deletion fail.
        locked = Webhook.objects.select_for_update().filter(pk__in=list(webhook_ids)).order_by("pk")
        Webhook.objects.filter(pk__in=[webhook.pk for webhook in locked]).delete()


def valid_secrets(webhook: Webhook) -> tuple[str, ...]:
    """The secrets that sign now, the newest first."""
    until = webhook.previous_secret_until
    if until is not None and until > timezone.now():
        return webhook.secret, webhook.previous_secret
    return (webhook.secret,)


def usable_address(text: str) -> str:
    """The address of a webhook in its normal form. Raises InvalidAddress with a sentence that says why it is none.

    What a name resolves to is looked at with each connection; an address that is written out can be told at once.
    """
    address = normalise_address(text)
    host = hostname_of(address)
    # RFC 6761: these names never leave the machine.
    literal = "127.0.0.1" if host == "localhost" or host.endswith(".localhost") else host
    looks_like_ip = ":" in literal or literal.replace(".", "").isdigit()
    if looks_like_ip and not is_public(literal, read_networks(get_config().allowed_networks)):
        raise InvalidAddress(
            f"{host} is not a public address. If it is meant, add {literal} to BATCHES_ALLOWED_NETWORKS."
        )
    return address
