"""The bodies of requests about lists, their subscriptions and their feeds."""

from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from batches.limits import (
    MAX_DELAY,
    MAX_FAILURES,
    MAX_ID,
    MAX_NAME,
    MAX_SCHEDULE,
    MAX_TIME_ZONE,
    MAX_URL,
)
from batches.lists.imports import ImportResult, Names
from batches.models import Subscription

from .batch_requests import ChangeBody
from .request_fields import (
    COUNT_FIRST,
    Body,
    CheckerField,
    ChoiceField,
    EntriesField,
    NewBody,
    ProfileField,
    ProfilesJSON,
    ProfilesUpload,
    with_examples,
)

#: Topics in one body, where some may be given twice.
MAX_TOPICS = 50


@with_examples(From_a_list={"name": "Press", "profiles": ["https://example.org/feed"]}, Empty={"name": "Blogs"})
class ListJSON(NewBody, ProfilesJSON):
    """A new list with its profiles."""

    profiles = EntriesField(
        child=ProfileField(),
        required=False,
        help_text="Addresses, or objects with `url` and optionally `name`. Without them, the list is empty at first.",
    )

    def _read_list(self, *, strict: bool) -> ImportResult:
        if self.validated_data.get("profiles"):
            return super()._read_list(strict=strict)
        return ImportResult(Names(), [], 0)


@with_examples("multipart/form-data", From_a_file={"name": "Magazines", "file": "https://example.org/feed\n"})
class ListUpload(NewBody, ProfilesUpload):
    """A new list with its profiles in a file."""


@with_examples(
    All={"name": "Press, daily", "priority": 7, "checker": "http"},
    A_schedule={"schedule": "30 6 * * MON-FRI", "time_zone": "Europe/Berlin", "delay_minutes": 10},
    Off={"schedule_active": False},
)
class ChangeListBody(ChangeBody):
    """The attributes of a list to change."""

    checker = CheckerField(required=False)
    count_first = serializers.BooleanField(required=False, help_text=COUNT_FIRST)
    schedule = serializers.CharField(
        max_length=MAX_SCHEDULE,
        allow_blank=True,
        required=False,
        help_text="The schedule, as a cron expression with five fields. Empty for never.",
    )
    time_zone = serializers.CharField(
        max_length=MAX_TIME_ZONE, required=False, help_text="The time zone of the schedule, such as `Europe/Berlin`."
    )
    delay_minutes = serializers.IntegerField(
        min_value=0,
        max_value=MAX_DELAY,
        required=False,
        help_text="Each run starts up to this many minutes later, at random.",
    )
    schedule_active = serializers.BooleanField(required=False, help_text="False switches the schedule off.")


class EditBody(Body):
    """An edit of a list."""

    list_version = serializers.IntegerField(
        min_value=0,
        max_value=MAX_ID,
        required=False,
        help_text="The `version` of the list that you have seen. If it has changed since, the call is refused.",
    )


@with_examples(Addresses={"profiles": ["https://example.org/feed"], "list_version": 1})
class EditJSON(EditBody, ProfilesJSON):
    """Profiles to add to a list, or to remove from it."""


class SyncBody(EditBody):
    """An import of a list as a whole."""

    allow_removals = serializers.BooleanField(
        default=False, help_text="True allows removing more than a tenth of the profiles."
    )
    dry_run = serializers.BooleanField(default=False, help_text="True only reports what would change.")


@with_examples(Preview={"profiles": ["https://example.org/feed"], "dry_run": True})
class SyncJSON(SyncBody, ProfilesJSON):
    """All profiles that a list is to have."""


@with_examples(
    "multipart/form-data", From_a_file={"file": "https://example.org/feed\n", "allow_removals": True, "list_version": 1}
)
class SyncUpload(SyncBody, ProfilesUpload):
    """All profiles that a list is to have, in a file."""


@with_examples(Moved={"address": "https://example.org/feed", "new_address": "https://example.org/news/feed"})
class CorrectBody(EditBody):
    """A profile's address in the list, and the one that it has now."""

    address = serializers.CharField(max_length=MAX_URL)
    new_address = serializers.CharField(max_length=MAX_URL)


def topics_field(topics: Iterable[Subscription.Topic], **options: Any) -> serializers.ListField:
    child = ChoiceField([(topic.value, topic.label) for topic in topics])
    help_text = "What its messages are about."
    return serializers.ListField(child=child, min_length=1, max_length=MAX_TOPICS, help_text=help_text, **options)


def minutes_field() -> serializers.IntegerField:
    help_text = "Minutes that the queue is held, or that no worker runs, before a message is sent."
    return serializers.IntegerField(min_value=1, max_value=MAX_DELAY, required=False, help_text=help_text)


class ReceiverBody(Body):
    """The receiver of a new subscription."""

    channel = ChoiceField(Subscription.Channel.choices, required=False, help_text="`email` unless given.")
    address = serializers.CharField(
        max_length=MAX_URL, help_text="An e-mail address, the address of an existing webhook, or an Apprise address."
    )
    is_active = serializers.BooleanField(required=False, help_text="False holds back its messages.")


class RunTopicsBody(Body):
    """When a run of a list is reported."""

    after_failures = serializers.IntegerField(
        min_value=1,
        max_value=MAX_FAILURES,
        required=False,
        help_text="Failed checks in a row after which a profile has begun to fail.",
    )
    failed_percent = serializers.IntegerField(
        min_value=0, max_value=100, required=False, help_text="Report failures above this percentage of the profiles."
    )
    digest_hour = serializers.IntegerField(
        min_value=0,
        max_value=23,
        required=False,
        allow_null=True,
        help_text="The hour of one message a day, in the time zone of the list; null for a message for each run.",
    )


@with_examples(Off={"is_active": False}, A_digest={"topics": ["stories"], "digest_hour": 7})
class ChangeSubscriptionBody(RunTopicsBody):
    """The attributes of a subscription to change. Some have a meaning for lists only, `minutes` for the queue only."""

    topics = topics_field(Subscription.Topic, required=False)
    minutes = minutes_field()
    is_active = serializers.BooleanField(required=False, help_text="False holds back its messages.")


@with_examples(By_mail={"address": "ada@example.org", "topics": ["stories", "error"]})
class SubscribeBody(ReceiverBody, RunTopicsBody):
    """A new subscription to a list."""

    topics = topics_field(Subscription.list_topics(of_queue=False))


@with_examples(Without_a_worker={"address": "ada@example.org", "topics": ["no_worker"], "minutes": 15})
class SubscribeToQueueBody(ReceiverBody):
    """A new subscription to the queue."""

    topics = topics_field(Subscription.list_topics(of_queue=True))
    minutes = minutes_field()


@with_examples(For_somebody={"list": "5eedba7c-0000-4000-8000-000000000002", "name": "The newsroom"})
class FeedBody(Body):
    """The list that the feed has new stories of, and its readers."""

    list = serializers.CharField(max_length=40, help_text="The id of the list.")
    name = serializers.CharField(max_length=MAX_NAME)
