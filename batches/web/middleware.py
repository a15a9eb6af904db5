"""What a person sees when the database does not answer. The API has a shape of its own for it."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from batches.models import DATABASE_FAULTS, discard_connections

from .outages import RETRY_AFTER, explain

logger = logging.getLogger(__name__)


class DatabaseAwayMiddleware(MiddlewareMixin):
    """Answers a view's fault of the database with a page that says so and needs no database: 503 instead of 500."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, DATABASE_FAULTS):
            return None
        logger.error("%s %s: the database does not answer: %s", request.method, request.path, str(error).strip())
        discard_connections()
        response = render(None, "503.html", {"why": explain(error)}, status=503)
        response["Retry-After"] = str(RETRY_AFTER)
        return response
