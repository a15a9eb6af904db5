"""Documents into feeds: RSS 0.9x, 1.0 and 2.0, Atom 0.3 and 1.0, JSON Feed. No network here."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import fastfeedparser
import feedparser

from .document import ENDS_EARLY, MAX_TAGS, SMALL_BYTES, is_oversized, repair, without_doctype, xml_fault

# A feed of the newest stories has tens of them, an archive hundreds. More come from generators gone wild, and each
# would become a row.
MAX_STORIES = 5000
# feedparser takes a second for half a megabyte, and longer for what is made to be slow.
MAX_BYTES_FOR_FEEDPARSER = 500_000

Entry = Mapping[str, Any]

# From dateutil, which then reads the date as UTC. A worker's log has no use for it.
warnings.filterwarnings("ignore", "tzname .* identified but not understood")


class InvalidFeed(Exception):
    """What was sent cannot be read as a feed."""

    def __init__(self, sentence: str = "what it sent is not a feed") -> None:
        super().__init__(sentence)


class Feed(NamedTuple):
    """Entries with the keys id, title, link, published (ISO 8601) and description, as far as they are there."""

    entries: Sequence[Entry]
    home: str = ""  # the site's page
    base: str = ""  # what relative links are relative to, if not the feed's address


def read_quickly(document: bytes) -> Feed | None:
    """The feed in `document` (UTF-8); None where `read_thoroughly` may do better. Raises InvalidFeed."""
    if document.lstrip()[:1] == b"{":
        return read_json(document)
    if len(document) <= SMALL_BYTES and not has_slips(document):
        feed = read_with_fastfeedparser(document)
        if feed and is_complete(feed, document):
            return feed
    return read_carefully(document)


def read_carefully(document: bytes) -> Feed | None:
    """As `read_quickly`, for a document that may be malformed or malicious."""
    document, fault = prepare(document)
    feed = None if fault else read_with_fastfeedparser(document)
    if feed and not is_doubtful(feed, document):
        return feed
    if not MAY_BE_FEED.search(document):
        raise InvalidFeed
    return None


def read_thoroughly(document: bytes) -> Feed:
    """The feed in `document` (UTF-8), by whatever reads it. Raises InvalidFeed. Slow: not for the event loop."""
    feed = read_quickly(document)
    if feed:
        return feed
    document, _ = prepare(document)
    feeds = [feed for feed in (read_with_feedparser(document), read_with_fastfeedparser(document)) if feed]
    if not feeds:
        raise InvalidFeed
    return max(feeds, key=lambda feed: sum(bool(entry.get("title") or entry.get("id")) for entry in feed.entries))


def prepare(document: bytes) -> tuple[bytes, int]:
    """The document made safe and mended, and the fault that still makes it no XML (0: none)."""
    if is_oversized(document):
        raise InvalidFeed
    if b"<!DOCTYPE" in document:
        document = without_doctype(document)
    document = first_items(document)
    fault = xml_fault(document)
    if fault:
        document = repair(document)
        fault = xml_fault(document)
    if fault in ENDS_EARLY:
        return without_unfinished_item(document), 0
    return document, fault


MAY_BE_FEED = re.compile(rb"<(?:[a-z][\w.-]*:)?(?:rss|feed|rdf|channel|item|entry)[\s/>]", re.IGNORECASE)
ITEM = re.compile(rb"<(?:[a-z][\w.-]*:)?(?:item|entry)[\s/>]", re.IGNORECASE)
ITEM_END = re.compile(rb"</(?:[a-z][\w.-]*:)?(?:item|entry)\s*>", re.IGNORECASE)
ID_END = re.compile(rb"</(?:[a-z][\w.-]*:)?(?:guid|id)\s*>", re.IGNORECASE)
SMALLEST_ITEM = 20


def first_items(document: bytes) -> bytes:
    """The document cut off behind its first MAX_STORIES items."""
    if len(document) > MAX_STORIES * SMALLEST_ITEM:
        for item in islice(ITEM.finditer(document), MAX_STORIES, None):
            return document[: item.start()]
    return document


def without_unfinished_item(document: bytes) -> bytes:
    """A document that ends early, without its last item if that was cut before the end of its id.

    Half an id would be found as a new story, and again as another one when the document comes whole.
    """
    start = end = 0
    for item in ITEM.finditer(document):
        start = item.start()
    for item_end in ITEM_END.finditer(document):
        end = item_end.end()
    is_unfinished = start and start >= end and not ID_END.search(document, start)
    return document[:start] if is_unfinished else document


def read_with_fastfeedparser(document: bytes) -> Feed | None:
    """None where it refuses. Given bytes: text that begins with "http://" would be fetched."""
    try:
        parsed = fastfeedparser.parse(
            document, include_content=False, include_tags=False, include_media=False, include_enclosures=False
        )
    except Exception:  # it documents ValueError, but others come through from strangers' documents
        return None
    about = parsed["feed"]
    base = (about.get("title_detail") or {}).get("base") or ""
    return Feed(without_guessed_dates(parsed["entries"], document), about.get("link") or "", base)


DATE = re.compile(
    rb"<(?:[a-z][\w.-]*:)?(?:pubdate|published|issued|created|updated|modified|date|lastbuilddate)\b", re.IGNORECASE
)


def without_guessed_dates(entries: Sequence[Entry], document: bytes) -> Sequence[Entry]:
    """fastfeedparser takes an id for a date where there is none: "12" is then the twelfth of this month."""
    if not entries or not entries[0].get("published") or document.count(b"<pubDate>") >= len(entries):
        return entries
    first = ITEM.search(document)
    if first is None or DATE.search(document, first.start()):
        return entries
    return [{**entry, "published": None} for entry in entries]


# Of Atom's type xhtml, with a child (<title>one <b>two</b></title>), or with a bare "<": fastfeedparser stops there.
MARKUP_IN_TITLE = re.compile(rb"<title\b[^<>]*>[^<]*<(?![/!])")
BARE_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[\da-fA-F]+);)")
PREFIXED_LINK = re.compile(rb"<[a-z][\w.-]*:link\b", re.IGNORECASE)


def has_slips(document: bytes) -> bool:
    """Whether there is something that fastfeedparser may read past, losing text, without telling."""
    return bool(b"<!DOCTYPE" in document or BARE_AMPERSAND.search(document) or MARKUP_IN_TITLE.search(document))


def is_complete(feed: Feed, document: bytes) -> bool:
    """Whether all items came out whole. Broken nesting, which fastfeedparser does not tell, loses items or links.

    This is a fraction of the time of `xml_fault`, which decides where the answer is no.
    """
    items = document.count(b"</item>") or document.count(b"</entry>")
    return items == len(feed.entries) > 0 and not [entry for entry in feed.entries if not entry.get("link")]


def is_doubtful(feed: Feed, document: bytes) -> bool:
    """Whether fastfeedparser missed what is there: items, the rest of a title, a link behind an Atom link."""
    if not feed.entries:
        return ITEM.search(document) is not None
    if MARKUP_IN_TITLE.search(document):
        return True
    return not all(entry.get("link") for entry in feed.entries) and PREFIXED_LINK.search(document) is not None


# feedparser gets only the elements that are wanted, and those that have titles and links of their own. Among the others
# are some that make it slow: an <author> of half a megabyte kept it, and every other thread, busy for minutes.
UNWANTED_TAG = re.compile(
    rb"""</? (?! (?:[a-z][\w.-]*:)? (?:rss|rdf|feed|channel|item|entry|title|link|guid|id|pubdate|published|issued
    |created|updated|modified|date|description|summary|content|encoded|source|image|textinput)[\s/>] ) [a-z][^<>]*>""",
    re.IGNORECASE | re.VERBOSE,
)


def read_with_feedparser(document: bytes) -> Feed | None:
    """None where it finds no feed, or the document is too large for it."""
    start = MAY_BE_FEED.search(document)
    document = UNWANTED_TAG.sub(b" ", document[start.start() if start else 0 :])
    if len(document) > MAX_BYTES_FOR_FEEDPARSER:
        return None
    try:
        # A stream: bytes would be tried as a file's name first.
        parsed = feedparser.parse(io.BytesIO(document), resolve_relative_uris=False, sanitize_html=False)
    except Exception:  # it documents none, but several come through from strangers' documents
        return None
    if not parsed["version"] and not parsed["entries"]:
        return None
    return Feed([entry_of_feedparser(entry) for entry in parsed["entries"]], text_of(parsed["feed"], "link"))


def entry_of_feedparser(entry: dict[str, Any]) -> Entry:
    """As fastfeedparser would give it."""
    moment = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")
    return {
        "id": text_of(entry, "id"),
        "title": text_of(entry, "title"),
        "link": text_of(entry, "link"),
        "published": f"{moment[0]:04}-{moment[1]:02}-{moment[2]:02}T{moment[3]:02}:{moment[4]:02}:{moment[5]:02}Z"
        if moment
        else None,
        "description": text_of(entry, "summary"),
    }


def read_json(document: bytes) -> Feed:
    # As for XML: 5 MB of "[[[]]]," took 180 MB and a second in which nothing else went on.
    if document.count(b"{") + document.count(b"[") > MAX_TAGS:
        raise InvalidFeed
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise InvalidFeed from None
    items = parsed.get("items")
    if not isinstance(items, list):
        raise InvalidFeed
    return Feed(
        [entry_of_json(item) for item in items[:MAX_STORIES] if isinstance(item, dict)],
        text_of(parsed, "home_page_url"),
    )


def entry_of_json(item: dict[str, Any]) -> Entry:
    return {
        "id": text_of(item, "id"),
        "title": text_of(item, "title"),
        "link": text_of(item, "url") or text_of(item, "external_url"),
        "published": text_of(item, "date_published") or text_of(item, "date_modified"),
        "description": text_of(item, "summary") or text_of(item, "content_text") or text_of(item, "content_html"),
    }


def text_of(values: dict[str, Any], key: str) -> str:
    # dict's own `get`: feedparser's warns, and gives other keys' values.
    value = dict.get(values, key)
    return str(value).strip() if isinstance(value, str | int | float) else ""
