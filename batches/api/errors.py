"""One shape for every error of the API.

    {"code": "invalid", "detail": "priority: Send a whole number.",
     "errors": {"priority": ["Send a whole number."]}}

`code` is for programs, `detail` for people. The table of codes is in docs/reference/api.md.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from rest_framework import views
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings

from batches.models import is_database_fault, is_too_complex
from batches.queue.refusals import Code, Refusal, Refused
from batches.text import clean_text
from batches.web.outages import RETRY_AFTER, report_outage
from batches.web.uploads import NoRoom

from .request_fields import EntriesRefused

#: All other codes mean that the batch's state forbids the call: 409.
STATUS_BY_CODE = {Code.NOT_FOUND: 404, Code.BAD_VALUE: 400}

#: Where the framework puts messages about a body as a whole.
NON_FIELD_ERRORS = api_settings.NON_FIELD_ERRORS_KEY

#: Errors quote the request, which can be long, or contain text that JSON in UTF-8 cannot hold.
MAX_MESSAGE = 500


class TooLarge(APIException):
    status_code = 413
    default_detail = "The request is too large. Upload a long list of profiles as a file, or split it."
    default_code = "too_large"


class Unavailable(APIException):
    status_code = 503
    default_code = "unavailable"
    wait = RETRY_AFTER


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an expected error; None for a bug, for which Django returns 500."""
    if isinstance(error, Refused):
        return _refusal(error.refusal, context)
    if is_database_fault(error):
        error = Unavailable(report_outage(context["request"], error))
    if is_too_complex(error):
        error = ParseError("The query is too complex. Search for fewer words.")
    if isinstance(error, NoRoom):
        error = Unavailable(str(error))
    if isinstance(error, SuspiciousOperation):
        error = TooLarge() if isinstance(error, RequestDataTooBig) else ParseError(str(error))
    if isinstance(error, RecursionError):  # only a body can be nested that deeply
        error = ParseError("JSON parse error - it is nested too deeply.")
    response = views.exception_handler(error, context)
    if response is None:
        return None
    if isinstance(error, ValidationError):
        response.data = _invalid(error)
    else:
        detail = response.data["detail"]
        response.data = {"code": detail.code, "detail": _clean(detail)}
    return response


def _refusal(refusal: Refusal, context: dict[str, Any]) -> Response:
    body: dict[str, Any] = {"code": refusal.code, "detail": refusal.message}
    status = STATUS_BY_CODE.get(refusal.code, 409)
    if status == 409 and "pk" in context["kwargs"]:  # without a batch, the call is not about an existing one
        try:
            body |= context["view"].render_current(context["kwargs"]["pk"])
        except Refused as not_found:  # deleted since the call was refused
            return _refusal(not_found.refusal, context)
    return Response(body, status)


def _invalid(error: ValidationError) -> dict[str, Any]:
    detail = dict(error.detail) if isinstance(error.detail, dict) else {NON_FIELD_ERRORS: error.detail}
    general = [_clean(message) for message in detail.pop(NON_FIELD_ERRORS, [])]
    errors = {_clean(field): [_clean(message) for message in messages] for field, messages in _flatten(detail)}
    sentences = general + [f"{field}: {' '.join(messages)}" for field, messages in errors.items()]
    body: dict[str, Any] = {"code": "invalid", "detail": " ".join(sentences)}
    if errors:
        body["errors"] = errors
    if isinstance(error, EntriesRefused):
        body["rejected"] = error.rejected
    return body


def _flatten(detail: Mapping[Any, Any], outer: str = "") -> Iterator[tuple[str, Any]]:
    """The messages by field; a field within a field is named `outer.inner`."""
    for field, problems in detail.items():
        if isinstance(problems, Mapping):
            yield from _flatten(problems, f"{outer}{field}.")
        else:
            yield f"{outer}{field}", problems


def _clean(text: object) -> str:
    return clean_text(text, MAX_MESSAGE)
