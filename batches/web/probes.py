"""Responds to monitoring: `/healthz` and `/readyz` without signing in, and `/metrics` with a token.

Monitors send requests every few seconds, to an IP address that is not in ALLOWED_HOSTS, and without HTTPS. So a
middleware before the others answers them, whatever the project's URLs are.
"""

import logging
from collections.abc import Callable
from secrets import compare_digest
from threading import Lock
from time import monotonic

from django.db import Error
from django.http import HttpRequest, HttpResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from batches.conf import get_config
from batches.metrics import REGISTRY
from batches.models import discard_connections
from batches.reports.figures import QueueCollector
from batches.reports.readiness import CHECKS, find_obstacle

from .outages import describe_outage

logger = logging.getLogger(__name__)

#: Seconds for which a response is repeated, since strangers can send any number of requests.
SECONDS = 1.0
UNAUTHORISED = "Send the value of BATCHES_METRICS_TOKEN in the header Authorization: Bearer …"
STARTING = "The application is starting. Ask again in a second."


class Readiness:
    """The response of `/readyz`, without some checks.

    While a slow database is queried, other requests get the last response.
    """

    def __init__(self, excluded: frozenset[str]) -> None:
        self._excluded = excluded
        self._lock = Lock()
        self._obstacle, self._until = STARTING, 0.0

    def read_obstacle(self) -> str:
        if monotonic() >= self._until and self._lock.acquire(blocking=False):
            try:
                obstacle = self._find_obstacle()
                if obstacle not in {self._obstacle, ""}:  # only changes
                    logger.warning("Not ready: %s", obstacle)
                self._obstacle = obstacle
            finally:
                self._until = monotonic() + SECONDS
                self._lock.release()
        return self._obstacle

    def _find_obstacle(self) -> str:
        try:
            return find_obstacle(self._excluded)
        except Error as error:
            discard_connections()
            return describe_outage(error)


class ProbesMiddleware:
    """Put it first. `/readyz?exclude=worker` leaves a check out, as in Kubernetes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._readiness: dict[frozenset[str], Readiness] = {}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == "/healthz":
            return _answer("ok")
        if request.path_info == "/readyz":
            return self._answer_readiness(request)
        if request.path_info == "/metrics" and (token := get_config().metrics_token):
            return answer_metrics(request, token)
        return self._get_response(request)

    def _answer_readiness(self, request: HttpRequest) -> HttpResponse:
        excluded = CHECKS.intersection(request.GET.getlist("exclude"))
        readiness = self._readiness.setdefault(excluded, Readiness(excluded))
        obstacle = readiness.read_obstacle()
        return _answer(obstacle or "ok", 503 if obstacle else 200)


def answer_metrics(request: HttpRequest, token: str) -> HttpResponse:
    """Respond with the state of the queue and the measurements of this process."""
    if not compare_digest(request.headers.get("Authorization", "").encode(), f"Bearer {token}".encode()):
        response = _answer(UNAUTHORISED, 401)
        response["WWW-Authenticate"] = "Bearer"
        return response
    try:
        text = generate_latest(QueueCollector()) + generate_latest(REGISTRY)
    except Error as error:
        discard_connections()
        return _answer(describe_outage(error), 503)
    return _answer(text.decode(), kind=CONTENT_TYPE_PLAIN_0_0_4)


def _answer(text: str, status: int = 200, kind: str = "text/plain; charset=utf-8") -> HttpResponse:
    response = HttpResponse(f"{text}\n", status=status, content_type=kind)
    response["Cache-Control"] = "no-store"
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django would log each 503 as an error
    return response
