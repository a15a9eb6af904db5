"""The requests of the API: shapes and types. Whether a call is allowed is the manager's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict
from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.fields import empty
from rest_framework.utils import html

from batches.conf import get_config
from batches.limits import MAX_BULK, MAX_ERROR, MAX_NAME, MAX_PRIORITY, MAX_URL, MIN_PRIORITY
from batches.lists.imports import Collector, ImportResult, InvalidList, Reject
from batches.lists.reading import FORMATS, read_profiles
from batches.models import Action, Batch
from batches.queue.values import as_uuid
from batches.text import UNSTORABLE

from .filters import MAX_UNKNOWN, BatchFilters, schema_of

#: The fields of a new batch that the manager takes as they are.
BATCH_ATTRIBUTES = ("name", "priority", "checker", "queue")

BULK_ACTIONS = {
    "queue": Action.QUEUE_BATCH,
    "pause": Action.PAUSE_BATCH,
    "retry": Action.RETRY_FAILED,
    "repeat": Action.REPEAT_BATCH,
    "delete": Action.DELETE_BATCH,
}
BULK_FILTERS = {name: filter for name, filter in BatchFilters.base_filters.items() if name != "ordering"}

MAX_POSITION = 2**31 - 1
MAX_VERSION = 2**63 - 1


class StrictField(serializers.Field[Any, Any, Any, Any]):
    """Takes values of its own JSON type only. In a form, where every value is text, it parses the text."""

    json_type: type
    # A check box that is left out of a form would count as false.
    default_empty_html = empty

    def run_validation(self, data: Any = empty) -> Any:
        # Before anything else: CharField prints the value, and printing deep nesting exceeds the recursion limit.
        if data is not empty and data is not None and type(data) is not self.json_type and not self._is_in_form():
            self.fail("invalid")
        return super().run_validation(data)

    def _is_in_form(self) -> bool:
        return html.is_html_input(self.root.initial_data)


class StrictCharField(StrictField, serializers.CharField):
    json_type = str

    def run_validation(self, data: Any = empty) -> Any:
        # CharField measures the text without the white space around it, but the description promises a maximum.
        if isinstance(data, str) and self.max_length is not None and len(data) > self.max_length:
            self.fail("max_length", max_length=self.max_length)
        return super().run_validation(data)


class StrictIntegerField(StrictField, serializers.IntegerField):
    json_type = int


class StrictBooleanField(StrictField, serializers.BooleanField):
    json_type = bool


class StrictChoiceField(StrictField, serializers.ChoiceField):
    json_type = str
    default_error_messages = {"invalid": "Send a text."}


class StrictListField(StrictField):
    """A list that is not empty. Its entries are not validated here."""

    json_type = list
    default_error_messages = {"invalid": "Send a list.", "empty": "The list is empty."}

    def to_internal_value(self, data: list[Any]) -> list[Any]:
        if not data:
            self.fail("empty")
        return data


class Body(serializers.Serializer[Any]):
    """Refuses unknown fields, so that none is ignored silently."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := sorted(data.keys() - self.fields.keys())):
            raise ValidationError({field: ["Unknown field."] for field in unknown[:MAX_UNKNOWN]})
        return super().to_internal_value(data)


class NothingBody(Body):
    """A body without fields; it can be left out."""


class BatchBody(Body):
    """A new batch, apart from its list of profiles."""

    name = StrictCharField(max_length=MAX_NAME)
    priority = StrictIntegerField(
        min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, required=False, help_text="0 unless given; higher runs first."
    )
    checker = StrictCharField(required=False, help_text="The name of a checker; `feed` unless given.")
    queue = StrictBooleanField(required=False, help_text="False creates a paused batch; true unless given.")
    strict = StrictBooleanField(
        required=False, help_text="True creates nothing if an entry is not a valid profile; false unless given."
    )

    #: The field with the list, and the field that numbers its rejected entries.
    list_field: str
    number_field: str

    def validate_checker(self, checker: str) -> str:
        known = get_config().all_checkers
        if checker not in known:
            raise ValidationError(f"Unknown checker. Use one of {', '.join(known)}.")
        return checker

    def attributes(self) -> dict[str, Any]:
        """Those of name, priority, checker and queue that were sent."""
        return {name: value for name, value in self.validated_data.items() if name in BATCH_ATTRIBUTES}

    def read_list(self) -> ImportResult:
        """The list of profiles. Raises EntriesRefused if it cannot be read, has no profile, or fails `strict`."""
        try:
            return self._read_list(strict=self.validated_data.get("strict", False))
        except InvalidList as failed:
            raise EntriesRefused(self.list_field, str(failed), self.rejected(failed.rejects)) from failed

    def _read_list(self, *, strict: bool) -> ImportResult:
        raise NotImplementedError

    def rejected(self, rejects: Sequence[Reject]) -> list[dict[str, Any]]:
        return [{self.number_field: reject.line, "text": reject.text, "reason": reject.reason} for reject in rejects]


@extend_schema_field(
    {
        "type": "array",
        "minItems": 1,
        "items": {
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
        },
    }
)
class ProfilesField(StrictListField):
    """Entries that are not valid profiles are rejected one by one."""


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "From a list",
            {
                "name": "Press",
                "priority": 5,
                "profiles": ["https://example.org/feed", {"url": "https://example.com/news", "name": "The News"}],
            },
            request_only=True,
        )
    ]
)
class BatchJSON(BatchBody):
    """A new batch with its profiles."""

    profiles = ProfilesField(help_text="Addresses, or objects with `url` and optionally `name`.")
    list_field = "profiles"
    number_field = "index"

    def _read_list(self, *, strict: bool) -> ImportResult:
        entries = self.validated_data["profiles"]
        collector = Collector()
        for index, entry in enumerate(entries):
            _add_entry(collector, index, entry)
        if not collector.profiles or (strict and collector.rejects):
            message = f"{len(collector.rejects):,} of {len(entries):,} entries are not valid. Nothing was created."
            raise InvalidList(message, collector.rejects)
        return collector.result(strict)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "From a file",
            {"name": "Magazines", "file": "https://example.org/feed\nhttps://example.com/news\n", "queue": False},
            request_only=True,
            media_type="multipart/form-data",
        )
    ]
)
class BatchUpload(BatchBody):
    """A new batch with its profiles in a file."""

    file = serializers.FileField(help_text="Plain text, CSV, OPML or JSON Lines.")
    format = serializers.ChoiceField(
        FORMATS, required=False, help_text="Needed only if neither the name nor the content of the file shows it."
    )
    list_field = "file"
    number_field = "line"

    def _read_list(self, *, strict: bool) -> ImportResult:
        file = self.validated_data["file"]
        return read_profiles(file, filename=file.name, format=self.validated_data.get("format"), strict=strict)


@extend_schema_serializer(examples=[OpenApiExample("Both", {"name": "Press, daily", "priority": 7}, request_only=True)])
class ChangeBody(Body):
    """The attributes to change."""

    name = StrictCharField(max_length=MAX_NAME, required=False)
    priority = StrictIntegerField(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, required=False)


@extend_schema_serializer(examples=[OpenApiExample("To the front", {"position": 1}, request_only=True)])
class MoveBody(Body):
    """The new position of a batch."""

    position = StrictIntegerField(
        min_value=1, max_value=MAX_POSITION, help_text="A position behind the last one means the last one."
    )
    queue_version = StrictIntegerField(
        min_value=0,
        max_value=MAX_VERSION,
        required=False,
        help_text="The `version` of the queue that you have seen. If it has changed since, the call is refused.",
    )


@extend_schema_serializer(
    examples=[OpenApiExample("With a reason", {"reason": "The network is being repaired."}, request_only=True)]
)
class HoldBody(Body):
    """Why the queue is held."""

    reason = StrictCharField(max_length=MAX_ERROR, allow_blank=True, default="")


@extend_schema_field({"type": "array", "minItems": 1, "maxItems": MAX_BULK, "items": {"type": "string"}})
class IdsField(StrictListField):
    """1 to 1,000 texts, each of them once. An unknown id is not an error of the body, but an outcome."""

    default_error_messages = {
        "too_many": f"Send at most {MAX_BULK:,} ids.",
        "no_text": "Each id is a text. Entry {index} (from 0) is not.",
    }

    def to_internal_value(self, data: list[Any]) -> list[str]:
        ids = super().to_internal_value(data)
        if len(ids) > MAX_BULK:
            self.fail("too_many")
        for index, text in enumerate(ids):
            if not isinstance(text, str):
                self.fail("no_text", index=index)
        return list(dict.fromkeys(str(as_uuid(text) or text) for text in ids))


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            name: schema_of(filter) | {"description": filter.extra["help_text"]}
            for name, filter in BULK_FILTERS.items()
        },
        "minProperties": 1,
        "additionalProperties": False,
    }
)
class BatchFilterField(StrictField):
    json_type = dict
    default_error_messages = {"invalid": "Send an object.", "empty": "The filter is empty."}

    def to_internal_value(self, data: dict[str, Any]) -> QuerySet[Batch]:
        """The batches that the list contains with these filters.

        A value that does not filter is refused: it would silently select every batch.
        """
        if not data:
            self.fail("empty")
        if unknown := sorted(data.keys() - BULK_FILTERS.keys()):
            message = f"Unknown filter. Use one of {', '.join(sorted(BULK_FILTERS))}."
            raise ValidationError({name: [message] for name in unknown[:MAX_UNKNOWN]})
        texts = {name: _query_values(name, value) for name, value in data.items()}
        filtered = BatchFilters(MultiValueDict(texts), queryset=Batch.objects.all())
        problems = {name: list(messages) for name, messages in filtered.errors.items()}
        for name in texts.keys() - problems.keys():
            if filtered.form.cleaned_data[name] in (None, "", []):
                problems[name] = ["The filter is empty."]
        if problems:
            raise ValidationError(problems)
        return filtered.qs  # type: ignore[no-any-return]


def _query_values(name: str, value: Any) -> list[str]:
    """The value as it would be in a query."""
    values = value if isinstance(value, list) else [value]
    if not all(type(value) in {str, int} for value in values) or any(UNSTORABLE.search(str(value)) for value in values):
        raise ValidationError({name: ["Send a text, a number, or a list of them."]})
    if len(values) > 1 and not isinstance(BULK_FILTERS[name].field, forms.MultipleChoiceField):
        raise ValidationError({name: ["This filter takes one value."]})
    return [str(value) for value in values]


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "By id", {"action": "pause", "ids": ["5eedba7c-0000-4000-8000-000000000001"]}, request_only=True
        ),
        OpenApiExample(
            "By filter",
            {"action": "delete", "filter": {"status": ["done"], "completed_before": "2026-01-01T00:00:00Z"}},
            request_only=True,
        ),
    ]
)
class BulkBody(Body):
    """An action, and the batches to apply it to: either `ids` or `filter`."""

    action = StrictChoiceField(list(BULK_ACTIONS))
    ids = IdsField(required=False)
    filter = BatchFilterField(required=False, help_text="Query parameters of the list of batches, without `ordering`.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            raise ValidationError({"ids": ["Send either ids or a filter."]})
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
