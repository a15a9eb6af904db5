"""Reads a response's body: what kind of document it is, its stories, the feeds it declares. No network, no event loop.

The time it takes grows with the document, so only `parsers` calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from .base import Story
from .document import to_utf8
from .page import find_feed, is_html
from .parse import InvalidFeed, read_quickly, read_thoroughly
from .stories import make_stories

# Part of every fingerprint. Change it when documents are read differently, so that all are read again.
READER = b"reader 2"


class Body(NamedTuple):
    """What a server sent. `url` is that of the last hop. `is_feed`: a page has declared it, so it cannot be a page."""

    content: bytes
    url: str = ""
    charset: str = ""
    content_type: str = ""
    is_feed: bool = False


class Reading(NamedTuple):
    """What a document is: a feed with its stories, or a page with the addresses of the feeds that it declares."""

    stories: Sequence[Story] = ()
    is_page: bool = False
    feeds: Sequence[str] = ()


class Unreadable(Exception):
    """The document cannot be read. `str(error)` is the reason for people."""


def read(body: Body, *, thoroughly: bool) -> Reading | None:
    """Read a document. Returns None if it should be read thoroughly, which is slow. Raises Unreadable."""
    document = to_utf8(body.content, body.charset)
    if not body.is_feed and is_html(document, body.content_type):
        feed_url = find_feed(document, body.url)
        return Reading(is_page=True, feeds=[feed_url] if feed_url else [])
    try:
        feed = read_thoroughly(document) if thoroughly else read_quickly(document)
    except InvalidFeed:
        raise Unreadable("the response is not a feed") from None
    return Reading(make_stories(feed, body.url)) if feed else None


def compute_fingerprint(body: Body) -> str:
    """Equal for the same document, read in the same way.

    Most servers send no ETag and the same document again: nothing of it needs to be read, compared or stored. Stored in
    the transaction that stores the document's stories, so that none of them is missed.
    """
    return blake2b(body.content, digest_size=16, key=body.charset.encode()[:64], person=READER).hexdigest()
