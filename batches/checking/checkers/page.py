"""HTML pages: tells them from feeds, and finds the feed that a page declares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import islice
from urllib.parse import urljoin

from batches.lists.addresses import InvalidAddress, normalise_address

START = re.compile(rb"<(?:(?:[a-z][\w.-]*:)?(?P<feed>rss|feed|rdf)|!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
# Warnings of the site's software may precede the document.
SNIFFED_BYTES = 4096


def is_html(document: bytes, content_type: str) -> bool:
    """Whether `document` is a page. Its start decides, or else its content type."""
    start = START.search(document, 0, SNIFFED_BYTES)
    if start and not start["feed"]:
        start = START.search(COMMENT.sub(b"", document[:SNIFFED_BYTES]))
    if start and start["feed"]:
        return False
    return bool(start or "html" in content_type.lower()) and document.lstrip()[:1] != b"{"


# Finds the tags that matter and skips what cannot contain tags. A tree of the whole page would take ten times its size
# in memory, and libxml2 is quadratic in the attributes of a tag.
TOKEN = re.compile(
    rb"""<!--.*?(?:-->|\Z)
    | <(?P<raw>script|style|textarea|title|template|iframe|xmp)\b.*?(?:</(?P=raw)\b|\Z)
    | (?P<tag> <(?:link|base)\b [^<>"']*+ (?:(?:"[^"]{0,2000}+"|'[^']{0,2000}+') [^<>"']*+){0,50}+ >)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
# A page has tens of them.
MAX_LINK_TAGS = 500
MAX_TAG_BYTES = 4000

FEED_TYPES = frozenset({"application/rss+xml", "application/atom+xml", "application/feed+json"})
# Declared for other things too, such as WordPress's API: used only if there is nothing better.
JSON_TYPE = "application/json"


class TagReader(HTMLParser):
    """Reads the attributes of one tag, with names in lower case and entities resolved."""

    def __init__(self, tag: bytes) -> None:
        super().__init__()
        self.name = ""
        self.attributes: dict[str, str] = {}
        self.feed(tag.decode("utf-8", "replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.name = tag
        # The first of repeated attributes counts.
        self.attributes = {name: value or "" for name, value in reversed(attrs)}


def find_feed(document: bytes, address: str) -> str | None:
    """Return the normalised address of the first feed that the page (UTF-8) at `address` declares."""
    base = None
    json_feed = None
    for tag in find_link_tags(document):
        href = tag.attributes.get("href", "").strip()
        if tag.name == "base" and href and base is None:
            base = join_url(address, href)
        kind = get_feed_type(tag)
        if kind and href and (url := normalise_or_empty(join_url(base or address, href))):
            if kind in FEED_TYPES:
                return url
            json_feed = json_feed or url
    return json_feed


def find_link_tags(document: bytes) -> Iterator[TagReader]:
    tags = (match["tag"] for match in TOKEN.finditer(document) if match["tag"])
    for tag in islice(tags, MAX_LINK_TAGS):
        if len(tag) <= MAX_TAG_BYTES:
            yield TagReader(tag)


def get_feed_type(tag: TagReader) -> str:
    """Return the type of the feed that the tag declares, or ""."""
    kind = tag.attributes.get("type", "").partition(";")[0].strip().lower()
    is_alternate = tag.name == "link" and "alternate" in tag.attributes.get("rel", "").lower().split()
    return kind if is_alternate and (kind in FEED_TYPES or kind == JSON_TYPE) else ""


def join_url(base: str, link: str) -> str:
    """Make `link` absolute. Returns "" if one of the two is not valid."""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""


def normalise_or_empty(text: str) -> str:
    try:
        return normalise_address(text)
    except InvalidAddress:
        return ""
