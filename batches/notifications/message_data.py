"""Prepares the content of the messages to subscriptions, after the change that they report.

The change has stored a small delivery in its transaction. The content of its message is read here once and stored, so
that each attempt sends the same. A message without content is dropped. If several workers prepare the same message, the
first one counts.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from django.db import transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Now

from batches.models import (
    Attempt,
    Batch,
    BatchProfile,
    Event,
    Profile,
    StoryResult,
    Subscription,
    WebhookDelivery,
)
from batches.text import one_line

from .outbox import make_delivery, render_payload

Status, Topic = BatchProfile.Status, Subscription.Topic

#: The most that a message contains: profiles that fail or recover, and stories. It links to the rest.
MAX_PROFILES = 50
MAX_STORIES = 200
#: Characters of the titles and addresses in a message, and of a title.
MAX_SIZE = 100_000
MAX_TITLE = 300
#: Runs of a digest.
MAX_RUNS = 50
#: Messages that one call prepares.
MAX_PREPARED = 100
#: Fewer failed profiles are never reported as many, whatever their share.
MIN_FAILURES = 5


def prepare_messages() -> None:
    """Write the content of new deliveries, and merge the parts of digests that are due."""
    waiting = WebhookDelivery.objects.to_prepare().select_related("subscription__list", "batch")
    for delivery in waiting.filter(type__in=DATA).order_by("pk")[:MAX_PREPARED]:  # a newer version may know others
        prepare(delivery)
    due = WebhookDelivery.objects.due().filter(type=Event.DIGEST_PART, subscription__is_active=True)
    for subscription_id in set(due.exclude(payload="").values_list("subscription", flat=True)):
        merge_parts(subscription_id)


def prepare(delivery: WebhookDelivery) -> None:
    data = DATA[Event(delivery.type)](delivery)
    unprepared = WebhookDelivery.objects.to_prepare().filter(pk=delivery.pk)
    if data is None:
        unprepared.delete()
    else:
        payload = render_payload(delivery.event_id, delivery.type, data)
        unprepared.update(payload=payload)
        remove_forgotten(payload)


# Runs


def describe_run(delivery: WebhookDelivery) -> dict[str, Any] | None:
    """The report of a run for this subscription; None if there is nothing to report."""
    subscription, batch = delivery.subscription, delivery.batch
    if subscription is None or subscription.list is None or batch is None:  # the batch has been deleted since
        return None
    facts: dict[str, Any] = delivery.facts["batch"]
    topics: dict[str, Any] = {}
    if Topic.STORIES in subscription.topics:
        topics[Topic.STORIES] = describe_stories(find_stories(delivery, batch))
    previous = find_previous_run(batch)
    rows, number = BatchProfile.objects.of_batch(batch), subscription.after_failures
    period = find_beginning(delivery, previous), datetime.fromisoformat(delivery.facts["at"])
    if Topic.FAILING in subscription.topics and facts["failed_checks"]:
        topics[Topic.FAILING] = describe_profiles(rows.filter(have_begun_to_fail(number, period)))
    if Topic.RECOVERED in subscription.topics and facts["successful_checks"]:
        topics[Topic.RECOVERED] = describe_profiles(rows.filter(have_recovered(number, period)))
    if Topic.FAILURES in subscription.topics:
        topics[Topic.FAILURES] = describe_failures(facts, subscription, previous)
    if {"done": Topic.DONE, "error": Topic.ERROR}[facts["status"]] in subscription.topics:
        topics[facts["status"]] = True
    topics = {topic: what for topic, what in topics.items() if what}
    if not topics:
        return None
    found = {"id": subscription.list_id, "name": subscription.list.name}
    return {"list": found, "batch": facts, "topics": list(topics)} | {
        topic: what for topic, what in topics.items() if what is not True
    }


def find_stories(delivery: WebhookDelivery, batch: Batch) -> QuerySet[StoryResult]:
    """The stories that no earlier message about the same batch contained: it may have been retried, or queued again."""
    reported = find_earlier(delivery).filter(batch=batch).values_list("facts", flat=True)
    after = max((facts["last_story"] for facts in reported), default=0)
    return StoryResult.objects.filter(
        batch=batch, is_baseline=False, pk__gt=after, pk__lte=delivery.facts["last_story"]
    )


def find_earlier(delivery: WebhookDelivery) -> QuerySet[WebhookDelivery]:
    """The earlier messages about runs to the same subscription."""
    earlier = WebhookDelivery.objects.filter(subscription=delivery.subscription_id, pk__lt=delivery.pk)
    return earlier.filter(type__in=(Event.RUN, Event.DIGEST_PART))


def describe_stories(stories: QuerySet[StoryResult]) -> dict[str, Any] | None:
    """Grouped by profile in the order in which they were found: a profile's stories are found together."""
    first = stories.select_related("profile").order_by("pk")[:MAX_STORIES]
    profiles = [
        {
            "profile": profile.pk,
            "profile_url": profile.url,
            "profile_name": one_line(profile.name),
            "stories": [
                {"title": one_line(str(story))[:MAX_TITLE], "url": story.url, "published_at": story.published_at}
                for story in group
            ],
        }
        for profile, group in groupby(first, key=lambda story: story.profile)
    ]
    return {"total": stories.count(), "profiles": Room().take(profiles)} if profiles else None


@dataclass
class Room:
    """The remaining room in a message."""

    stories: int = field(default_factory=lambda: MAX_STORIES)
    size: int = field(default_factory=lambda: MAX_SIZE)

    def take(self, profiles: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The profiles with their stories that still fit."""
        taken = [profile | {"stories": [*filter(self._fits, profile["stories"])]} for profile in profiles]
        return [profile for profile in taken if profile["stories"]]

    def _fits(self, story: dict[str, Any]) -> bool:
        self.stories -= 1
        self.size -= len(story["title"]) + len(story["url"])
        return self.stories >= 0 and self.size >= 0


def find_beginning(delivery: WebhookDelivery, previous: Batch | None) -> datetime:
    """The start of the reported time: the last message to the subscription, or the end of the previous run."""
    last = find_earlier(delivery).order_by("-pk").values_list("facts", flat=True)[:1]
    ends = [datetime.fromisoformat(facts["at"]) for facts in last]
    if previous and previous.completed_at:
        ends.append(previous.completed_at)
    return max(ends, default=datetime.min.replace(tzinfo=UTC))


Period = tuple[datetime, datetime]


def have_begun_to_fail(number: int, period: Period) -> Q:
    """Profiles that failed in this check, and had their N-th failure in the period, whichever list checked them."""
    begin, end = period
    is_new = Q(profile__failing_since__gt=begin) | Q(profile__failures__lt=count_failures(begin) + number)
    return is_new & Q(status=Status.FAILED, profile__failures__gte=count_failures(end) + number)


def count_failures(since: datetime) -> Combinable:
    """Count the failures of a profile since then."""
    return _count_failures(BatchProfile.objects.all(), since) + _count_failures(Attempt.objects.all(), since)


def _count_failures(checks: QuerySet[Any], since: datetime) -> Combinable:
    # A check that the host has postponed has no duration.
    failed = {"status": Status.FAILED, "duration__isnull": False, "checked_at__gt": since}
    counted = checks.filter(profile=OuterRef("profile"), **failed).values("profile").annotate(count=Count("pk"))
    return Coalesce(Subquery(counted.values("count")), 0)


def have_recovered(number: int, period: Period) -> Q:
    """Without the start of the period, which has been reported."""
    begin, end = period
    recovered = {"profile__recovered_at__gt": begin, "profile__recovered_at__lte": end}
    return Q(status=Status.OK, profile__recovered_from__gte=number, **recovered)


def describe_profiles(rows: QuerySet[BatchProfile]) -> dict[str, Any] | None:
    profiles = [
        {
            "profile": row.profile.pk,
            "profile_url": row.profile.url,
            "profile_name": one_line(row.profile.name),
            "error": one_line(row.error)[:MAX_TITLE],
            "failing_since": row.profile.failing_since,
        }
        for row in rows.select_related("profile").order_by("pk")[:MAX_PROFILES]
    ]
    total = len(profiles) if len(profiles) < MAX_PROFILES else rows.count()
    return {"total": total, "profiles": profiles} if profiles else None


def describe_failures(
    facts: dict[str, Any], subscription: Subscription, previous: Batch | None
) -> dict[str, Any] | None:
    """None unless many failed: a share of the checked profiles, or twice as many as in the previous run."""
    failed, checked = facts["failed_checks"], facts["successful_checks"] + facts["failed_checks"]
    before = previous.failed_checks if previous else None
    is_large = failed * 100 > checked * subscription.failed_percent
    is_twice = before is not None and failed >= 2 * before
    if failed < MIN_FAILURES or not (is_large or is_twice):
        return None
    return {"failed": failed, "checked": checked, "before": before}


def find_previous_run(batch: Batch) -> Batch | None:
    """The previous run of the list that is done."""
    runs = Batch.objects.filter(list=batch.list_id, created_at__lt=batch.created_at, status=Batch.Status.DONE)
    return runs.order_by("-created_at").first()


# Digests


def merge_parts(subscription_id: uuid.UUID) -> None:
    """Merge the due parts into one message. The parts are kept in the log as delivered."""
    with transaction.atomic():
        # If several workers try, the first one merges.
        subscription = Subscription.objects.select_for_update(no_key=True).filter(pk=subscription_id).first()
        due = WebhookDelivery.objects.due().filter(subscription=subscription_id, type=Event.DIGEST_PART)
        parts = list(due.exclude(payload="").order_by("pk"))
        if subscription is None or not parts:
            return
        event_id = uuid.uuid5(parts[0].event_id, Event.DIGEST)
        payload = render_payload(event_id, Event.DIGEST, describe_digest(parts))
        make_delivery(subscription, Event.DIGEST, event_id, payload=payload).save()
        WebhookDelivery.objects.filter(pk__in=[part.pk for part in parts]).update(
            next_attempt_at=None, delivered_at=Now()
        )
    remove_forgotten(payload)


def describe_digest(parts: Sequence[WebhookDelivery]) -> dict[str, Any]:
    """The runs of a day, with as many stories as one message has."""
    runs, room = [json.loads(part.payload)["data"] for part in parts], Room()
    for run in runs:
        if Topic.STORIES in run:
            run[Topic.STORIES]["profiles"] = room.take(run[Topic.STORIES]["profiles"])
    return {
        "list": runs[-1]["list"],
        "topics": list(dict.fromkeys(topic for run in runs for topic in run["topics"])),
        "runs": runs[:MAX_RUNS],
        "runs_total": len(runs),
        "stories_total": sum(run[Topic.STORIES]["total"] for run in runs if Topic.STORIES in run),
    }


def describe_test(delivery: WebhookDelivery) -> dict[str, Any]:
    of_list = delivery.subscription.list if delivery.subscription else None
    return {"list": {"id": of_list.pk, "name": of_list.name} if of_list else None}


#: The function that reads the content of each event.
DATA: dict[Event, Callable[[WebhookDelivery], dict[str, Any] | None]] = {
    Event.RUN: describe_run,
    Event.DIGEST_PART: describe_run,
    Event.SUBSCRIPTION_TEST: describe_test,
    Event.QUEUE_HELD: lambda delivery: delivery.facts,
    Event.NO_WORKER: lambda delivery: delivery.facts,
}


def forget_profile(profile_id: int) -> None:
    """Remove the profile from all messages, sent and waiting ones."""
    for delivery in WebhookDelivery.objects.filter(payload__contains=f'"profile":{profile_id},').order_by("pk"):
        left = json.dumps(leave_out(json.loads(delivery.payload), profile_id), separators=(",", ":"))
        WebhookDelivery.objects.filter(pk=delivery.pk, payload=delivery.payload).update(payload=left)


def remove_forgotten(payload: str) -> None:
    """Remove profiles that were forgotten while this stored payload was prepared."""
    named = set(map(int, re.findall(r'"profile":(\d+),', payload)))
    for profile_id in named.difference(Profile.objects.filter(pk__in=named).values_list("pk", flat=True)):
        forget_profile(profile_id)


def leave_out(value: Any, profile_id: int) -> Any:
    """Remove the objects in lists that are about the profile."""
    if isinstance(value, dict):
        return {name: leave_out(inner, profile_id) for name, inner in value.items()}
    if isinstance(value, list):
        is_about = [isinstance(inner, dict) and inner.get("profile") == profile_id for inner in value]
        return [leave_out(inner, profile_id) for inner, about in zip(value, is_about, strict=True) if not about]
    return value
