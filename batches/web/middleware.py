"""The page for a database that is busy or unavailable. The API answers in JSON instead."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from batches.models import discard_connections, is_database_fault

from .outages import RETRY_AFTER, describe_outage

logger = logging.getLogger(__name__)


class DatabaseOutageMiddleware(MiddlewareMixin):
    """Turns a view's database error into a 503 page that needs no database."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not is_database_fault(error):
            return None
        logger.error("%s %s: database error: %s", request.method, request.path, str(error).strip())
        discard_connections()
        response = render(None, "batches/503.html", {"why": describe_outage(error)}, status=503)
        response["Retry-After"] = str(RETRY_AFTER)
        return response
