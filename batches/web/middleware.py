"""The page for a database that is busy or unavailable (the API answers in JSON instead), and the ID of each request."""

import re
from collections.abc import Callable
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from batches.log_context import log_context
from batches.models import is_database_fault

from .error_pages import unavailable
from .outages import report_outage

#: A request ID that is accepted from a proxy.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Gives each request an ID in its log lines and in `X-Request-ID` of its response. Keeps the ID of a proxy."""

    def respond(request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        name = request.request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex  # type: ignore[attr-defined]
        with log_context(request_id=name):
            response = get_response(request)
        response["X-Request-ID"] = name
        return response

    return respond


class DatabaseOutageMiddleware(MiddlewareMixin):
    """Turns a view's database error into a 503 page that needs no database."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return unavailable(report_outage(request, error)) if is_database_fault(error) else None
