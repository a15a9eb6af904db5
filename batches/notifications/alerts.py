"""Notifies the subscribers of the queue that it has been held for a long time, or that no worker runs.

Workers check this, and also `manage.py queue alert`, for cron: without a worker, nothing else can notify them. The next
worker then notifies late. The ID of an alert is derived from its subject, so only the first worker sends it, and again
only after its delivery has been pruned.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from batches.models import Event, Queue, Subscription, WebhookDelivery, Worker
from batches.models.public_fields import as_plain

from .outbox import make_delivery

Topic = Subscription.Topic


def write_alerts(*, is_back: bool = False) -> int:
    """Store the alerts that are due by the `minutes` of each subscription. Returns the number of new ones.

    A worker that has just started passes `is_back`, before its first heartbeat.
    """
    wanted = list(Subscription.objects.filter(is_active=True, list=None).order_by("pk"))
    queue = Queue.objects.annotate(now=Now()).first() if wanted else None
    if queue is None:
        return 0
    alerts = [alert for subscription in wanted for alert in make_alerts(subscription, queue, is_back)]
    ids = [alert.event_id for alert in alerts]
    stored = WebhookDelivery.objects.filter(subscription__in=wanted, event_id__in=ids)
    known = set(stored.values_list("event_id", flat=True))
    new = [alert for alert in alerts if alert.event_id not in known]
    return _insert(new) if new else 0


def make_alerts(subscription: Subscription, queue: Any, is_back: bool) -> Iterator[WebhookDelivery]:
    """`queue` has `now`, by the clock of the database."""
    patience = timedelta(minutes=subscription.minutes)
    if Topic.HELD in subscription.topics and queue.held and queue.held_at and queue.now - queue.held_at >= patience:
        facts = {"held_at": queue.held_at, "held_by": queue.held_by, "hold_reason": queue.hold_reason}
        yield _make_alert(Event.QUEUE_HELD, subscription, queue.held_at, facts | {"at": queue.now})
    if Topic.NO_WORKER in subscription.topics:
        worker = Worker.objects.last_seen()
        since = worker.seen_at if worker else subscription.created_at
        if queue.now - since >= patience:
            facts = {"worker": str(worker or ""), "since": since, "at": queue.now, "is_back": is_back}
            yield _make_alert(Event.NO_WORKER, subscription, since, facts)


def _make_alert(event: Event, subscription: Subscription, since: datetime, facts: dict[str, Any]) -> WebhookDelivery:
    event_id = uuid.uuid5(subscription.pk, f"{event} {since.isoformat()}")
    return make_delivery(subscription, event, event_id, facts=as_plain(facts))


def _insert(alerts: list[WebhookDelivery]) -> int:
    with transaction.atomic():
        # A subscription that is deleted at the same time would make the insertion of the others fail.
        ids = [alert.subscription_id for alert in alerts if alert.subscription_id]
        locked = Subscription.objects.select_for_update(no_key=True).filter(pk__in=ids).order_by("pk")
        there = {subscription.pk for subscription in locked}
        kept = [alert for alert in alerts if alert.subscription_id in there]
        WebhookDelivery.objects.bulk_create(kept, ignore_conflicts=True)
    return len(kept)
