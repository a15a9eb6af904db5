"""The requests of the API: shapes and types. Whether a call is allowed is the manager's business.

Those about lists are in `list_bodies`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty
from rest_framework.utils import html

from batches.conf import get_config
from batches.limits import (
    MAX_BULK,
    MAX_ERROR,
    MAX_HOST_AND_PORT,
    MAX_ID,
    MAX_NAME,
    MAX_PRIORITY,
    MAX_REASONS,
    MAX_URL,
    MIN_PRIORITY,
)
from batches.lists.imports import Collector, ImportResult, InvalidList, Reject
from batches.lists.reading import FORMATS, read_profiles
from batches.models import Action, Batch
from batches.queue.values import as_uuid

from .filters import MAX_UNKNOWN, BulkFilters, refuse_unusable, validate_host

BULK_ACTIONS = {
    "queue": Action.QUEUE_BATCH,
    "pause": Action.PAUSE_BATCH,
    "retry": Action.RETRY_FAILED,
    "repeat": Action.REPEAT_BATCH,
    "delete": Action.DELETE_BATCH,
}

FEED_UNLESS_GIVEN = "The name of a checker; `feed` unless given."
COUNT_FIRST = "True counts the stories that are there when a profile is first read as new; false unless given."


def priority_field() -> serializers.IntegerField:
    help_text = "0 unless given; higher runs first."
    return serializers.IntegerField(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, required=False, help_text=help_text)


def with_examples(media_type: str = "application/json", **examples: Any) -> Callable[[type["Body"]], type["Body"]]:
    """Describes a body with examples of these names."""
    return extend_schema_serializer(
        examples=[
            OpenApiExample(name.replace("_", " "), body, request_only=True, media_type=media_type)
            for name, body in examples.items()
        ]
    )


#: The type of a field's values in JSON, and what to send instead of another.
JSON_TYPES: dict[type, tuple[type, str]] = {
    serializers.CharField: (str, "Send a text."),
    serializers.ChoiceField: (str, "Send a text."),
    serializers.IntegerField: (int, "Send a whole number."),
    serializers.BooleanField: (bool, "Send true or false."),
    serializers.DateTimeField: (str, "Send a time in ISO 8601."),
    serializers.ListField: (list, "Send a list."),
    serializers.DictField: (dict, "Send an object."),
}


class Body(serializers.Serializer[Any]):
    """Refuses unknown fields, so that none is ignored silently, and values that the description does not allow."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            self._require_described(data)
        return super().to_internal_value(data)

    def _require_described(self, data: Mapping[str, Any]) -> None:
        """Checked before the fields convert values: CharField would even print them, which fails for deep nesting."""
        unknown, is_form = sorted(data.keys() - self.fields.keys()), html.is_html_input(data)
        advice = dict.fromkeys(unknown[:MAX_UNKNOWN], "Unknown field.") or {
            name: _advise(self.fields[name], value, is_form) for name, value in data.items()
        }
        if problems := {name: [text] for name, text in advice.items() if text}:
            raise ValidationError(problems)


def _advise(field: Any, value: Any, is_form: bool) -> str:
    """What to send instead of the value, "" if it fits. In a form every value is text, which the field parses."""
    if value is not None and not is_form:
        json_type, advice = next(entry for kind, entry in JSON_TYPES.items() if isinstance(field, kind))
        if type(value) is not json_type:
            return advice
    limit = getattr(field, "max_length", None)
    if limit is not None and isinstance(value, str | list) and len(value) > limit:
        return str(field.error_messages["max_length"]).format(max_length=limit)
    return ""


class NothingBody(Body):
    """A body without fields; it can be left out."""


class ProfilesBody(Body):
    """Profiles in a body."""

    strict = serializers.BooleanField(
        default=False, help_text="True changes nothing if an entry is not a valid profile."
    )

    #: The field with the list, and the field that numbers its rejected entries.
    list_field: str
    number_field: str
    #: What a refused body did not do.
    aim = "changed"

    def read_list(self) -> ImportResult:
        """The list of profiles. Raises EntriesRefused if it cannot be read, has no profile, or fails `strict`."""
        try:
            return self._read_list(strict=self.validated_data["strict"])
        except InvalidList as failed:
            raise EntriesRefused(self.list_field, str(failed), self.rejected(failed.rejects)) from failed

    def _read_list(self, *, strict: bool) -> ImportResult:
        raise NotImplementedError

    def report(self, found: ImportResult) -> dict[str, Any]:
        """What became of the entries."""
        rejected = self.rejected(found.rejects)
        return {"accepted": len(found.profiles), "duplicates": found.duplicates, "rejected": rejected}

    def rejected(self, rejects: Sequence[Reject]) -> list[dict[str, Any]]:
        return [{self.number_field: reject.line, "text": reject.text, "reason": reject.reason} for reject in rejects]


class EntriesField(serializers.ListField):
    """Its entries are validated elsewhere; the child describes them."""

    default_error_messages = {"min_length": "The list is empty."}

    def run_child_validation(self, data: list[Any]) -> list[Any]:
        return data


def entries_field(child: serializers.Field[Any, Any, Any, Any], most: int, nouns: str, **options: Any) -> EntriesField:
    """An optional field with 1 to `most` entries."""
    too_many: dict[str, Any] = {"max_length": f"Send at most {most:,} {nouns}."}
    return EntriesField(child=child, min_length=1, max_length=most, error_messages=too_many, required=False, **options)


class CheckerField(serializers.CharField):
    """The name of a checker."""

    def to_internal_value(self, data: Any) -> str:
        checker, known = super().to_internal_value(data), get_config().all_checkers
        if checker not in known:
            raise ValidationError(f"Unknown checker. Use one of {', '.join(known)}.")
        return checker


@extend_schema_field(
    {
        "oneOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {
                    "url": {"type": "string", "maxLength": MAX_URL},
                    "name": {"type": "string", "maxLength": MAX_NAME},
                },
                "required": ["url"],
                "additionalProperties": False,
            },
        ]
    }
)
class ProfileField(serializers.JSONField):
    pass


class ProfilesJSON(ProfilesBody):
    """Profiles in JSON."""

    profiles = EntriesField(
        child=ProfileField(), min_length=1, help_text="Addresses, or objects with `url` and optionally `name`."
    )
    list_field = "profiles"
    number_field = "index"

    def _read_list(self, *, strict: bool) -> ImportResult:
        entries = self.validated_data["profiles"]
        collector = Collector()
        for index, entry in enumerate(entries):
            _add_entry(collector, index, entry)
        if not collector.names or (strict and collector.rejects):
            message = f"{len(collector.rejects):,} of {len(entries):,} entries are not valid. Nothing was {self.aim}."
            raise InvalidList(message, collector.rejects)
        return collector.result(strict)


class ProfilesUpload(ProfilesBody):
    """Profiles in a file."""

    file = serializers.FileField(help_text="Plain text, CSV, OPML or JSON.")
    format = serializers.ChoiceField(
        FORMATS, required=False, help_text="Needed only if neither the name nor the content of the file shows it."
    )
    list_field = "file"
    number_field = "line"

    def _read_list(self, *, strict: bool) -> ImportResult:
        file = self.validated_data["file"]
        return read_profiles(file, filename=file.name, format=self.validated_data.get("format"), strict=strict)


class NewBody(Body):
    """What new batches and new lists have in common, apart from their profiles."""

    aim = "created"

    name = serializers.CharField(max_length=MAX_NAME)
    priority = priority_field()
    checker = CheckerField(required=False, help_text=FEED_UNLESS_GIVEN)
    count_first = serializers.BooleanField(required=False, help_text=COUNT_FIRST)

    def attributes(self, *names: str) -> dict[str, Any]:
        """The fields that the manager takes unchanged."""
        names = ("name", "priority", "checker", "count_first", *names)
        return {name: self.validated_data[name] for name in names if name in self.validated_data}


class BatchBody(NewBody):
    """A new batch, apart from its profiles."""

    queue = serializers.BooleanField(default=True, help_text="False creates a paused batch.")
    keep = serializers.BooleanField(default=False, help_text="True keeps the profiles as a list of that name.")


@with_examples(
    From_a_list={
        "name": "Press",
        "priority": 5,
        "profiles": ["https://example.org/feed", {"url": "https://example.com/news", "name": "The News"}],
    }
)
class BatchJSON(BatchBody, ProfilesJSON):
    """A new batch with its profiles."""


@with_examples(
    "multipart/form-data",
    From_a_file={"name": "Magazines", "file": "https://example.org/feed\nhttps://example.com/news\n", "queue": False},
)
class BatchUpload(BatchBody, ProfilesUpload):
    """A new batch with its profiles in a file."""


@with_examples(Both={"name": "Press, daily", "priority": 7})
class ChangeBody(Body):
    """The attributes to change."""

    name = serializers.CharField(max_length=MAX_NAME, required=False)
    priority = serializers.IntegerField(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, required=False)


class OrderBody(Body):
    """A change of the order that was decided from what the queue looked like."""

    queue_version = serializers.IntegerField(
        min_value=0,
        max_value=MAX_ID,
        required=False,
        help_text="The `version` of the queue that you have seen. If it has changed since, the call is refused.",
    )


@with_examples(Before_all_others={"preempt": True})
class StartBody(OrderBody):
    """Whether the batch may interrupt another one."""

    preempt = serializers.BooleanField(
        default=False, help_text="True interrupts the running batch, which continues afterwards."
    )


@with_examples(To_the_front={"position": 1})
class MoveBody(OrderBody):
    """The new position of a batch."""

    position = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, help_text="A position behind the last one means the last one."
    )


class UndoBody(Body):
    """The change to undo."""

    entry = serializers.IntegerField(
        min_value=1,
        max_value=MAX_ID,
        required=False,
        help_text="The `id` of the log entry that you have seen. If the batch has changed since, the call is refused.",
    )


@with_examples(With_a_reason={"reason": "The feeds of this list move today."})
class PauseBody(Body):
    """Why a batch is paused."""

    reason = serializers.CharField(
        max_length=MAX_ERROR, allow_blank=True, default="", help_text="Shown with the batch, and in its log."
    )


@with_examples(With_a_reason={"reason": "The network is being repaired."}, Stop_everything={"stop_running": True})
class HoldBody(Body):
    """Why the queue is held, and until when."""

    reason = serializers.CharField(max_length=MAX_ERROR, allow_blank=True, default="")
    until = serializers.DateTimeField(
        required=False,
        allow_null=True,
        default=None,
        help_text="When a worker releases the queue, unless somebody does.",
    )
    stop_running = serializers.BooleanField(
        default=False, help_text="True stops the running batch too. It continues as soon as the queue is released."
    )


def require_texts(values: list[Any], noun: str) -> list[str]:
    """Raises ValidationError."""
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ValidationError(f"Each {noun} is a text. Entry {index} (from 0) is not.")
    return values


def require_ids(ids: list[Any]) -> list[int]:
    """Each of them once. An unknown ID is not an error of the body, but an outcome. Raises ValidationError."""
    for index, number in enumerate(ids):
        if type(number) is not int or not 0 < number <= MAX_ID:
            raise ValidationError(f"Each id is a positive whole number. Entry {index} (from 0) is not.")
    return list(dict.fromkeys(ids))


@with_examples(By_reason={"reasons": ["It answers with 404."]}, One_by_one={"profiles": [17, 18]})
class RetryBody(Body):
    """Which failed profiles are checked again. Without fields: all."""

    reasons = entries_field(
        serializers.CharField(allow_blank=True, max_length=MAX_ERROR),
        MAX_REASONS,
        "reasons",
        help_text="Those with exactly one of these errors.",
    )
    profiles = entries_field(serializers.IntegerField(), MAX_BULK, "ids", help_text="Those with these ids of profiles.")

    def validate_reasons(self, reasons: list[Any]) -> list[str]:
        return list(dict.fromkeys(require_texts(reasons, "reason")))

    def validate_profiles(self, ids: list[Any]) -> list[int]:
        return require_ids(ids)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.keys() >= {"reasons", "profiles"}:
            raise ValidationError({"profiles": ["Send either reasons or profiles."]})
        return attrs


class ChosenBody(Body):
    """Things with these `ids`, or with `all` true all that there are, perhaps at one host."""

    ids = entries_field(serializers.IntegerField(), MAX_BULK, "ids")
    all = serializers.BooleanField(default=False)
    host = serializers.CharField(max_length=MAX_HOST_AND_PORT, required=False, validators=[validate_host])

    def validate_ids(self, ids: list[Any]) -> list[int]:
        return require_ids(ids)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == attrs["all"]:
            raise ValidationError({"ids": ["Send either ids, or all as true."]})
        if "ids" in attrs and "host" in attrs:
            raise ValidationError({"host": ["Send a host only with all."]})
        return attrs


@with_examples(By_id={"ids": [17, 18]}, All_at_a_host={"all": True, "host": "example.org", "dry_run": True})
class AcceptBody(ChosenBody):
    """The redirects to accept."""

    dry_run = serializers.BooleanField(default=False, help_text="True only reports what would change.")


@with_examples(By_id={"ids": [17, 18]}, All_that_rest={"all": True, "name": "Are they back?", "priority": 5})
class CheckBody(ChosenBody):
    """The profiles to check: those with these `ids`, or with `all` true all that rest; and the new batch."""

    name = serializers.CharField(max_length=MAX_NAME, default="Check now")
    priority = priority_field()
    checker = CheckerField(required=False, help_text=FEED_UNLESS_GIVEN)


class FilterValues(serializers.CharField):
    """Texts or numbers. An empty one would not filter, and silently select every batch."""

    default_error_messages = {"blank": "The filter is empty."}

    def run_validation(self, data: Any = empty) -> Any:
        if not data or not all(type(value) in {str, int} for value in data):
            raise ValidationError("Send a text, a number, or a list of them.")
        return [serializers.CharField.run_validation(self, value) for value in data]


class BatchFilterField(serializers.DictField):
    """The batches that the list contains with these filters."""

    child = FilterValues()
    default_error_messages = {"empty": "The filter is empty."}

    def to_internal_value(self, data: dict[str, Any]) -> QuerySet[Batch]:  # type: ignore[override]
        sent = MultiValueDict({name: value if isinstance(value, list) else [value] for name, value in data.items()})
        refuse_unusable(sent, BulkFilters.base_filters)
        texts = super().to_internal_value(dict(sent.lists()))
        filtered = BulkFilters(MultiValueDict(texts), queryset=Batch.objects.all())
        if filtered.errors:
            raise ValidationError(filtered.errors)
        return filtered.qs  # type: ignore[no-any-return]


@with_examples(
    By_id={"action": "pause", "ids": ["5eedba7c-0000-4000-8000-000000000001"]},
    By_filter={"action": "delete", "filter": {"status": ["done"], "completed_before": "2026-01-01T00:00:00Z"}},
)
class BulkBody(Body):
    """An action, and the batches to apply it to: either `ids` or `filter`."""

    action = serializers.ChoiceField(list(BULK_ACTIONS))
    ids = entries_field(serializers.CharField(allow_blank=True), MAX_BULK, "ids")
    filter = BatchFilterField(
        allow_empty=False,
        required=False,
        help_text="Query parameters of the list of batches, without `ordering`.",
    )
    reason = serializers.CharField(
        max_length=MAX_ERROR, allow_blank=True, required=False, help_text="Why the batches are paused."
    )

    def validate_ids(self, ids: list[Any]) -> list[str]:
        """Each of them once. An unknown id is not an error of the body, but an outcome."""
        return list(dict.fromkeys(str(as_uuid(text) or text) for text in require_texts(ids, "id")))

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise ValidationError({"ids": ["Send either ids or a filter."]})
        if "reason" in attrs and attrs["action"] != "pause":
            raise ValidationError({"reason": ["Only the action pause takes a reason."]})
        return attrs


class EntriesRefused(ValidationError):
    """The list in `field` cannot become a batch; `rejected` are its entries that are not valid profiles."""

    def __init__(self, field: str, message: str, rejected: list[dict[str, Any]]) -> None:
        super().__init__({field: [message]})
        self.rejected = rejected


def _add_entry(collector: Collector, index: int, entry: Any) -> None:
    url, name = (entry.get("url"), entry.get("name", "")) if isinstance(entry, dict) else (entry, "")
    text = url if isinstance(url, str) else ""
    if not isinstance(url, str) or not isinstance(name, str):
        collector.reject(index, text, 'Send an address, or an object with "url" and optionally "name", as texts.')
    elif isinstance(entry, dict) and (unknown := entry.keys() - {"url", "name"}):
        collector.reject(index, text, f'A profile has "url" and "name". {min(unknown)[:50]!r} is unknown.')
    else:
        collector.add(index, url, name)
