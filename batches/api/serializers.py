"""The responses of the API. The requests are in `batch_requests` and `list_requests`."""

from functools import cached_property
from typing import Any, TypeVar

from django.db.models import DateTimeField, Model
from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers
from rest_framework.reverse import reverse

from batches.limits import MAX_QUOTE
from batches.models import (
    Attempt,
    Batch,
    BatchLog,
    BatchProfile,
    ListFeed,
    ListProfile,
    Profile,
    ProfileList,
    Redirect,
    StoryResult,
    Subscription,
    public_fields,
)
from batches.reports.comparison import Comparison
from batches.reports.hosts import SAMPLE, HostFigures

M = TypeVar("M", bound=Model)

BATCH_ID = "5eedba7c-0000-4000-8000-000000000001"
BATCH_EXAMPLE = public_fields.batch_as_dict(
    Batch(id=BATCH_ID, name="Press", priority=5, total_profiles=2, created_at="2026-06-01T08:00:00Z")
) | {"position": 1, "url": f"https://batches.example.org/api/v1/batches/{BATCH_ID}/"}


class MomentField(serializers.DateTimeField):
    """A time in UTC, as `--json` and webhooks have it."""

    format = None


class ModelSerializer(serializers.ModelSerializer[M]):
    """Reads only. `public_fields` says where to find a field that the model lacks; otherwise it is the profile's."""

    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {DateTimeField: MomentField}
    url_field_name = ""  # a field called `url` is the profile's, not a link of the API

    def get_extra_kwargs(self) -> dict[str, Any]:
        return {name: {"read_only": True} for name in self.Meta.fields}

    def build_unknown_field(self, field_name: str, model_class: type[Model]) -> Any:
        return serializers.CharField, {"source": public_fields.SOURCES.get(field_name, f"profile.{field_name}")}


class ProgressSerializer(serializers.Serializer[Batch]):
    """Progress of a batch."""

    percent = serializers.IntegerField()
    rate = serializers.FloatField(allow_null=True, help_text="Profiles a second; null until it is known.")
    seconds_left = serializers.FloatField(allow_null=True, help_text="null until it is known.")


@extend_schema_serializer(examples=[OpenApiExample("Queued", BATCH_EXAMPLE, response_only=True)])
class BatchSerializer(ModelSerializer[Batch]):
    """A batch. `run_seconds` is the time for which workers have run it."""

    progress = ProgressSerializer(source="*", read_only=True)
    url = serializers.HyperlinkedIdentityField(view_name="batches_api:batch-detail")

    class Meta:
        model = Batch
        fields = [*public_fields.BATCH, "progress", "url"]

    def to_representation(self, instance: Batch) -> dict[str, Any]:
        """The values of the fields, but not field by field: the queue has a hundred batches."""
        return public_fields.batch_as_dict(instance) | {"url": f"{self.all_batches}{instance.pk}/"}

    @cached_property
    def all_batches(self) -> str:
        return reverse("batches_api:batch-list", request=self.context["request"])


class WaitingSerializer(BatchSerializer):
    """A queued batch with its expected times, which are null if they cannot be estimated."""

    expected_start = MomentField(allow_null=True, read_only=True)
    expected_end = MomentField(allow_null=True, read_only=True)

    class Meta(BatchSerializer.Meta):
        fields = [*BatchSerializer.Meta.fields, "expected_start", "expected_end"]


class WorkerSerializer(serializers.Serializer[Any]):
    """A worker process. It is not `alive` if its heartbeats have stopped."""

    name = serializers.CharField()
    version = serializers.CharField(help_text="The version of this software that it runs.")
    started_at = MomentField()
    seen_at = MomentField(help_text="Its last heartbeat.")
    alive = serializers.BooleanField()
    batch = serializers.UUIDField(allow_null=True, help_text="The batch that it checks; null while it is idle.")
    partitions = serializers.IntegerField(help_text="The number of partitions of that batch that it has leased.")
    rate = serializers.FloatField(allow_null=True, help_text="Profiles per second.")


class QueueSerializer(serializers.Serializer[Any]):
    """The queue.

    The expected times are estimated from the speed of the running batch and of the latest finished ones. They are null
    while the queue is held without an end, while no worker is alive, and behind a batch with a checker without a
    known speed.
    """

    version = serializers.IntegerField(help_text="Grows with every change. Send it as `queue_version` to move a batch.")
    held = serializers.BooleanField()
    held_by = serializers.CharField()
    held_at = MomentField(allow_null=True)
    held_until = MomentField(allow_null=True, help_text="When a worker releases the queue; null if a person must.")
    hold_reason = serializers.CharField()
    stopped = serializers.UUIDField(allow_null=True, help_text="The batch that the hold stopped.")
    outage_since = MomentField(
        allow_null=True,
        help_text="Held because a worker's machine is offline, until sites respond again.",
    )
    worker = serializers.CharField(
        help_text="The worker of the running batch, otherwise the last one that looked for work."
    )
    worker_version = serializers.CharField(help_text="The version of this software that it runs.")
    worker_seen_at = MomentField(allow_null=True)
    worker_alive = serializers.BooleanField()
    workers = WorkerSerializer(many=True, help_text="The first 100; workers that are alive come first.")
    workers_total = serializers.IntegerField()
    running = BatchSerializer(allow_null=True)
    waiting = WaitingSerializer(
        many=True,
        help_text="The first 100 queued batches. `batches/?status=queued&ordering=position` lists all of them.",
    )
    waiting_total = serializers.IntegerField()
    waiting_profiles = serializers.IntegerField()
    all_done = MomentField(allow_null=True, help_text="When the last queued batch is expected to end.")


class RowSerializer(ModelSerializer[BatchProfile]):
    """A profile of a batch with the result of its check. `duration` is in seconds."""

    class Meta:
        model = BatchProfile
        fields = public_fields.ROW


class AttemptSerializer(ModelSerializer[Attempt]):
    """An earlier result of a profile in a batch, which was checked again. `duration` is in seconds."""

    class Meta:
        model = Attempt
        fields = public_fields.ATTEMPT


class CheckSerializer(serializers.Serializer[Any]):
    """A check of a profile. `duration` is in seconds.

    `is_earlier`: the same batch has checked the profile again since.
    """

    batch = serializers.UUIDField(source="batch_id")
    batch_name = serializers.CharField()
    status = serializers.ChoiceField(choices=BatchProfile.Status.choices)
    error = serializers.CharField()
    http_status = serializers.IntegerField(allow_null=True)
    duration = serializers.FloatField(allow_null=True)
    has_story = serializers.BooleanField()
    checked_at = MomentField()
    is_earlier = serializers.BooleanField()


class StorySerializer(ModelSerializer[StoryResult]):
    """A story. `is_baseline`: the profile's first check found it."""

    batch = serializers.UUIDField(
        source="batch_id", allow_null=True, help_text="The batch that found the story; null if it has been deleted."
    )
    found_at = MomentField(read_only=True, label="Found")  # stories without a time are not shown

    class Meta:
        model = StoryResult
        fields = public_fields.STORY


class ProfileSerializer(ModelSerializer[Profile]):
    """A profile. `last_error` is empty if the last check succeeded.

    `failures` is the number of failures in a row, and `failing_since` the time of the first. Scheduled runs leave the
    profile out until `rests_until`.
    """

    class Meta:
        model = Profile
        fields = public_fields.PROFILE


class LogSerializer(ModelSerializer[BatchLog]):
    """A change of a batch or of a list: who made it, through which channel, and its effects."""

    class Meta:
        model = BatchLog
        fields = public_fields.LOG


class ComparisonSerializer(serializers.Serializer[Comparison]):
    """How many profiles changed since the previous batch."""

    previous = BatchSerializer()
    stories = serializers.IntegerField(help_text="Stories that this batch found.")
    newly_failing = serializers.IntegerField()
    recovered = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    not_compared = serializers.IntegerField(help_text="Profiles without a result in one of the two batches.")


class RejectSerializer(serializers.Serializer[Any]):
    """An entry of a list that is not a valid profile."""

    index = serializers.IntegerField(required=False, help_text="Its index in a JSON list, from 0.")
    line = serializers.IntegerField(required=False, help_text="Its line in a file, from 1.")
    text = serializers.CharField(help_text=f"The first {MAX_QUOTE} characters of the entry.")
    reason = serializers.CharField()


class CreatedSerializer(serializers.Serializer[Any]):
    """A new batch, and the accepted, duplicate and rejected entries of its list."""

    batch = BatchSerializer()
    accepted = serializers.IntegerField(help_text="Different profiles.")
    duplicates = serializers.IntegerField(help_text="Entries that repeat a profile.")
    rejected = RejectSerializer(many=True)


class ListSerializer(ModelSerializer[ProfileList]):
    """A list. `version` grows with every change of it."""

    next_run_at = MomentField(
        read_only=True, allow_null=True, help_text="With its random delay; null while no schedule is on."
    )
    schedule_in_words = serializers.CharField(read_only=True)
    next_times = serializers.ListField(
        child=MomentField(), read_only=True, help_text="The next three times of the schedule, without the delay."
    )
    url = serializers.HyperlinkedIdentityField(view_name="batches_api:list-detail")

    class Meta:
        model = ProfileList
        fields = [*public_fields.LIST, "url"]


class CreatedListSerializer(serializers.Serializer[Any]):
    """A new list, and the accepted, duplicate and rejected entries of the request."""

    list = ListSerializer()
    accepted = serializers.IntegerField(help_text="Different profiles.")
    duplicates = serializers.IntegerField(help_text="Entries that repeat a profile.")
    rejected = RejectSerializer(many=True)


class ChangedListSerializer(serializers.Serializer[Any]):
    """A list, how an edit changed its profiles, and the duplicate and rejected entries of the request."""

    list = ListSerializer()
    added = serializers.IntegerField(source="change.added")
    removed = serializers.IntegerField(source="change.removed")
    unchanged = serializers.IntegerField(source="change.unchanged", help_text="Profiles that the list keeps.")
    duplicates = serializers.IntegerField(help_text="Entries that repeat a profile.")
    rejected = RejectSerializer(many=True)


class MemberSerializer(ModelSerializer[ListProfile]):
    """A profile of a list. `last_error` is empty if the last check succeeded."""

    last_checked_at = MomentField(source="profile.last_checked_at", allow_null=True)
    last_story_at = MomentField(source="profile.last_story_at", allow_null=True)

    class Meta:
        model = ListProfile
        fields = ["id", "profile", "url", "name", "feed_url", "last_checked_at", "last_error", "last_story_at"]


class SubscriptionSerializer(ModelSerializer[Subscription]):
    """A subscription: who is notified, and of which topics. `list` is null for the queue."""

    address = serializers.CharField(
        source="shown_address", help_text="Only the beginning of an Apprise address, which is secret."
    )
    topics = serializers.ListField(child=serializers.ChoiceField(Subscription.Topic.choices))
    url = serializers.HyperlinkedIdentityField(view_name="batches_api:subscription-detail")

    class Meta:
        model = Subscription
        fields = [*public_fields.SUBSCRIPTION, "url"]


class FeedSerializer(ModelSerializer[ListFeed]):
    """A feed of the new stories of a list. `begins_with` are the first characters of its key."""

    class Meta:
        model = ListFeed
        fields = public_fields.FEED


class CreatedFeedSerializer(serializers.Serializer[Any]):
    """A new feed with its addresses, which are shown only once: a repeated response has null in their place."""

    feed = FeedSerializer()
    atom_url = serializers.CharField(allow_null=True)
    json_url = serializers.CharField(allow_null=True)


class OutcomeSerializer(serializers.Serializer[Any]):
    """The outcome for one batch."""

    id = serializers.CharField()
    ok = serializers.BooleanField()
    code = serializers.CharField(source="result.code", allow_null=True, help_text="Why the batch was refused.")
    detail = serializers.CharField(allow_blank=True, help_text="The reason in words, for people.")
    status = serializers.ChoiceField(
        Batch.Status.choices,
        source="after.status",
        allow_null=True,
        help_text="The status afterwards; null if the batch does not exist.",
    )
    position = serializers.IntegerField(source="after.position", allow_null=True)
    made = serializers.UUIDField(
        source="result.pk", allow_null=True, help_text="The new batch, if this one was repeated."
    )


class BulkSerializer(serializers.Serializer[Any]):
    """The outcome for each batch, in the order of the request."""

    done = serializers.IntegerField()
    refused = serializers.IntegerField()
    left = serializers.IntegerField(help_text="Batches that match the filter and need another request.")
    outcomes = OutcomeSerializer(many=True)


class RedirectSerializer(ModelSerializer[Redirect]):
    """A permanent redirect that can be accepted. `merges`: another profile has the new address."""

    merges = serializers.BooleanField()

    class Meta:
        model = Redirect
        fields = public_fields.REDIRECT


class HostSerializer(serializers.Serializer[HostFigures]):
    """A host with its port, if its addresses have one. The figures are of the last check of each of its profiles."""

    host = serializers.CharField()
    profiles = serializers.IntegerField(help_text="The number; a lower bound if `has_more`.")
    has_more = serializers.BooleanField()
    failing = serializers.IntegerField(help_text="Profiles that failed their last check.")
    failing_percent = serializers.FloatField(help_text="Null if `has_more`.", allow_null=True)
    median_seconds = serializers.FloatField(
        help_text=f"Of the checks of up to {SAMPLE} profiles. Null if unknown.", allow_null=True
    )
    last_error = serializers.CharField(help_text="The latest failure. Empty if nothing fails.")
    last_failed_at = MomentField(allow_null=True)
    paused_until = MomentField(help_text="The host has asked for no requests until then.", allow_null=True)


class HostsSerializer(serializers.Serializer[Any]):
    """The hosts with the most failing profiles first, and how many there are."""

    total = serializers.IntegerField()
    results = HostSerializer(many=True, source="hosts")


class AcceptOutcomeSerializer(serializers.Serializer[Any]):
    """The outcome for one redirect: the profile that has the new address, or why it was refused."""

    id = serializers.IntegerField()
    code = serializers.CharField(source="result.code", default=None, allow_null=True, help_text="Why it was refused.")
    detail = serializers.CharField(source="result.message", default="", help_text="The reason in words, for people.")
    profile = serializers.IntegerField(source="result.profile_id", default=None, allow_null=True)
    old_url = serializers.CharField(source="result.old_url", default=None, allow_null=True)
    url = serializers.CharField(source="result.url", default=None, allow_null=True)
    merged = serializers.BooleanField(source="result.merged", default=None, allow_null=True)


class AcceptedSerializer(serializers.Serializer[Any]):
    """The outcome for each redirect."""

    done = serializers.IntegerField()
    refused = serializers.IntegerField()
    left = serializers.IntegerField(help_text="Redirects that match and need another request.")
    outcomes = AcceptOutcomeSerializer(many=True)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Invalid",
            {
                "code": "invalid",
                "detail": "colour: Unknown field.",
                "errors": {"colour": ["Unknown field."]},
            },
            response_only=True,
            status_codes=[400],
        )
    ]
)
class ErrorSerializer(serializers.Serializer[Any]):
    """An error. `code` is for programs, `detail` for people."""

    code = serializers.CharField()
    detail = serializers.CharField()
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="400: messages by field, query parameter or header.",
    )
    rejected = RejectSerializer(many=True, required=False, help_text="400: entries that are not valid profiles.")
    batch = BatchSerializer(required=False, help_text="409: the batch as it is now.")
    list = ListSerializer(required=False, help_text="409: the list as it is now.")
