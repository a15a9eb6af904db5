"""Stores the messages of subscriptions in the transaction of the change, in constant time, without their content.

`message_data` reads the content afterwards.
"""

import uuid
from datetime import datetime

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from batches.lists.cron import InvalidSchedule, iterate_times
from batches.models import Batch, Event, ProfileList, StoryResult, Subscription, WebhookDelivery
from batches.models.public_fields import as_plain, batch_as_dict

from .outbox import make_delivery


def write_run(batch: Batch) -> None:
    """Store the messages about the end of a list's run.

    Call it in the transaction of the change, before other events.
    """
    if batch.list is None:
        return
    # The lock keeps them from being deleted before this commits, which would roll back the change as well.
    active = Subscription.objects.filter(is_active=True, list=batch.list_id).order_by("pk")
    if subscriptions := list(active.select_for_update(no_key=True)):
        last_story = StoryResult.objects.filter(batch=batch).aggregate(last=Max("pk"))["last"]
        facts = as_plain({"batch": batch_as_dict(batch), "last_story": last_story or 0, "at": timezone.now()})
        deliveries = []
        for subscription in subscriptions:
            delivery = make_delivery(subscription, Event.RUN, uuid.uuid4(), batch=batch, facts=facts)
            if subscription.digest_hour is not None:
                delivery.type = Event.DIGEST_PART
                delivery.next_attempt_at = next_digest(batch.list, subscription.digest_hour)
            deliveries.append(delivery)
        WebhookDelivery.objects.bulk_create(deliveries)


def write_test_message(subscription: Subscription) -> bool:
    """False if it is not active."""
    with transaction.atomic():
        active = Subscription.objects.select_for_update(no_key=True).filter(is_active=True, pk=subscription.pk).first()
        if active:
            make_delivery(active, Event.SUBSCRIPTION_TEST, uuid.uuid4()).save()
    return active is not None


def next_digest(found: ProfileList, hour: int) -> datetime:
    """The next time at this hour, in the time zone of the list, or in UTC if the system has lost that."""
    now = timezone.now()
    try:
        return next(iterate_times(f"0 {hour} * * *", found.time_zone, now))
    except InvalidSchedule:
        return next(iterate_times(f"0 {hour} * * *", "UTC", now))
