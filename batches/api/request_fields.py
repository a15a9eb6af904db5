"""Building blocks of the bodies of requests: fields, examples, lists of profiles. The manager decides what is allowed.

The bodies themselves are in `batch_requests` and `list_requests`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.utils import html

from batches.conf import get_config
from batches.limits import MAX_BULK, MAX_ID, MAX_NAME, MAX_PRIORITY, MAX_URL, MIN_PRIORITY
from batches.lists.formats import FORMATS, read_profiles
from batches.lists.imports import Collector, ImportResult, InvalidList, Reject
from batches.text import pluralise

from .filters import MAX_UNKNOWN

COUNT_FIRST = "True counts the stories of a profile's first check as new; false unless given."


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


class ChoiceField(serializers.ChoiceField):
    """Its error names the choices."""

    def __init__(self, choices: Any, **options: Any) -> None:
        super().__init__(choices, **options)
        self.error_messages["invalid_choice"] = f"Use one of {', '.join(self.choices)}."


class Body(serializers.Serializer[Any]):
    """Refuses unknown fields instead of ignoring them, and values that the description does not allow."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            self._require_described(data)
        return super().to_internal_value(data)

    def _require_described(self, data: Any) -> None:
        """Check the types before the fields convert values: CharField would even print them, which fails for deep
        nesting.
        """
        unknown, is_form = sorted(data.keys() - self.fields.keys()), html.is_html_input(data)
        repeated = [name for name, values in data.lists() if len(values) > 1] if is_form else []
        advice = (
            dict.fromkeys(unknown[:MAX_UNKNOWN], "Unknown field.")
            or dict.fromkeys(repeated, "Give this field only once.")
            or {name: _advise(self.fields[name], value, is_form) for name, value in data.items()}
        )
        if problems := {name: [text] for name, text in advice.items() if text}:
            raise ValidationError(problems)


def _advise(field: Any, value: Any, is_form: bool) -> str:
    """Say what to send instead of the value; "" if it fits. In a form every value is text, which the field parses."""
    if value is not None and not is_form:
        json_type, advice = next(entry for kind, entry in JSON_TYPES.items() if isinstance(field, kind))
        if type(value) is not json_type:
            return advice
    if is_form and value == "" and not field.required:  # the framework would ignore it
        return "Give this field a value, or leave it out."
    limit = getattr(field, "max_length", None)
    if limit is not None and isinstance(value, str | list) and len(value) > limit:
        return str(field.error_messages["max_length"]).format(max_length=limit)
    if isinstance(field, serializers.ListField) and not isinstance(field, EntriesField):
        return next(filter(None, (_advise(field.child, entry, is_form) for entry in value or ())), "")
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

    def read_list(self) -> ImportResult:
        """The list of profiles. Raises EntriesRefused if it cannot be read, has no profile, or fails `strict`."""
        try:
            return self._read_list(strict=self.validated_data["strict"])
        except InvalidList as failed:
            raise EntriesRefused(self.list_field, str(failed), self.rejected(failed.rejects)) from failed

    def _read_list(self, *, strict: bool) -> ImportResult:
        raise NotImplementedError

    def report(self, found: ImportResult) -> dict[str, Any]:
        """The accepted, duplicate and rejected entries."""
        rejected = self.rejected(found.rejects)
        return {"accepted": len(found.profiles), "duplicates": found.duplicates, "rejected": rejected}

    def rejected(self, rejects: Sequence[Reject]) -> list[dict[str, Any]]:
        return [{self.number_field: reject.line, "text": reject.text, "reason": reject.reason} for reject in rejects]


class EntriesField(serializers.ListField):
    """Its entries are validated elsewhere; the child describes them."""

    default_error_messages = {"min_length": "The list is empty."}

    def run_child_validation(self, data: list[Any]) -> list[Any]:
        return data


def ids_field(child: serializers.Field[Any, Any, Any, Any] | None = None, **options: Any) -> serializers.ListField:
    """An optional field with the ids of up to MAX_BULK rows, which have numbers unless `child` is given."""
    child = child or serializers.IntegerField(min_value=1, max_value=MAX_ID)
    return serializers.ListField(child=child, min_length=1, max_length=MAX_BULK, required=False, **options)


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
            rejected, sent = len(collector.rejects), pluralise(len(entries), "entry", "entries")
            verb = "is" if rejected == 1 else "are"
            message = f"{rejected:,} of {sent} {verb} not valid. Nothing was changed."
            raise InvalidList(message, collector.rejects)
        return collector.result(strict)


class ProfilesUpload(ProfilesBody):
    """Profiles in a file."""

    file = serializers.FileField(help_text="Plain text, CSV, OPML or JSON.")
    format = ChoiceField(
        FORMATS, required=False, help_text="Needed only if neither the name nor the content of the file shows it."
    )
    list_field = "file"
    number_field = "line"

    def _read_list(self, *, strict: bool) -> ImportResult:
        file = self.validated_data["file"]
        return read_profiles(file, filename=file.name, format=self.validated_data.get("format"), strict=strict)


class NewBody(Body):
    """The common fields of new batches and new lists, apart from their profiles."""

    name = serializers.CharField(max_length=MAX_NAME)
    priority = serializers.IntegerField(
        min_value=MIN_PRIORITY,
        max_value=MAX_PRIORITY,
        required=False,
        help_text="0 unless given; higher runs first.",
    )
    checker = CheckerField(required=False, help_text="The name of a checker; `feed` unless given.")
    count_first = serializers.BooleanField(required=False, help_text=COUNT_FIRST)

    def attributes(self, *names: str) -> dict[str, Any]:
        """The fields that the manager takes unchanged."""
        names = ("name", "priority", "checker", "count_first", *names)
        return {name: self.validated_data[name] for name in names if name in self.validated_data}


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
