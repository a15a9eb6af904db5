"""The addresses of feeds, which are shown once."""

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from batches.lists.feeds import FEEDS
from batches.queue.feeds import NewFeed


def addresses_of(created: NewFeed, request: HttpRequest | None = None) -> dict[str, str]:
    """The addresses by kind; without a request, below the address of the site.

    The key is in the query, which Django never logs.
    """
    query, complete = urlencode({"token": created.key}), request.build_absolute_uri if request else str
    views = {kind: f"batches_api:v1:feed-{kind}" for kind in FEEDS}
    return {kind: complete(f"{reverse(view, args=[created.feed.list_id])}?{query}") for kind, view in views.items()}
