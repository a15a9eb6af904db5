"""The pages for a request that cannot be read, and for a server error. The API responds in JSON."""

import logging

from django.conf import settings
from django.core.exceptions import DisallowedHost, RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from batches.limits import MAX_LIST_BYTES

from .outages import RETRY_AFTER
from .uploads import NoRoom

logger = logging.getLogger(__name__)

#: The code of a server error, for programs.
FAULT = "server_error"


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler400`. It cannot show the form with its values again, since the request was never parsed."""
    if isinstance(exception, NoRoom):
        return unavailable(str(exception))
    if not isinstance(exception, RequestDataTooBig):
        context = {"is_foreign": isinstance(exception, DisallowedHost)}
        return render(None, "batches/400.html", context, status=400)
    logger.warning("%s %s: %s", request.method, request.path, exception)
    limits = {"pasted": settings.DATA_UPLOAD_MAX_MEMORY_SIZE, "uploaded": f"{MAX_LIST_BYTES // 1_000_000} MB"}
    return render(None, "batches/413.html", limits, status=413)


def unavailable(why: str) -> HttpResponse:
    response = render(None, "batches/503.html", {"why": why}, status=503)
    response["Retry-After"] = str(RETRY_AFTER)
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's `handler500`. It uses neither the database nor the user, which may have failed.

    Its log line has the request ID of the page. The traceback follows in Django's log line.
    """
    request_id = getattr(request, "request_id", "")
    logger.error("%s %s: server error in request %s", request.method, request.path, request_id or "without an ID")
    if request.resolver_match and "batches_api" in request.resolver_match.namespaces:
        detail = f"The server failed. Check the state before you repeat a change. Request ID: {request_id or 'none'}."
        return JsonResponse({"code": FAULT, "detail": detail}, status=500)
    return render(None, "batches/500.html", {"request_id": request_id}, status=500)
