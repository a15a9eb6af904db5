"""What goes out, and what may come in: shapes and types. Whether a call is allowed is the manager's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty
from rest_framework.utils import html

from batches.conf import get_config
from batches.limits import MAX_BULK, MAX_ERROR, MAX_NAME, MAX_PRIORITY, MIN_PRIORITY
from batches.lists.imports import Collector, ImportResult, InvalidList, Reject
from batches.lists.reading import FORMATS, read_profiles
from batches.models import Action, Batch, BatchLog, BatchProfile, Profile, Progress, StoryResult, vocabulary
from batches.queue.values import as_uuid
from batches.reports.comparison import Comparison
from batches.reports.outlook import Outlook, Turn, to_the_second
from batches.text import UNSTORABLE

from .filters import BatchFilters

#: Unknown fields that an error names.
SHOWN_UNKNOWN = 10

#: What a batch is made of, apart from its profiles.
BATCH_ATTRIBUTES = ("name", "priority", "checker", "queue")

#: What can be done to many batches at once, by the words of the API.
BULK_ACTIONS = {
    "queue": Action.QUEUE_BATCH,
    "pause": Action.PAUSE_BATCH,
    "retry": Action.RETRY_FAILED,
    "repeat": Action.REPEAT_BATCH,
    "delete": Action.DELETE_BATCH,
}

MAX_POSITION = 2**31 - 1
MAX_VERSION = 2**63 - 1


# Out


class ProgressSerializer(serializers.Serializer[Progress]):
    """How far a batch is: `rate` in profiles per second and `seconds_left` are null where nothing is known yet."""

    percent = serializers.IntegerField()
    rate = serializers.FloatField(allow_null=True)
    seconds_left = serializers.FloatField(allow_null=True)


class BatchSerializer(serializers.ModelSerializer[Batch]):
    """A batch. `run_seconds` is the time that a worker was at work on it."""

    progress = ProgressSerializer(read_only=True)
    url = serializers.HyperlinkedIdentityField(view_name="api:batch-detail")

    class Meta:
        model = Batch
        fields = [*vocabulary.BATCH, "url"]
        read_only_fields = fields


class WaitingSerializer(BatchSerializer):
    """A waiting batch, and when it is expected to be checked: null where nobody can tell."""

    expected_start = serializers.SerializerMethodField()
    expected_end = serializers.SerializerMethodField()

    class Meta(BatchSerializer.Meta):
        fields = [*BatchSerializer.Meta.fields, "expected_start", "expected_end"]
        read_only_fields = fields

    def get_expected_start(self, batch: Batch) -> datetime | None:
        return to_the_second(self._turn(batch).start)

    def get_expected_end(self, batch: Batch) -> datetime | None:
        return to_the_second(self._turn(batch).end)

    def _turn(self, batch: Batch) -> Turn:
        outlook: Outlook = self.context["outlook"]
        return outlook.turn(batch.position or 0)


class QueueSerializer(serializers.Serializer[Any]):
    """The queue: the running batch or null, the first hundred of the waiting ones in their order, and how many wait.

    All the waiting ones are in the list of batches: `batches/?status=queued&ordering=position`. The expected times
    follow from how fast the running batch and the latest finished ones were checked. They are null while the queue is
    held, while no worker shows itself, and behind a batch of whose checker nothing is known yet.
    """

    version = serializers.IntegerField(source="outlook.queue.version")
    held = serializers.BooleanField(source="outlook.queue.held")
    held_by = serializers.CharField(source="outlook.queue.held_by")
    held_at = serializers.DateTimeField(source="outlook.queue.held_at", allow_null=True)
    hold_reason = serializers.CharField(source="outlook.queue.hold_reason")
    worker = serializers.CharField(source="outlook.queue.worker")
    worker_seen_at = serializers.DateTimeField(source="outlook.worker_seen_at", allow_null=True)
    worker_alive = serializers.BooleanField(source="outlook.worker_is_alive")
    running = BatchSerializer(source="outlook.running", allow_null=True)
    waiting = WaitingSerializer(many=True)
    waiting_total = serializers.IntegerField(source="outlook.waiting")
    waiting_profiles = serializers.IntegerField(source="outlook.waiting_profiles")
    all_done = serializers.SerializerMethodField()

    def get_all_done(self, queue: Any) -> datetime | None:
        """When the last of the waiting batches is expected to be done."""
        return to_the_second(self.context["outlook"].all_done)


class RowSerializer(serializers.ModelSerializer[BatchProfile]):
    """One profile of a batch, and what came out for it. `duration` is in seconds."""

    profile = serializers.IntegerField(source="profile_id")
    url = serializers.CharField(source="profile.url")
    name = serializers.CharField(source="profile.name")
    feed_url = serializers.CharField(source="profile.feed_url")

    class Meta:
        model = BatchProfile
        fields = [
            "id",
            "profile",
            "url",
            "name",
            "feed_url",
            "status",
            "error",
            "http_status",
            "duration",
            "has_story",
            "checked_at",
        ]
        read_only_fields = fields


class StorySerializer(serializers.ModelSerializer[StoryResult]):
    """A story seen for the first time, by the batch that saw it; null where that is deleted."""

    batch = serializers.UUIDField(source="batch_id", allow_null=True)
    profile = serializers.IntegerField(source="profile_id")
    profile_url = serializers.CharField(source="profile.url")
    profile_name = serializers.CharField(source="profile.name")

    class Meta:
        model = StoryResult
        fields = vocabulary.STORY
        read_only_fields = fields


class ProfileSerializer(serializers.ModelSerializer[Profile]):
    """An address that can be checked, and what its last check said. `last_error` is empty when that was ok."""

    class Meta:
        model = Profile
        fields = ["id", "url", "name", "feed_url", "last_checked_at", "last_error", "last_story_at", "created_at"]
        read_only_fields = fields


class LogSerializer(serializers.ModelSerializer[BatchLog]):
    """What happened to a batch: who did what, through which door, from where to where."""

    class Meta:
        model = BatchLog
        fields = vocabulary.LOG
        read_only_fields = fields


class ComparisonSerializer(serializers.Serializer[Comparison]):
    """How many profiles changed how since the batch that this one repeats, and how many stories are new since then."""

    previous = BatchSerializer()
    stories = serializers.IntegerField()
    newly_failing = serializers.IntegerField()
    recovered = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    not_compared = serializers.IntegerField()


# In


class Typed(serializers.Field[Any, Any, Any, Any]):
    """Takes a value of its own JSON type only. In a form, where everything is text, it takes the text for one."""

    json_type: type
    # A check box that is left out of a form would count as false.
    default_empty_html = empty

    def run_validation(self, data: Any = empty) -> Any:
        # Before anything else: to print a value that is nested deep, as CharField does, exceeds the recursion limit.
        if data is not empty and data is not None and type(data) is not self.json_type and not self._is_in_form():
            self.fail("invalid")
        return super().run_validation(data)

    def _is_in_form(self) -> bool:
        return html.is_html_input(self.root.initial_data)


class Text(Typed, serializers.CharField):
    json_type = str


class WholeNumber(Typed, serializers.IntegerField):
    json_type = int


class Flag(Typed, serializers.BooleanField):
    json_type = bool


class Entries(Typed):
    """A list; what is in it is looked at entry by entry, and rejected entry by entry."""

    json_type = list
    default_error_messages = {"invalid": "A list is required.", "empty": "This list may not be empty."}

    def to_internal_value(self, data: list[Any]) -> list[Any]:
        if not data:
            self.fail("empty")
        return data


class Body(serializers.Serializer[Any]):
    """A body without fields. Every body refuses fields that it does not know, so that none is ignored in silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := sorted(data.keys() - self.fields.keys())):
            raise ValidationError({field: ["There is no such field."] for field in unknown[:SHOWN_UNKNOWN]})
        return super().to_internal_value(data)


class BatchBody(Body):
    """What a new batch is, apart from its list of profiles."""

    name = Text(max_length=MAX_NAME)
    priority = WholeNumber(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, required=False)
    checker = Text(required=False)
    queue = Flag(required=False)
    strict = Flag(required=False)

    #: The field with the list, and what numbers its rejected entries.
    list_field: str
    place: str

    def validate_checker(self, checker: str) -> str:
        known = get_config().all_checkers
        if checker not in known:
            raise ValidationError(f"There is no such checker, only {', '.join(known)}.")
        return checker

    def attributes(self) -> dict[str, Any]:
        """What was sent of name, priority, checker and queue."""
        return {name: value for name, value in self.validated_data.items() if name in BATCH_ATTRIBUTES}

    def read_list(self) -> ImportResult:
        """The list of profiles. Raises EntriesRefused if it cannot be read, has no profile, or is not all it should."""
        try:
            return self._read_list(strict=self.validated_data.get("strict", False))
        except InvalidList as failed:
            raise EntriesRefused(self.list_field, str(failed), self.rejected(failed.rejects)) from failed

    def _read_list(self, *, strict: bool) -> ImportResult:
        raise NotImplementedError

    def rejected(self, rejects: Sequence[Reject]) -> list[dict[str, Any]]:
        return [{self.place: reject.line, "text": reject.text, "reason": reject.reason} for reject in rejects]


class BatchJSON(BatchBody):
    """A new batch with its profiles in JSON: addresses, or objects with `url` and perhaps `name`."""

    profiles = Entries()
    list_field = "profiles"
    place = "index"

    def _read_list(self, *, strict: bool) -> ImportResult:
        entries = self.validated_data["profiles"]
        collector = Collector()
        for index, entry in enumerate(entries):
            _add_entry(collector, index, entry)
        if not collector.profiles or (strict and collector.rejects):
            message = f"{len(collector.rejects):,} of {len(entries):,} entries cannot be profiles; nothing was created."
            raise InvalidList(message, collector.rejects)
        return collector.result(strict)


class BatchUpload(BatchBody):
    """A new batch with its profiles in a file: plain text, CSV, OPML or JSON Lines."""

    file = serializers.FileField()
    format = serializers.ChoiceField(FORMATS, required=False)
    list_field = "file"
    place = "line"

    def _read_list(self, *, strict: bool) -> ImportResult:
        file = self.validated_data["file"]
        return read_profiles(file, filename=file.name, format=self.validated_data.get("format"), strict=strict)


class ChangeBody(Body):
    name = Text(max_length=MAX_NAME, required=False)
    priority = WholeNumber(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, required=False)


class MoveBody(Body):
    position = WholeNumber(min_value=1, max_value=MAX_POSITION)
    queue_version = WholeNumber(min_value=0, max_value=MAX_VERSION, required=False)


class HoldBody(Body):
    reason = Text(max_length=MAX_ERROR, allow_blank=True, default="")


class Choice(Typed, serializers.ChoiceField):
    json_type = str
    default_error_messages = {"invalid": "A text is required."}


class Ids(Entries):
    """1 to 1,000 texts; one that is no batch's id is no error of the body. Each is taken once."""

    default_error_messages = {
        "too_many": f"At most {MAX_BULK:,} ids at once.",
        "no_text": "Each id is a text; number {index} (from 0) is not.",
    }

    def to_internal_value(self, data: list[Any]) -> list[str]:
        ids = super().to_internal_value(data)
        if len(ids) > MAX_BULK:
            self.fail("too_many")
        for index, text in enumerate(ids):
            if not isinstance(text, str):
                self.fail("no_text", index=index)
        return list(dict.fromkeys(str(as_uuid(text) or text) for text in ids))


class Filter(Typed):
    """An object with some of the list's query parameters."""

    json_type = dict
    default_error_messages = {"invalid": "An object is required.", "empty": "This filter may not be empty."}

    def to_internal_value(self, data: dict[str, Any]) -> QuerySet[Batch]:
        if not data:
            self.fail("empty")
        return batches_matching(data)


def batches_matching(filters: Mapping[str, Any]) -> QuerySet[Batch]:
    """The batches that the list would show with these filters. Raises ValidationError.

    A value that filters nothing is refused: it would be a slip that means every batch.
    """
    known = BatchFilters.base_filters.keys() - {"ordering"}
    if unknown := sorted(filters.keys() - known):
        message = f"There is no such filter, only {', '.join(sorted(known))}."
        raise ValidationError({name: [message] for name in unknown[:SHOWN_UNKNOWN]})
    texts = {name: _query_values(name, value) for name, value in filters.items()}
    filtered = BatchFilters(MultiValueDict(texts), queryset=Batch.objects.all())
    problems = {name: list(messages) for name, messages in filtered.form.errors.items()}
    for name in texts.keys() - problems.keys():
        if filtered.form.cleaned_data[name] in (None, "", []):
            problems[name] = ["A filter may not be empty."]
    if problems:
        raise ValidationError(problems)
    return filtered.qs  # type: ignore[no-any-return]


def _query_values(name: str, value: Any) -> list[str]:
    """The value as a query would have it."""
    values = value if isinstance(value, list) else [value]
    if not all(type(value) in {str, int} for value in values) or any(UNSTORABLE.search(str(value)) for value in values):
        raise ValidationError({name: ["A text or a number is required, or a list of them."]})
    if len(values) > 1 and not isinstance(BatchFilters.base_filters[name].field, forms.MultipleChoiceField):
        raise ValidationError({name: ["This filter takes one value."]})
    return [str(value) for value in values]


class BulkBody(Body):
    """An action for the batches with these ids, or for those that match the filter."""

    action = Choice(list(BULK_ACTIONS))
    ids = Ids(required=False)
    filter = Filter(required=False)

    def validate(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in wanted) == ("filter" in wanted):
            raise ValidationError({"ids": ["Either ids or a filter is required, and not both."]})
        return wanted


class EntriesRefused(ValidationError):
    """The list in `field` cannot make a batch; `rejected` are its entries that cannot be profiles."""

    def __init__(self, field: str, message: str, rejected: list[dict[str, Any]]) -> None:
        super().__init__({field: [message]})
        self.rejected = rejected


def _add_entry(collector: Collector, index: int, entry: Any) -> None:
    url, name = (entry.get("url"), entry.get("name", "")) if isinstance(entry, dict) else (entry, "")
    text = url if isinstance(url, str) else ""
    if not isinstance(url, str) or not isinstance(name, str):
        collector.reject(index, text, 'A profile is an address, or an object with "url" and perhaps "name", all text.')
    elif isinstance(entry, dict) and (unknown := entry.keys() - {"url", "name"}):
        collector.reject(index, text, f'A profile has "url" and "name", but no {min(unknown)[:50]!r}.')
    else:
        collector.add(index, url, name)
