"""The API described for programs, in OpenAPI 3.1. `CALLS` says of each call what its code cannot say of itself.

All else follows from the code: who may make a call from the view's `permissions`, its parameters from the filters and
pages, its body's fields and bounds from the serializers, the refusals from the table of transitions, and the errors
that a kind of call can get (a batch that is not there, a body that is too large, a key used twice) from the kind. A
call without a line in `CALLS` is a warning, and the description is only written without warnings.

The examples are recorded from real calls: see `batches/tests/api/recording.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django_filters import ChoiceFilter, MultipleChoiceFilter, OrderingFilter, UUIDFilter
from drf_spectacular.contrib.django_filters import DjangoFilterExtension
from drf_spectacular.drainage import warn
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework.serializers import Serializer

from batches.limits import MAX_BULK, MAX_KEY, MAX_NAME, MAX_URL
from batches.lists.exports import EXPORTERS, MEDIA_TYPES, STORY_EXPORTERS
from batches.models import Action, Batch
from batches.queue.actions import CODE_BY_STATUS, RULES
from batches.queue.refusals import Code

from .answers import BulkSerializer, CreatedSerializer, ErrorSerializer
from .filters import BatchFilters, FlagFilter, MomentField
from .idempotency import HEADER, REPLAYED
from .serializers import (
    BatchJSON,
    BatchSerializer,
    BatchUpload,
    Body,
    BulkBody,
    ChangeBody,
    ComparisonSerializer,
    HoldBody,
    LogSerializer,
    MoveBody,
    ProfileSerializer,
    QueueSerializer,
    RowSerializer,
    StorySerializer,
)

EXAMPLES = Path(__file__).with_name("examples.json")
#: In the examples, the operation of those that every call can get.
SHARED = "*"

JSON = "application/json"
FORM = "multipart/form-data"


# What each call does


@dataclass(frozen=True, slots=True)
class Call:
    """One call: what it does in a few words, what it takes, and what it answers when all is well.

    `asks` is the manager's call, whose forbidden statuses are refusals; `codes` are the refusals beyond those. `tagged`
    ones answer with an ETag; `kinds` are the files that an export can make.
    """

    summary: str
    answer: type[Serializer[Any]] | None = None
    description: str = ""
    status: int = 200
    body: type[Body] | Mapping[str, type[Body]] | None = None
    asks: str = ""
    codes: frozenset[Code] = frozenset()
    many: bool = False
    tagged: bool = False
    kinds: tuple[str, ...] = ()

    @property
    def refusals(self) -> list[str]:
        """The codes of its 409, in the order of the enum."""
        forbidden = set(Batch.Status) - RULES[Action(self.asks)].allowed_from if self.asks else set()
        codes = self.codes | {CODE_BY_STATUS[status] for status in forbidden}
        return [code.value for code in Code if code in codes]


def action(summary: str, asks: str, *codes: Code, description: str = "", body: type[Body] = Body) -> Call:
    """A call that changes one batch and answers with it."""
    return Call(summary, BatchSerializer, description, body=body, asks=asks, codes=frozenset(codes))


def listing(summary: str, answer: type[Serializer[Any]], description: str) -> Call:
    return Call(summary, answer, description, many=True)


CALLS: Mapping[str, Call] = {
    "batches_list": listing("List batches", BatchSerializer, "In the queue's order, unless `ordering` says another."),
    "batches_create": Call(
        "Create a batch",
        CreatedSerializer,
        "From a list in JSON, or from a file: plain text, CSV, OPML or JSON Lines. What cannot be a profile is listed "
        "in `rejected`, and the rest goes in; with `strict` nothing does.",
        201,
        {JSON: BatchJSON, FORM: BatchUpload},
    ),
    "batches_bulk": Call(
        "Do one thing for many batches",
        BulkSerializer,
        f"For at most {MAX_BULK:,} batches by their ids, or for those that match a filter and that the action is "
        "for. Each has an outcome of its own. `delete` needs the permission to delete, the others that to operate; a "
        "filter needs the permission to view as well.",
        body=BulkBody,
    ),
    "batches_retrieve": Call("Show a batch", BatchSerializer, tagged=True),
    "batches_partial_update": Call(
        "Rename a batch, or change its priority",
        BatchSerializer,
        "A queued batch with a new priority goes to the end of its new band.",
        body=ChangeBody,
    ),
    "batches_destroy": Call("Delete a batch", status=204, asks="delete_batch"),
    "batches_queue": action(
        "Queue a batch",
        "queue_batch",
        description="Behind the last queued one whose priority is at least its own. One that is done is checked anew.",
    ),
    "batches_start": action("Start a batch now", "start_batch", Code.ANOTHER_RUNNING, Code.QUEUE_HELD),
    "batches_pause": action(
        "Pause a batch", "pause_batch", description="No result that comes in after this answer is recorded."
    ),
    "batches_move": action(
        "Move a batch in the queue",
        "move_batch",
        Code.STALE_VERSION,
        description="A position behind the last one means the last one. With `queue_version` it is refused if the "
        "queue has changed since.",
        body=MoveBody,
    ),
    "batches_retry": action("Check a batch's failed profiles again", "retry_failed", Code.NOTHING_TO_RETRY),
    "batches_repeat": Call("Check a batch's profiles again, as a new batch", BatchSerializer, "", 201, Body),
    "batches_profiles_list": listing(
        "List a batch's profiles and results", RowSerializer, "In the order they came in."
    ),
    "batches_stories_list": listing("List the stories a batch found", StorySerializer, "The newest find first."),
    "batches_logs_list": listing("List what happened to a batch", LogSerializer, "Newest first."),
    "batches_comparison_retrieve": Call(
        "Compare a batch with the one that it repeats",
        ComparisonSerializer,
        "A batch that repeats none, or one that is deleted, has no comparison: 404.",
    ),
    "batches_export": Call(
        "Export a batch's profiles and results",
        description="The filters are those of the list. The file is written while it is sent.",
        kinds=tuple(EXPORTERS),
    ),
    "batches_stories_export": Call(
        "Export the stories a batch found",
        description="The filters are those of the list. The file is written while it is sent.",
        kinds=tuple(STORY_EXPORTERS),
    ),
    "queue_retrieve": Call("Show the queue", QueueSerializer, tagged=True),
    "queue_hold": Call(
        "Hold the queue",
        QueueSerializer,
        "Nothing is started until it is released; the running batch goes on.",
        body=HoldBody,
    ),
    "queue_release": Call("Release the queue", QueueSerializer, body=Body),
    "profiles_list": listing("List all profiles", ProfileSerializer, "Of whichever batch, in the order they came."),
    "stories_list": listing("List all stories", StorySerializer, "Of whichever batch, the newest find first."),
}

#: Query parameters, by name; those of the pages say themselves what they are.
PARAMETERS = {
    "status": "May be given several times.",
    "priority": "Exactly this one.",
    "checker": "The name of the checker.",
    "name": "A part of the name, in upper or lower case.",
    "created_after": "This moment or later; without an offset it is in the server's time zone.",
    "created_before": "This moment or earlier.",
    "completed_after": "This moment or later.",
    "completed_before": "This moment or earlier.",
    "search": "Words, each of which is somewhere in what the list shows: names, addresses, titles, errors.",
    "ordering": "One or several, the first one first; `-` turns one round. Rows without a value come last.",
    "error": "Exactly this reason.",
    "error_contains": "A part of the reason, in upper or lower case.",
    "has_story": "Whether this check found a new story.",
    "http_status": "What the address answered with.",
    "host": "Where the profile is: `example.org`, or `example.org:8080`.",
    "change": "What became of a profile since the batch that this one repeats.",
    "action": "The manager's call, such as `pause_batch`.",
    "channel": "The door. May be given several times.",
    "actor": "Exactly this user or worker.",
    "profile": "The profile's id.",
    "batch": "The batch that was the first to see it.",
    "found_after": "This moment or later.",
    "found_before": "This moment or earlier.",
    "published_after": "This moment or later.",
    "published_before": "This moment or earlier.",
    "failing": "Whether the last check failed.",
    "checked": "Whether it was ever checked.",
    "checked_after": "Last checked at this moment or later.",
    "checked_before": "Last checked at this moment or earlier.",
}


# Errors


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that several calls share."""

    name: str
    description: str
    headers: Mapping[str, Any] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=lambda: {JSON: {"schema": ref("schemas", "Error")}})

    @property
    def shared(self) -> dict[str, Any]:
        return ref("responses", self.name)

    def response(self) -> dict[str, Any]:
        parts = {"headers": self.headers, "content": self.content}
        return {"description": self.description} | {name: _copy(part) for name, part in parts.items() if part}


def ref(kind: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"}


NULL = ref("schemas", "Null")


def _copy(part: Any) -> Any:
    return json.loads(json.dumps(part))


SECONDS = {"Retry-After": {"description": "In so many seconds.", "schema": {"type": "integer", "minimum": 0}}}
TAG = {"ETag": ref("headers", "ETag")}

PROBLEMS = {
    304: Problem("NotModified", "It is as it was when it had the tag in `If-None-Match`.", TAG, {}),
    400: Problem("Invalid", "What was sent cannot be read, or is not what this call takes. `errors` names the fields."),
    401: Problem("NotAuthenticated", "No token, or one that is not valid."),
    403: Problem("PermissionDenied", "The user may not make this call, or the session came without its CSRF token."),
    404: Problem("NotFound", "There is no such thing, or none that this call is for."),
    406: Problem("NotAcceptable", "The answer is JSON, and `Accept` does not allow that."),
    409: Problem("Refused", "The batch's state forbids it, and nothing was changed."),
    412: Problem("PreconditionFailed", "It is not what `If-Match` or `If-Unmodified-Since` asks for."),
    413: Problem("TooLarge", "The body is too large: send a long list as a file, a very long one as several."),
    415: Problem("UnsupportedMediaType", "The body is not of a type that this call takes, or not in UTF-8."),
    422: Problem("KeyReused", f"This `{HEADER}` was sent with another request before: take a new key."),
    429: Problem("Throttled", "Too many requests.", SECONDS),
    503: Problem("Unavailable", "The database is away, or locked for too long. Nothing was changed.", SECONDS),
}

PARTS = {
    "parameters": {
        "IdempotencyKey": {
            "name": HEADER,
            "in": "header",
            "description": "1 to 255 visible ASCII characters, best a new UUID for each thing to be done. The same "
            "request with the same key is done once, and gets the first answer again.",
            "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
        },
        "IfNoneMatch": {
            "name": "If-None-Match",
            "in": "header",
            "description": "The `ETag` of an answer: if nothing has changed since, there is no body, but a 304.",
            "schema": {"type": "string"},
        },
    },
    "headers": {
        "ETag": {"description": "For `If-None-Match` in the next request.", "schema": {"type": "string"}},
        "IdempotentReplayed": {
            "description": "This request was answered before, and is answered again.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "Location": {"description": "The new batch.", "schema": {"type": "string", "format": "uri"}},
    },
}


# From the views to the description


class CallSchema(AutoSchema):
    """Describes one call of the API."""

    @property
    def action(self) -> str:
        view: Any = self.view
        return str(view.action)

    @property
    def call(self) -> Call:
        operation_id = self.get_operation_id()
        if operation_id not in CALLS:
            warn(f"Say in CALLS, in batches/api/schema.py, what {operation_id} does.")
        return CALLS.get(operation_id, Call(operation_id))

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is not None:
            operation["parameters"] = [*operation.get("parameters", []), *self.headers()]
            add_examples(operation, examples_of(operation["operationId"]))
        return operation

    def get_operation_id(self) -> str:
        """The path's words, and the action where the path does not end with it: batches_list, batches_pause."""
        words: list[str] = self._tokenize_path()
        if len(words) == 1 or words[-1] != self.action:
            words = [*words, self.action]
        return "_".join(words)

    def get_summary(self) -> str:
        return self.call.summary

    def get_description(self) -> str:  # type: ignore[override]
        view: Any = self.view
        needed = view.permissions[self.action]
        if not isinstance(needed, str):  # which of them, the call says itself
            return self.call.description
        return f"{self.call.description} Needs the permission `{needed}`.".strip()

    # What is asked

    def _resolve_path_parameters(self, variables: Iterable[str]) -> list[dict[str, Any]]:
        shapes = {
            "id": {"type": "string", "format": "uuid"},
            "kind": {"type": "string", "enum": list(self.call.kinds)},
        }
        return [{"name": name, "in": "path", "required": True, "schema": shapes[name]} for name in variables]

    def get_filter_backends(self) -> list[Any]:
        return getattr(self.view, "filter_backends", []) if self.call.many or self.call.kinds else []

    def headers(self) -> Iterator[dict[str, Any]]:
        if self.method == "POST":
            yield ref("parameters", "IdempotencyKey")
        if self.call.tagged:
            yield ref("parameters", "IfNoneMatch")

    def get_request_serializer(self) -> Any:
        return self.call.body or {}

    def map_parsers(self) -> list[str]:
        return [JSON]

    # What is answered

    def get_response_serializers(self) -> Any:
        return {self.call.status: self.call.answer}

    def _is_list_view(self, serializer: Any = None) -> bool:
        return self.call.many

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        self.resolve_serializer(ErrorSerializer, direction)
        success = responses[str(self.call.status)]
        success["description"] = HTTPStatus(self.call.status).phrase
        if self.call.kinds:
            text = {"schema": {"type": "string"}}
            success["content"] = {MEDIA_TYPES[kind]: text for kind in self.call.kinds}
        if headers := dict(self.answered_headers()):
            success["headers"] = headers
        for status in sorted(self.statuses()):
            responses[str(status)] = PROBLEMS[status].shared
        if self.call.refusals:
            codes = ", ".join(f"`{code}`" for code in self.call.refusals)
            responses["409"] = Problem("", f"{PROBLEMS[409].description} `code` is one of {codes}.").response()
        return responses

    def answered_headers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.call.status == 201:
            yield "Location", ref("headers", "Location")
        if self.call.tagged:
            yield "ETag", ref("headers", "ETag")
        if self.method == "POST":
            yield REPLAYED, ref("headers", "IdempotentReplayed")

    def statuses(self) -> Iterator[int]:
        """Those of the answers that a call of this kind can get when not all is well."""
        yield from (401, 403, 415, 429, 503)
        if self.method in {"POST", "PATCH"}:
            yield from (400, 413)
        if self.method == "POST":
            yield 422
        if self.get_filter_backends():
            yield 400
        if not self.call.kinds:  # what a file is made of is in its address, whatever `Accept` says
            yield 406
        if "{id}" in self.path:
            yield 404
        if self.call.tagged:
            yield from (304, 412)
        if self.call.refusals:
            yield 409

    # Shapes

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        return super().get_serializer_name(serializer, direction).removesuffix("Body") or "Nothing"

    def _postprocess_serializer_schema(self, schema: dict[str, Any], serializer: Any, direction: str) -> Any:
        schema = super()._postprocess_serializer_schema(schema, serializer, direction)  # type: ignore[no-untyped-call]
        if isinstance(serializer, Body):
            # Refused on the way in. On the way out there may be more fields one day, within the same version.
            schema["additionalProperties"] = False
        if not type(serializer).__dict__.get("__doc__"):  # the one of its parent
            schema.pop("description", None)
        for shape in schema.get("properties", {}).values():
            shape.pop("readOnly", None)
            shape.pop("title", None)
        return schema


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "batches.api.authentication.TokenAuthentication"
    name = "token"
    priority = 1

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        description = "`Token`, a space, and a token from `manage.py token create USER`."
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": description}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "rest_framework.authentication.SessionAuthentication"
    name = "session"
    priority = 1

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        description = "Logged in to the admin; what changes something needs the CSRF token in `X-CSRFToken` as well."
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME, "description": description}


# Filters


class FilterParameters(DjangoFilterExtension):  # type: ignore[no-untyped-call]
    """The filters as their form fields are: with their bounds and choices."""

    target_class = "batches.api.filters.KnownParameters"
    priority = 1

    def get_schema_operation_parameters(
        self, auto_schema: AutoSchema, *args: Any, **kwargs: Any
    ) -> list[dict[str, Any]]:
        view: Any = auto_schema.view
        return [parameter(name, shape_of(one)) for name, one in view.filterset_class.base_filters.items()]


def parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    # As in the forms that filters are made for, an empty value filters nothing.
    described: dict[str, Any] = {"name": name, "in": "query", "schema": schema, "allowEmptyValue": True}
    if name in PARAMETERS:
        described["description"] = PARAMETERS[name]
    else:
        warn(f"Say in PARAMETERS, in batches/api/schema.py, what the query parameter {name} means.")
    if schema["type"] == "array":
        described["explode"] = name != "ordering"
    return described


def shape_of(one: Any) -> dict[str, Any]:
    """The JSON schema of what a filter takes."""
    made = one.field
    if isinstance(one, FlagFilter):
        return {"type": "boolean"}
    if isinstance(one, MultipleChoiceFilter | ChoiceFilter):
        choice = {"type": "string", "enum": [value for value, _ in made.choices if value]}
        several = isinstance(one, MultipleChoiceFilter | OrderingFilter)
        return {"type": "array", "items": choice} if several else choice
    if isinstance(made, forms.IntegerField):
        return {"type": "integer", "minimum": made.min_value, "maximum": made.max_value}
    if isinstance(made, MomentField):
        return {"type": "string", "format": "date-time"}
    if isinstance(one, UUIDFilter):
        return {"type": "string", "format": "uuid"}
    return {"type": "string", "maxLength": made.max_length}


# Shapes of bodies that are more than their fields


class EntriesField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "batches.api.serializers.Entries"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        named = {
            "type": "object",
            "properties": {
                "url": {"type": "string", "maxLength": MAX_URL},
                "name": {"type": "string", "maxLength": MAX_NAME},
            },
            "required": ["url"],
            "additionalProperties": False,
        }
        return {"type": "array", "minItems": 1, "items": {"oneOf": [{"type": "string"}, named]}}


class IdsField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "batches.api.serializers.Ids"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        return {"type": "array", "minItems": 1, "maxItems": MAX_BULK, "items": {"type": "string"}}


class FilterField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The list's filters, each with the value that it takes there."""

    target_class = "batches.api.serializers.Filter"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        filters = {name: one for name, one in BatchFilters.base_filters.items() if name != "ordering"}
        return {
            "type": "object",
            "description": "The parameters of the list of batches, without `ordering`.",
            "properties": {name: shape_of(one) for name, one in filters.items()},
            "minProperties": 1,
            "additionalProperties": False,
        }


# Examples


@cache
def recorded() -> Mapping[str, Any]:
    """The recorded calls by operation: lists of {"summary", "media_type", "request", "status", "answer"}."""
    return dict(json.loads(EXAMPLES.read_text())) if EXAMPLES.exists() else {}


def examples_of(operation_id: str) -> list[Mapping[str, Any]]:
    return list(recorded().get(operation_id, []))


def add_examples(operation: dict[str, Any], examples: Iterable[Mapping[str, Any]]) -> None:
    """Puts each recorded call beside the body and the answer that it is an example of."""
    for example in examples:
        try:
            if "request" in example:
                _add(operation["requestBody"]["content"][example["media_type"]], example, "request")
            if "answer" in example:
                content = _response(operation, example["status"])["content"]
                _add(content[example.get("answer_type", JSON)], example, "answer")
        except KeyError:
            warn(f"The example {example['summary']!r} is of what is not described (any more). Run: make schema")


def _response(operation: dict[str, Any], status: int) -> Any:
    """The operation's own response: not the one it shares with all."""
    responses = operation["responses"]
    if "$ref" in responses[str(status)]:
        responses[str(status)] = PROBLEMS[status].response()
    return responses[str(status)]


def _add(content: dict[str, Any], example: Mapping[str, Any], part: str) -> None:
    summary = example["summary"]
    name = summary.lower().replace(" ", "_").replace(",", "")
    content.setdefault("examples", {})[name] = {"summary": summary, "value": example[part]}


# Hooks of drf-spectacular


def only_with_version(endpoints: Iterable[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Without the paths that leave the version out: they are for people."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/v")]


def add_shared_parts(result: dict[str, Any], generator: Any, **_: Any) -> dict[str, Any]:
    """The shapes, errors, parameters and headers that calls refer to."""
    responses = {str(status): problem.response() for status, problem in PROBLEMS.items()}
    add_examples({"responses": responses}, examples_of(SHARED))
    named = {PROBLEMS[int(status)].name: response for status, response in responses.items()}
    schemes = result["components"]["securitySchemes"]
    in_order = {name: schemes[name] for name in (TokenScheme.name, SessionScheme.name)}
    result["components"] |= {"responses": named, **PARTS, "securitySchemes": in_order}
    result["components"]["schemas"].pop("Null", None)
    _say_null(result)
    return result


def _say_null(part: Any) -> None:
    """In OpenAPI 3.1 null is a type: no keyword, as the pages' schemas have it, and no enumeration of its own."""
    if isinstance(part, list):
        for inner in part:
            _say_null(inner)
    elif isinstance(part, dict):
        if part.pop("nullable", None) is True:
            part["type"] = [part["type"], "null"]
        if part.get("$ref") == NULL["$ref"]:
            part.clear()
            part["type"] = "null"
        for inner in part.values():
            _say_null(inner)
