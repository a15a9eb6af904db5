"""The page for a request that cannot be read. The API answers in JSON instead."""

import logging

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from batches.limits import MAX_LIST_BYTES

logger = logging.getLogger(__name__)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler400`. It cannot show the form with its values again: the request was never parsed."""
    if not isinstance(exception, RequestDataTooBig):
        return render(None, "batches/400.html", status=400)
    logger.warning("%s %s: %s", request.method, request.path, exception)
    limits = {"pasted": settings.DATA_UPLOAD_MAX_MEMORY_SIZE, "uploaded": f"{MAX_LIST_BYTES // 1_000_000} MB"}
    return render(None, "batches/413.html", limits, status=413)
