"""One shape for every error of the API.

    {"code": "invalid", "detail": "priority: A valid integer is required.",
     "errors": {"priority": ["A valid integer is required."]}}

`code` is for programs and `detail` for people; both are always there. The codes, and the keys that some of them add:

| status | code | further keys |
|---|---|---|
| 400 | `invalid` | `errors`: messages by field, parameter or header; `rejected`: a list's entries that caused it |
| 400 | `parse_error`, `bad_value` | |
| 401 | `not_authenticated`, `authentication_failed` | |
| 403 | `permission_denied` | |
| 404 | `not_found` | |
| 405, 406, 415 | `method_not_allowed`, `not_acceptable`, `unsupported_media_type` | |
| 409 | every other code of a `Refusal` | `batch`: the batch that the call was for, as it is now |
| 412 | `precondition_failed` | |
| 413 | `too_large` | |
| 422 | `idempotency_key_reused` | |
| 429 | `throttled` | (the header `Retry-After` says for how many seconds) |
| 503 | `unavailable` | the database is away or locked for too long: ask again after `Retry-After` seconds |
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from rest_framework import views
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings

from batches.models import DATABASE_FAULTS, discard_connections
from batches.queue.refusals import Code, Refusal, Refused
from batches.queue.transitions import find_batch
from batches.text import clean_text
from batches.web.outages import RETRY_AFTER, describe_outage

from .parsers import TooLarge
from .serializers import BatchSerializer, EntriesRefused

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Every code that is not here says that the batch's state forbids the call: 409.
STATUS_BY_CODE = {Code.NOT_FOUND: 404, Code.BAD_VALUE: 400}

#: Where the framework puts what is wrong with a body as a whole.
OF_ALL = api_settings.NON_FIELD_ERRORS_KEY

#: Errors quote what was sent, and that may be long, or text that JSON in UTF-8 cannot hold.
MAX_MESSAGE = 500


def granted(answer: Answer | Refusal) -> Answer:
    """The manager's answer. Raises Refused if it is a refusal."""
    if isinstance(answer, Refusal):
        raise Refused(answer.code, answer.message)
    return answer


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an expected error in the shape above; None for a fault, which Django answers with 500."""
    if isinstance(error, Refused):
        return _refusal(error.refusal, context)
    if isinstance(error, DATABASE_FAULTS):
        return _unavailable(error, context)
    if isinstance(error, SuspiciousOperation):
        error = TooLarge() if isinstance(error, RequestDataTooBig) else ParseError(str(error))
    response = views.exception_handler(error, context)
    if response is not None:
        response.data = _invalid(error) if isinstance(error, ValidationError) else _other(response.data["detail"])
    return response


def _refusal(refusal: Refusal, context: dict[str, Any]) -> Response:
    body: dict[str, Any] = {"code": refusal.code, "detail": refusal.message}
    status = STATUS_BY_CODE.get(refusal.code, 409)
    if status == 409:
        try:
            batch = find_batch(context["kwargs"]["pk"])
        except Refused as gone:  # deleted since the call was refused
            return _refusal(gone.refusal, context)
        body["batch"] = BatchSerializer(batch, context=context).data
    return Response(body, status)


def _unavailable(error: Exception, context: dict[str, Any]) -> Response:
    request = context["request"]
    logger.error("%s %s: the database does not answer: %s", request.method, request.path, str(error).strip())
    discard_connections()
    body = {"code": "unavailable", "detail": describe_outage(error)}
    return Response(body, 503, headers={"Retry-After": str(RETRY_AFTER)})


def _invalid(error: ValidationError) -> dict[str, Any]:
    detail = dict(error.detail) if isinstance(error.detail, dict) else {OF_ALL: error.detail}
    of_all = [_clean(message) for message in detail.pop(OF_ALL, [])]
    errors = {_clean(field): [_clean(message) for message in messages] for field, messages in _flat(detail)}
    sentences = of_all + [f"{field}: {' '.join(messages)}" for field, messages in errors.items()]
    body: dict[str, Any] = {"code": "invalid", "detail": " ".join(sentences)}
    if errors:
        body["errors"] = errors
    if isinstance(error, EntriesRefused):
        body["rejected"] = error.rejected
    return body


def _flat(detail: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """What is wrong with a field within a field is that of `outer.inner`."""
    for field, problems in detail.items():
        if isinstance(problems, Mapping):
            yield from ((f"{field}.{inner}", messages) for inner, messages in problems.items())
        else:
            yield field, problems


def _other(detail: ErrorDetail) -> dict[str, Any]:
    return {"code": detail.code, "detail": _clean(detail)}


def _clean(text: object) -> str:
    return clean_text(text, MAX_MESSAGE)
