"""Responses with an ETag: a client that sends the tag again gets 304 without a body, in two queries, if nothing
changed.

The first query reads the token and whether its user may view batches (see `access`), the second reads the
data of the tag. The permission is checked before anything else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

from django.db.models import Subquery
from django.db.models.functions import Now
from django.http import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.http import parse_etags, quote_etag
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from batches.models import Batch, BatchLog, Lease, Queue, Worker
from batches.reports.forecast import is_recent

#: The queue's tag changes after this many seconds even if nothing happens: expected times drift, heartbeats age.
DRIFT = 60

#: The columns of the running batch that change without a log line.
RUNNING = ("completed_profiles", "successful_checks", "failed_checks", "stories_found")


class PreconditionFailed(APIException):
    status_code = 412
    default_detail = "If-Match or If-Unmodified-Since is not met. Read the current state and try again."
    default_code = "precondition_failed"


@contextmanager
def matching(request: Request, render: Callable[[], Any]) -> Iterator[None]:
    """Make a call only if the tag of the rendered body matches `If-Match`. Raises PreconditionFailed."""
    if "If-Match" not in request.headers:
        yield
        return
    with Queue.objects.locked():  # so that nothing changes in between, and before any other lock
        expected = parse_etags(request.headers["If-Match"])  # empty if it is malformed
        if make_etag(render()) not in expected and "*" not in expected:
            raise PreconditionFailed
        yield


def respond_conditionally(
    request: Request, etag: str | None, respond: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    """The response with its tag, or 304 if the client has that tag. Raises PreconditionFailed.

    Make the tag before the response: if something changes in between, the next request sees it.
    """
    early = get_conditional_response(request._request, etag)
    if early is not None and early.status_code == PreconditionFailed.status_code:
        raise PreconditionFailed
    response = respond() if early is None else early
    if etag:
        response.headers["ETag"] = etag
    patch_cache_control(response, private=True, no_cache=True)
    patch_vary_headers(response, ["Authorization", "Cookie"])
    return response


def make_etag(body: Any) -> str:
    """A strong tag, which changes if and only if the body does."""
    return quote_etag(blake2b(repr(body).encode(), digest_size=12).hexdigest())


def make_queue_etag() -> str | None:
    """The weak tag of the queue, in one query. None if the Queue row is missing, as in a restored dump.

    Every transition writes a log line under the queue's lock, so the id of the latest line stands for all of them.
    Results and progress write no log line, but change the counters of the running batch. Changes with time (expected
    times, rates, heartbeats) count once a minute, except when a worker's heartbeats stop or start again.
    """
    running = Batch.objects.running()
    queue = Queue.objects.annotate(
        now=Now(),
        latest_line=Subquery(BatchLog.objects.order_by("-pk").values("pk")[:1]),
        started_at=Subquery(Worker.objects.order_by("-started_at").values("started_at")[:1]),
        seen_at=Subquery(Worker.objects.order_by("-seen_at").values("seen_at")[:1]),
        heartbeat_at=Subquery(Lease.objects.order_by("-lease_at").values("lease_at")[:1]),
        **{name: Subquery(running.values(name)[:1]) for name in RUNNING},
    )
    row = queue.values().first()
    if row is None:
        return None
    state: dict[str, Any] = {**row}
    del state["wanted_at"], state["looked_at"]  # of no interest to clients
    now, *heartbeats = (state.pop(name) for name in ("now", "seen_at", "heartbeat_at"))
    alive = [is_recent(heartbeat, now) for heartbeat in heartbeats]
    return f"W/{make_etag([state, alive, now.timestamp() // DRIFT])}"
