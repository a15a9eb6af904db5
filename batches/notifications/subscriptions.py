"""Stores the messages of subscriptions in the transaction of the change, in constant time, without their content.

`messages` reads the content afterwards. Lock order: subscription → webhook → deliveries.
"""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from batches.lists.cron import InvalidSchedule, iterate_times
from batches.models import Batch, Event, ProfileList, StoryResult, Subscription, WebhookDelivery
from batches.models.vocabulary import as_plain, batch_as_dict

from .outbox import make_delivery


def write_run(batch: Batch) -> None:
    """Store the messages about the end of a list's run.

    Call it in the transaction of the change, before other events.
    """
    if batch.list is None:
        return
    # The lock keeps them from being deleted before this commits, which would roll back the change as well.
    locked = Subscription.objects.active().select_for_update(no_key=True).filter(list=batch.list_id).order_by("pk")
    if subscriptions := list(locked):
        last_story = StoryResult.objects.filter(batch=batch).aggregate(last=Max("pk"))["last"]
        facts = {"batch": batch_as_dict(batch), "last_story": last_story or 0, "at": timezone.now()}
        insert_deliveries(Event.RUN, subscriptions, facts, batch=batch, digests_of=batch.list)


def write_test_message(subscription: Subscription) -> bool:
    """False if it is not active."""
    with transaction.atomic():
        active = Subscription.objects.active().select_for_update(no_key=True).filter(pk=subscription.pk)
        return insert_deliveries(Event.SUBSCRIPTION_TEST, active, {}) > 0


def insert_deliveries(
    event: Event,
    subscriptions: Iterable[Subscription],
    facts: dict[str, Any],
    *,
    batch: Batch | None = None,
    digests_of: ProfileList | None = None,
) -> int:
    """Store one delivery for each subscription, still without content. With `digests_of`, a digest gets a part."""
    deliveries, content = [], {"batch": batch, "facts": as_plain(facts)}
    for subscription in subscriptions:
        if digests_of is None or subscription.digest_hour is None:
            deliveries.append(make_delivery(subscription, event, uuid.uuid4(), **content))
        else:
            due = {"next_attempt_at": next_digest(digests_of, subscription.digest_hour)}
            deliveries.append(make_delivery(subscription, Event.DIGEST_PART, uuid.uuid4(), **content, **due))
    return len(WebhookDelivery.objects.bulk_create(deliveries))


def next_digest(found: ProfileList, hour: int) -> datetime:
    """The next time at this hour, in the time zone of the list, or in UTC if the system has lost that."""
    now = timezone.now()
    try:
        return next(iterate_times(f"0 {hour} * * *", found.time_zone, now))
    except InvalidSchedule:
        return next(iterate_times(f"0 {hour} * * *", "UTC", now))
