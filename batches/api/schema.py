"""The API described for programs, in OpenAPI 3.1, by drf-spectacular.

Summaries and descriptions are the docstrings of views and actions and the `help_text` of fields and filters. This adds
what all calls of a kind share: names, headers, errors, and the bounds of query parameters.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

from drf_spectacular.contrib.django_filters import DjangoFilterExtension
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from batches.limits import MAX_KEY
from batches.lists.exports import MEDIA_TYPES
from batches.models import Action, Batch
from batches.queue.refusals import Code
from batches.queue.transitions import CODE_BY_STATUS, RULES

from .filters import BulkFilters, StrictFilterBackend
from .request_fields import Body
from .serializers import BATCH_EXAMPLE, ErrorSerializer

F = TypeVar("F", bound=Callable[..., Any])

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"

#: Where the paths of a version begin, below whichever path the project includes the API at.
PATH_PREFIX = "/(?:.*/)?v[0-9]+/"

JSON = "application/json"
FORM = "multipart/form-data"

ERRORS = {
    400: "The request is not valid. `errors` has messages by field, query parameter or header.",
    401: "The token is missing or not valid.",
    403: "The user does not have the permission, or the session has sent no CSRF token.",
    404: "Not found.",
    406: "The call returns only JSON, and `Accept` does not allow that.",
    409: "The state of the batch or of the list does not allow the call. Nothing was changed.",
    412: "`If-Match` or `If-Unmodified-Since` is not met.",
    413: "The body is too large. Upload a long list as a file, or split it.",
    415: "The call does not take this type of body, or the body is not in UTF-8.",
    422: f"The `{HEADER}` belongs to another request. Use a new key.",
    429: "Too many requests.",
    503: "The database is unavailable, or was locked for too long. Nothing was changed.",
}

ID = {"type": "string", "format": "uuid"}
NUMBER = {"type": "integer", "minimum": 1}
KEY = {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"}
BOUNDS = {"max_length": "maxLength", "min_value": "minimum", "max_value": "maximum"}
SECONDS = {"type": "integer", "minimum": 0}


def header(name: str, description: str, schema: Any = str, response: list[int] | bool = False) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description, response=response)


#: For a GET, which returns 304 if the client has the current version, and for the changes that depend on a version.
IF_NONE_MATCH = [
    header("If-None-Match", "The `ETag` of an earlier response. If nothing has changed, the response is 304."),
    header("ETag", "Send it as `If-None-Match` in the next request.", response=[200, 304]),
]
IF_MATCH = header("If-Match", "The `ETag` that you have seen. If it has changed since, the response is 412.")
RETRY_AFTER = header("Retry-After", "Try again after this many seconds.", SECONDS, response=[429, 503])
IDEMPOTENCY = [
    header(
        HEADER,
        "A new key, such as a UUID, for each change. The same request sent again with the same key is not repeated: "
        "it gets the first response again.",
        KEY,
    ),
    header(
        REPLAYED,
        "This is the stored response to an earlier request.",
        {"type": "string", "enum": ["true"]},
        response=[200, 201],
    ),
    header("Location", "The address of the new object.", {"type": "string", "format": "uri"}, response=[201]),
]


def error_response(status: int, details: str = "", examples: Iterable[OpenApiExample] = ()) -> OpenApiResponse:
    return OpenApiResponse(ErrorSerializer, f"{ERRORS[status]} {details}".strip(), list(examples))


def refusals(action: Action, *codes: Code) -> dict[int, OpenApiResponse]:
    """The 409 of a call: the codes of the statuses that do not allow the action, and these. Empty without codes."""
    forbidden = {CODE_BY_STATUS[status] for status in set(Batch.Status) - RULES[action].allowed_from}
    names = [f"`{code}`" for code in Code if code in forbidden.union(codes)]
    if not names:
        return {}
    example = {
        "code": "finished",
        "detail": "“Press” is done.",
        "batch": BATCH_EXAMPLE | {"status": "done", "position": None},
    }
    return {409: error_response(409, f"`code` is {' or '.join(names)}.", [OpenApiExample("Finished", example)])}


def conflict(*codes: Code) -> dict[int, OpenApiResponse]:
    """The 409 of a call that is refused with these codes."""
    return {409: error_response(409, f"`code` is {' or '.join(f'`{code}`' for code in codes)}.")}


def missing(what: str) -> dict[int, OpenApiResponse]:
    """The 404 of a call with an ID in its body."""
    return {404: error_response(404, f"The {what} does not exist.")}


def describe(**options: Any) -> Callable[[F], F]:
    """`extend_schema` on top of CallSchema, whatever the schema class of the project is."""

    def decorate(call: Any) -> Any:
        call.kwargs = {"schema": CallSchema} | getattr(call, "kwargs", {})  # an `@action` has some
        return extend_schema(**options)(call)

    return decorate


def describes_export(kinds: Iterable[str]) -> Callable[[F], F]:
    """For a GET that returns a file of one of these kinds, and takes the filters of the list."""
    kind = OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=list(kinds))
    responses = {(200, MEDIA_TYPES[kind]): str for kind in kinds}
    return describe(filters=True, parameters=[kind], responses=responses)


class CallSchema(AutoSchema):
    """Describes one call of the API."""

    @property
    def action(self) -> str:
        view: Any = self.view
        return str(view.action)

    @property
    def has_tag(self) -> bool:
        """Whether the call depends on an `ETag`."""
        return self.action in getattr(self.view, "tagged", ())

    def get_operation_id(self) -> str:
        """The words of the path, and the action if it is not the last of them: batches_list, batches_pause."""
        words: list[str] = self._tokenize_path()
        return "_".join(words if len(words) > 1 and words[-1] == self.action else [*words, self.action])

    def get_summary(self) -> str:
        return super().get_description().partition("\n\n")[0].removesuffix(".")

    def get_description(self) -> str:  # type: ignore[override]
        view: Any = self.view
        description = super().get_description().partition("\n\n")[2]
        required = view.required_permissions[self.action]
        if isinstance(required, str):
            description += f"\n\nNeeds the permission `{required}`."
        return description.strip()

    def get_override_parameters(self) -> list[Any]:
        parameters = [RETRY_AFTER]
        if "{id}" in self.path:
            parameters.append(OpenApiParameter("id", getattr(self.view, "id_schema", ID), OpenApiParameter.PATH))
        if self.method == "POST":
            parameters += IDEMPOTENCY
        elif self.has_tag:
            parameters += IF_NONE_MATCH if self.method == "GET" else [IF_MATCH]
        return parameters

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        responses: dict[str, Any] = super()._get_response_bodies(direction)
        for status, response in responses.items():
            response["description"] = response["description"] or HTTPStatus(int(status)).phrase
        others = {str(error): error_response(error) for error in self.error_statuses()}
        if self.has_tag and self.method == "GET":
            others["304"] = OpenApiResponse(description="Nothing has changed since the response with this `ETag`.")
        for status, other in others.items():
            responses[status] = self._get_response_for_code(  # type: ignore[no-untyped-call]
                other, status, None, direction
            )
        return dict(sorted(responses.items()))

    def error_statuses(self) -> Iterator[int]:
        """The errors that every call of this kind can return."""
        yield from (400, 401, 403, 415, 429, 503)
        if self.method in {"POST", "PATCH"}:
            yield 413
        if self.method == "POST":
            yield 422
        if self.action != "export":  # the address decides the type of a file, whatever `Accept` says
            yield 406
        if "{id}" in self.path:
            yield 404
        if self.has_tag:
            yield 412

    def get_serializer_name(self, serializer: Any, direction: Any) -> str:
        return super().get_serializer_name(serializer, direction).removesuffix("Body")

    def _postprocess_serializer_schema(self, schema: dict[str, Any], serializer: Any, direction: str) -> Any:
        schema = super()._postprocess_serializer_schema(schema, serializer, direction)  # type: ignore[no-untyped-call]
        if isinstance(serializer, Body):
            # Responses can get new fields within the same version, so only bodies are closed.
            schema["additionalProperties"] = False
        return schema


class FilterParameters(DjangoFilterExtension):  # type: ignore[no-untyped-call]
    """The filters with the bounds of their values and without the library's additions to their descriptions."""

    target_class = "batches.api.filters.StrictFilterBackend"
    priority = 1

    def resolve_filter_field(self, *args: Any) -> list[dict[str, Any]]:
        [parameter] = super().resolve_filter_field(*args)  # type: ignore[no-untyped-call]
        options = args[-1].extra
        parameter["schema"] |= {BOUNDS[name]: bound for name, bound in options.items() if name in BOUNDS}
        if parameter["schema"]["type"] == "string" and not parameter["schema"].keys() & {"enum", "format"}:
            parameter["schema"]["pattern"] = r"\S"  # not empty
        return [parameter | {"description": options["help_text"]}]


class BulkFilter(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The filters of the list as the properties of an object."""

    target_class = "batches.api.batch_requests.BatchFilterField"

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Any) -> dict[str, Any]:
        filters: Any = FilterParameters(StrictFilterBackend())  # type: ignore[no-untyped-call]
        parameters = filters.get_schema_operation_parameters(auto_schema)
        properties = {
            parameter["name"]: parameter["schema"] | {"description": parameter["description"]}
            for parameter in parameters
            if parameter["name"] in BulkFilters.base_filters
        }
        return {"type": "object", "properties": properties, "minProperties": 1, "additionalProperties": False}


def only_of_this_app(endpoints: Iterable[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Leave out the paths without a version, which are meant for people, and the project's own API."""
    return [
        (path, regex, method, callback)
        for path, regex, method, callback in endpoints
        if callback.__module__.startswith("batches.api.") and re.match(PATH_PREFIX, path)
    ]
