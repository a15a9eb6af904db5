"""Answers with an ETag: whoever shows it again is told in two queries that nothing has changed, by 304 without a body.

The first query is the token's, which also tells whether its user may look (see `authentication`); the second one reads
what the tag is made of. Nobody is told anything before the permission is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from django.db.models import Subquery
from django.db.models.functions import Now
from django.http import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.http import quote_etag
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from batches.models import Batch, BatchLog, Queue
from batches.reports.outlook import is_recent

#: Seconds after which the queue is told anew although nothing happened: expected times drift, and signs of life age.
DRIFT = 60

#: What changes in the running batch without a line in the log.
RUNNING = ("completed_profiles", "successful_checks", "failed_checks", "stories_found", "lease_at")


class PreconditionFailed(APIException):
    status_code = 412
    default_detail = "It is not what If-Match or If-Unmodified-Since asks for."
    default_code = "precondition_failed"


def answer(request: Request, tag: str | None, body: Callable[[], Any]) -> HttpResponseBase:
    """What a reading call answers: the body with its tag, or 304 to whoever shows that tag. Raises PreconditionFailed.

    The tag has to be made before the body: of what changes in between, the next request is then told.
    """
    early = get_conditional_response(request._request, tag)
    if early is not None and early.status_code == PreconditionFailed.status_code:
        raise PreconditionFailed
    response = Response(body()) if early is None else early
    if tag:
        response.headers["ETag"] = tag
    patch_cache_control(response, private=True, no_cache=True)
    patch_vary_headers(response, ["Authorization", "Cookie"])
    return response


def tag_of(shown: Any) -> str:
    """The strong tag of what is shown, which changes exactly with it."""
    return quote_etag(_digest(shown))


def queue_tag() -> str | None:
    """The weak tag of the queue, by one query. None where there is no Queue row, as in a restored dump.

    Every transition writes a line of the log under the queue's lock, so the latest line's id stands for all of them.
    Results and progress write none: they change the running batch's counters. What changes by time alone (expected
    times, rates, signs of life) counts for nothing within a minute, except a worker that falls silent or comes back.
    """
    running = Batch.objects.running()
    queue = Queue.objects.annotate(
        now=Now(),
        latest_line=Subquery(BatchLog.objects.order_by("-pk").values("pk")[:1]),
        **{name: Subquery(running.values(name)[:1]) for name in RUNNING},
    )
    found = queue.values().first()
    if found is None:
        return None
    mark: dict[str, Any] = {**found}
    now, *signs_of_life = (mark.pop(name) for name in ("now", "worker_seen_at", "lease_at"))
    ages = [is_recent(seen_at, now) for seen_at in signs_of_life]
    return f"W/{quote_etag(_digest([mark, ages, now.timestamp() // DRIFT]))}"


def _digest(what: Any) -> str:
    return blake2b(repr(what).encode(), digest_size=12).hexdigest()
