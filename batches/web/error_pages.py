"""What a person sees of a request that cannot be read. The API has a shape of its own for it."""

from __future__ import annotations

import logging

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat

from batches.limits import MAX_LIST_BYTES

logger = logging.getLogger(__name__)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's `handler400`. Its form cannot be shown again with what was typed: nothing of it was read."""
    if not isinstance(exception, RequestDataTooBig):
        return render(None, "400.html", status=400)
    logger.warning("%s %s: %s", request.method, request.path, exception)
    pasted = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    limits = {"pasted": filesizeformat(pasted) if pasted else "", "uploaded": f"{MAX_LIST_BYTES // 1_000_000} MB"}
    return render(None, "413.html", limits, status=413)
