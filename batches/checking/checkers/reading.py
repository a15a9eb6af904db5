"""Reads the body of a response: its kind, its stories, and the feeds it declares. No network, no event loop.

The time it takes grows with the document, so only `parsers` calls it.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from .base import Story
from .document import to_utf8
from .page import Declared, is_html, read_page
from .parse import InvalidFeed, cut_last_item, read_quickly, read_thoroughly
from .stories import make_stories

# Part of every fingerprint. Change it when the way of reading changes, so that all documents are read again.
READER = b"reader 2"


class Body(NamedTuple):
    """The body of a response. `url` is that of the last hop. `is_feed`: a page has declared it, so it cannot be a page.

    `is_cut`: only the beginning, because it is too large. `links` and `refresh` are the headers of these names.
    """

    content: bytes
    url: str = ""
    charset: str = ""
    content_type: str = ""
    is_feed: bool = False
    is_cut: bool = False
    links: str = ""
    refresh: str = ""


class Reading(NamedTuple):
    """The result of reading a document: a feed with its stories, or a page."""

    stories: Sequence[Story] = ()
    page: Declared | None = None


class Unreadable(Exception):
    """The document cannot be read. `str(error)` is the reason for people."""


def read(body: Body, *, thoroughly: bool) -> Reading | None:
    """Read a document. Returns None if it should be read thoroughly, which is slow. Raises Unreadable."""
    document = to_utf8(body.content, body.charset)
    if not body.is_feed and is_html(document, body.content_type):
        return Reading(page=read_page(document, body.url, body.links, body.refresh))
    read_feed = read_thoroughly if thoroughly else read_quickly
    try:
        feed = read_feed(cut_last_item(document) if body.is_cut else document)
    except InvalidFeed:
        raise Unreadable("the response is not a feed") from None
    return Reading(make_stories(feed, body.url)) if feed else None


def compute_fingerprint(body: Body) -> str:
    """Equal for the same document, read in the same way.

    Most servers send no ETag but the same document again, which then need not be read, compared or stored. The
    fingerprint is stored in the transaction that stores the document's stories, so that none of them is missed.
    """
    return blake2b(body.content, digest_size=16, key=body.charset.encode()[:64], person=READER).hexdigest()
