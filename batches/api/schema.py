"""The API described for programs, in OpenAPI 3.1. `CALLS` says of each call what its code cannot say of itself.

All else follows from the code: who may make a call from the view's `permissions`, its parameters from the filters and
pages, its body's fields and bounds from the serializers, the refusals from the table of transitions, and the errors
that a kind of call can get (a batch that is not there, a body that is too large, a key used twice) from the kind. A
call without a line in `CALLS` is a warning, and the description is only written without warnings.

The examples are recorded: see `batches/tests/api/recording.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django_filters import MultipleChoiceFilter, OrderingFilter
from drf_spectacular.contrib.django_filters import DjangoFilterExtension
from drf_spectacular.drainage import warn
from drf_spectacular.extensions import OpenApiAuthenticationExtension, OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import extend_schema_field

from batches.models import MAX_NAME, MAX_URL, Batch
from batches.transitions import ALLOWED, CODE_BY_STATUS, Code

from .filters import MomentField
from .serializers import (
    BatchJSON,
    BatchSerializer,
    BatchUpload,
    Body,
    ChangeBody,
    HoldBody,
    MoveBody,
    QueueSerializer,
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

    `asks` is the manager's call, whose forbidden statuses are refusals; `codes` are the refusals beyond those.
    """

    summary: str
    answer: Any = None
    status: int = 200
    body: Any = None
    asks: str = ""
    codes: frozenset[Code] = frozenset()
    description: str = ""
    many: bool = False

    @property
    def refusals(self) -> list[str]:
        """The codes of its 409, in the order of the enum."""
        forbidden = set(Batch.Status) - ALLOWED[self.asks] if self.asks else set()
        codes = self.codes | {CODE_BY_STATUS[status] for status in forbidden}
        return [code.value for code in Code if code in codes]


def action(summary: str, asks: str, *codes: Code, body: type[Body] = Body, description: str = "") -> Call:
    """A call that changes one batch and answers with it."""
    return Call(summary, BatchSerializer, body=body, asks=asks, codes=frozenset(codes), description=description)


#: What came of a list: the answer to creating a batch.
CREATED = {"$ref": "#/components/schemas/Created"}

CALLS: Mapping[str, Call] = {
    "batches_list": Call(
        "List batches", BatchSerializer, many=True, description="In the queue's order, unless `ordering` says another."
    ),
    "batches_create": Call(
        "Create a batch",
        CREATED,
        201,
        {JSON: BatchJSON, FORM: BatchUpload},
        description="From a list in JSON, or from a file: plain text, CSV, OPML or JSON Lines. What cannot be a "
        "profile is listed in `rejected`, and the rest goes in; with `strict` nothing does.",
    ),
    "batches_retrieve": Call("Show a batch", BatchSerializer),
    "batches_partial_update": Call(
        "Rename a batch, or change its priority",
        BatchSerializer,
        body=ChangeBody,
        description="A queued batch with a new priority goes to the end of its new band.",
    ),
    "batches_destroy": Call("Delete a batch", status=204, asks="delete_batch"),
    "batches_queue": action(
        "Queue a batch",
        "queue_batch",
        description="Behind the last queued batch whose priority is at least its own. A batch that is done is checked "
        "anew.",
    ),
    "batches_start": action("Start a batch now", "start_batch", Code.ANOTHER_RUNNING, Code.QUEUE_HELD),
    "batches_pause": action(
        "Pause a batch", "pause_batch", description="No result that comes in after this answer is recorded."
    ),
    "batches_move": action(
        "Move a batch in the queue",
        "move_batch",
        Code.STALE_VERSION,
        body=MoveBody,
        description="A position behind the last one means the last one. With `queue_version` the move is refused if "
        "the queue has changed since.",
    ),
    "batches_retry": action("Check the failed profiles of a batch again", "retry_failed", Code.NOTHING_TO_RETRY),
    "batches_repeat": Call(
        "Check the profiles of a batch again as a new batch", BatchSerializer, 201, Body, description="It is queued."
    ),
    "queue_retrieve": Call("Show the queue", QueueSerializer),
    "queue_hold": Call(
        "Hold the queue",
        QueueSerializer,
        body=HoldBody,
        description="Nothing is started until it is released; the running batch goes on.",
    ),
    "queue_release": Call("Release the queue", QueueSerializer, body=Body),
}

#: Query parameters, by name.
PARAMETERS = {
    "status": "May be given several times.",
    "priority": "Exactly this one.",
    "checker": "The name of the checker.",
    "name": "A part of the name, in upper or lower case.",
    "created_after": "This moment or later. Without an offset it is in the server's time zone.",
    "created_before": "This moment or earlier.",
    "completed_after": "This moment or later.",
    "completed_before": "This moment or earlier.",
    "search": "Words, each of which is somewhere in the name, the checker or the error.",
    "ordering": "One or several, the first one first; `-` turns one round. Rows without a value come last.",
    "page": "From 1.",
    "page_size": "At most 200.",
}


# Shapes that no serializer has

PROGRESS = {
    "type": "object",
    "description": "How far it is. Null where nothing is known yet.",
    "properties": {
        "percent": {"type": "integer", "minimum": 0, "maximum": 100, "description": "100 only when all is checked."},
        "rate": {"type": ["number", "null"], "minimum": 0, "description": "Profiles per second."},
        "seconds_left": {"type": ["number", "null"], "minimum": 0},
    },
    "required": ["percent", "rate", "seconds_left"],
    "additionalProperties": False,
}

#: An entry of a list that cannot be a profile.
REJECTED = {
    "type": "object",
    "properties": {
        "index": {"type": "integer", "minimum": 0, "description": "Its place in a JSON list, from 0."},
        "line": {"type": "integer", "minimum": 0, "description": "Its line in a file, from 1."},
        "text": {"type": "string"},
        "reason": {"type": "string"},
    },
    "required": ["text", "reason"],
    "additionalProperties": False,
}

SCHEMAS = {
    "Created": {
        "type": "object",
        "description": "A new batch, and what became of the list it was made from.",
        "properties": {
            "batch": {"$ref": "#/components/schemas/Batch"},
            "accepted": {"type": "integer", "minimum": 1},
            "duplicates": {"type": "integer", "minimum": 0},
            "rejected": {"type": "array", "items": {"$ref": "#/components/schemas/Rejected"}},
        },
        "required": ["batch", "accepted", "duplicates", "rejected"],
        "additionalProperties": False,
    },
    "Rejected": REJECTED,
    "Error": {
        "type": "object",
        "description": "The one shape of every error. `code` is for programs and `detail` for people.",
        "properties": {
            "code": {"type": "string", "description": "More codes may come within one version."},
            "detail": {"type": "string"},
            "errors": {
                "type": "object",
                "description": "What is wrong with each field or query parameter.",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
            "rejected": {
                "type": "array",
                "description": "The entries of a list that made it fail.",
                "items": {"$ref": "#/components/schemas/Rejected"},
            },
            "batch": {"$ref": "#/components/schemas/Batch", "description": "The batch as it is now."},
        },
        "required": ["code", "detail"],
        "additionalProperties": False,
    },
}

ERROR = {"$ref": "#/components/schemas/Error"}

PROFILE_ENTRY = {
    "oneOf": [
        {"type": "string", "description": "An address."},
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

extend_schema_field(PROGRESS)(BatchSerializer.get_progress)
extend_schema_field(BatchSerializer(many=True))(QueueSerializer.get_waiting)


class EntriesField(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = "batches.api.serializers.Entries"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: str) -> dict[str, Any]:
        return {"type": "array", "minItems": 1, "items": PROFILE_ENTRY}


# Errors


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that several calls share."""

    name: str
    description: str
    headers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> dict[str, Any]:
        return {"$ref": f"#/components/responses/{self.name}"}

    def response(self) -> dict[str, Any]:
        response = {"description": self.description, "content": {JSON: {"schema": ERROR}}}
        return response | ({"headers": dict(self.headers)} if self.headers else {})


PROBLEMS = {
    400: Problem("Invalid", "What was sent cannot be read, or is not what this call takes. `errors` names the fields."),
    401: Problem("NotAuthenticated", "No token, or one that is not valid."),
    403: Problem("PermissionDenied", "The user may not make this call, or the session came without its CSRF token."),
    404: Problem("NotFound", "There is no such batch."),
    406: Problem("NotAcceptable", "The answer is JSON, and `Accept` does not allow that."),
    409: Problem("Refused", "The batch's state forbids it."),
    413: Problem("TooLarge", "The body is too large: send a long list as a file, a very long one as several."),
    415: Problem("UnsupportedMediaType", "The body is not of a type that this call takes, or not in UTF-8."),
}


# From the views to the description


class CallSchema(AutoSchema):
    """Describes one call of the API."""

    @property
    def call(self) -> Call:
        operation_id = self.get_operation_id()
        if operation_id not in CALLS:
            warn(f"Say in CALLS, in batches/api/schema.py, what {operation_id} does.")
        return CALLS.get(operation_id, Call(operation_id))

    @property
    def action(self) -> str:
        view: Any = self.view
        return str(view.action)

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is not None:
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
        return f"{self.call.description} Needs the permission `{view.permissions[self.action]}`.".strip()

    def get_request_serializer(self) -> Any:
        return self.call.body or {}

    def get_response_serializers(self) -> Any:
        return {self.call.status: self.call.answer}

    def map_parsers(self) -> list[str]:
        return [JSON]

    def _is_list_view(self, serializer: Any = None) -> bool:
        return self.call.many

    def get_serializer_name(self, serializer: Any, direction: str) -> str:
        return str(super().get_serializer_name(serializer, direction)).removesuffix("Body") or "Nothing"  # type: ignore[arg-type]

    def _postprocess_serializer_schema(self, schema: dict[str, Any], serializer: Any, direction: str) -> Any:
        schema = super()._postprocess_serializer_schema(schema, serializer, direction)  # type: ignore[no-untyped-call]
        # Unknown fields are refused on the way in, and there are none on the way out.
        schema["additionalProperties"] = False
        if not type(serializer).__dict__.get("__doc__"):  # the one of its parent
            schema.pop("description", None)
        for shape in schema.get("properties", {}).values():
            shape.pop("readOnly", None)
            shape.pop("title", None)
        return schema

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        responses[str(self.call.status)]["description"] = HTTPStatus(self.call.status).phrase
        if self.call.status == 201:
            responses["201"]["headers"] = {"Location": {"schema": {"type": "string", "format": "uri"}}}
        for status in sorted(self.statuses()):
            responses[str(status)] = PROBLEMS[status].ref
        if self.call.refusals:
            codes = ", ".join(f"`{code}`" for code in self.call.refusals)
            responses["409"] = Problem("", f"{PROBLEMS[409].description} `code` is one of {codes}.").response()
        return responses

    def statuses(self) -> Iterable[int]:
        """Those of the errors that a call of this kind can answer."""
        has_body, has_batch = self.method in {"POST", "PATCH"}, "{id}" in self.path
        yield from (401, 403, 406, 415)
        if has_body or self._get_filter_parameters():  # type: ignore[no-untyped-call]
            yield 400
        if has_body:
            yield 413
        if has_batch:
            yield 404
        if self.call.refusals:
            yield 409


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "batches.api.authentication.TokenAuthentication"
    name = "token"
    priority = 1

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token` and a token of yours.",
        }


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "batches.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        description = "Logged in to the admin; what changes something needs the CSRF token in `X-CSRFToken` as well."
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME, "description": description}


class FilterParameters(DjangoFilterExtension):  # type: ignore[no-untyped-call]
    """The filters as their form fields are: with their bounds and choices."""

    target_class = "batches.api.filters.KnownParameters"
    priority = 1

    def get_schema_operation_parameters(
        self, auto_schema: AutoSchema, *args: Any, **kwargs: Any
    ) -> list[dict[str, Any]]:
        filters = self.target.get_filterset_class(auto_schema.view).base_filters
        return [parameter(name, shape_of(one)) for name, one in filters.items()]


def parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    # As in the forms that filters are made for, an empty value filters nothing.
    described: dict[str, Any] = {"name": name, "in": "query", "schema": schema, "allowEmptyValue": True}
    if name in PARAMETERS:
        described["description"] = PARAMETERS[name]
    else:
        warn(f"Say in PARAMETERS, in batches/api/schema.py, what the query parameter {name} means.")
    if schema.get("type") == "array":
        described["explode"] = name != "ordering"
    return described


def shape_of(one: Any) -> dict[str, Any]:
    """The JSON schema of what a filter takes."""
    made = one.field
    if isinstance(one, MultipleChoiceFilter):
        return {"type": "array", "items": {"type": "string", "enum": [value for value, _ in made.choices]}}
    if isinstance(one, OrderingFilter):
        return {"type": "array", "items": {"type": "string", "enum": [value for value, _ in made.choices if value]}}
    if isinstance(made, forms.IntegerField):
        return {"type": "integer", "minimum": made.min_value, "maximum": made.max_value}
    if isinstance(made, MomentField):
        return {"type": "string", "format": "date-time"}
    return {"type": "string", "maxLength": made.max_length}


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
        if "request" in example:
            _add(operation["requestBody"]["content"][example["media_type"]], example, "request")
        if "answer" in example:
            _add(_response(operation, example["status"])["content"][JSON], example, "answer")


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


def add_shared_parts(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: the shapes and the errors that calls refer to."""
    responses = {str(status): problem.response() for status, problem in PROBLEMS.items()}
    add_examples({"responses": responses}, examples_of(SHARED))
    result["components"]["schemas"].update(SCHEMAS)
    result["components"]["responses"] = {PROBLEMS[int(status)].name: one for status, one in responses.items()}
    return result
