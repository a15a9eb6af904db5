"""The addresses of feeds, which are shown once."""

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from batches.lists.feeds import CONTENT_TYPES
from batches.queue.feeds import NewFeed


def addresses_of(created: NewFeed, request: HttpRequest | None = None) -> dict[str, str]:
    """The addresses by kind; without a request, below the address of the site.

    The key is in the query, which Django never logs.
    """
    query = urlencode({"token": created.key})
    paths = {kind: reverse(f"batches_api:v1:feed-{kind}", args=[created.feed.list_id]) for kind in CONTENT_TYPES}
    return {
        kind: request.build_absolute_uri(f"{path}?{query}") if request else f"{path}?{query}"
        for kind, path in paths.items()
    }
