"""Reads documents as feeds: RSS 0.9x, 1.0 and 2.0, Atom 0.3 and 1.0, JSON Feed. No network."""

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

from .document import ENDS_EARLY, MAX_TAGS, find_xml_fault, is_oversized, remove_doctype, repair

# A feed has tens of stories, an archive hundreds. Broken generators make more, and each would become a row.
MAX_STORIES = 5000
# feedparser takes a second for half a megabyte, and longer for malicious documents.
MAX_BYTES_FOR_FEEDPARSER = 500_000

Entry = Mapping[str, Any]

# From dateutil, which then reads the date as UTC. It would only fill the worker's log.
warnings.filterwarnings("ignore", "tzname .* identified but not understood")


class InvalidFeed(Exception):
    """The document cannot be read as a feed."""


class Feed(NamedTuple):
    """Entries with the keys id, title, link, published (ISO 8601) and description, each if present."""

    entries: Sequence[Entry]
    home: str = ""  # the site's page
    base: str = ""  # what relative links are relative to, if not the feed's address


def read_quickly(document: bytes) -> Feed | None:
    """Read a feed (UTF-8). Returns None if `read_thoroughly` may do better. Raises InvalidFeed."""
    if document.lstrip()[:1] == b"{":
        return read_json(document)
    document, fault = prepare(document)
    feed = None if fault else read_with_fastfeedparser(document)
    if feed and not is_doubtful(feed, document):
        return feed
    if not MAY_BE_FEED.search(document):
        raise InvalidFeed
    return None


def read_thoroughly(document: bytes) -> Feed:
    """Read a feed (UTF-8) by whatever parser can. Raises InvalidFeed. Slow: not for the event loop."""
    feed = read_quickly(document)
    if feed:
        return feed
    document, _ = prepare(document)
    feeds = [feed for feed in (read_with_feedparser(document), read_with_fastfeedparser(document)) if feed]
    if not feeds:
        raise InvalidFeed
    return max(feeds, key=lambda feed: sum(bool(entry.get("title") or entry.get("id")) for entry in feed.entries))


def prepare(document: bytes) -> tuple[bytes, int]:
    """Make the document safe and repair it. Returns it with expat's code of its remaining fault (0: none)."""
    if is_oversized(document):
        raise InvalidFeed
    if b"<!DOCTYPE" in document:
        document = remove_doctype(document)
    document = cut_after_last_item(document)
    fault = find_xml_fault(document)
    if fault:
        document = repair(document)
        fault = find_xml_fault(document)
    if fault in ENDS_EARLY:
        return drop_unfinished_item(document), 0
    return document, fault


MAY_BE_FEED = re.compile(rb"<(?:[a-z][\w.-]*:)?(?:rss|feed|rdf|channel|item|entry)[\s/>]", re.IGNORECASE)
ITEM = re.compile(rb"<(?:[a-z][\w.-]*:)?(?:item|entry)[\s/>]", re.IGNORECASE)
ITEM_END = re.compile(rb"</(?:[a-z][\w.-]*:)?(?:item|entry)\s*>", re.IGNORECASE)
ID_END = re.compile(rb"</(?:[a-z][\w.-]*:)?(?:guid|id)\s*>", re.IGNORECASE)
SMALLEST_ITEM = 20


def cut_after_last_item(document: bytes) -> bytes:
    """Cut off everything after the first MAX_STORIES items."""
    if len(document) > MAX_STORIES * SMALLEST_ITEM:
        for item in islice(ITEM.finditer(document), MAX_STORIES, None):
            return document[: item.start()]
    return document


def drop_unfinished_item(document: bytes) -> bytes:
    """Drop the last item of a truncated document if its id is cut.

    Half an id would be a new story, and the whole id another one with the next check.
    """
    start = max((item.start() for item in ITEM.finditer(document)), default=0)
    end = max((item_end.end() for item_end in ITEM_END.finditer(document)), default=0)
    is_unfinished = start and start >= end and not ID_END.search(document, start)
    return document[:start] if is_unfinished else document


WITHOUT_DETAILS = {f"include_{detail}": False for detail in ("content", "tags", "media", "enclosures")}


def read_with_fastfeedparser(document: bytes) -> Feed | None:
    """Returns None if it refuses. Takes bytes, because fastfeedparser fetches text that starts with "http://"."""
    try:
        parsed = fastfeedparser.parse(document, **WITHOUT_DETAILS)
    except Exception:  # it documents ValueError, but strangers' documents raise others
        return None
    about = parsed["feed"]
    base = (about.get("title_detail") or {}).get("base") or ""
    return Feed(drop_guessed_dates(parsed["entries"], document), about.get("link") or "", base)


DATE = re.compile(
    rb"<(?:[a-z][\w.-]*:)?(?:pubdate|published|issued|created|updated|modified|date|lastbuilddate)\b", re.IGNORECASE
)


def drop_guessed_dates(entries: Sequence[Entry], document: bytes) -> Sequence[Entry]:
    """Without a date, fastfeedparser takes an id for one: "12" becomes the twelfth of this month."""
    if not entries or not entries[0].get("published") or document.count(b"<pubDate>") >= len(entries):
        return entries
    first = ITEM.search(document)
    if first is None or DATE.search(document, first.start()):
        return entries
    return [{**entry, "published": None} for entry in entries]


# fastfeedparser stops at a child of the title (<title>one <b>two</b></title>) and at a bare "<".
MARKUP_IN_TITLE = re.compile(rb"<title\b[^<>]*>[^<]*<(?![/!])")
PREFIXED_LINK = re.compile(rb"<[a-z][\w.-]*:link\b", re.IGNORECASE)


def is_doubtful(feed: Feed, document: bytes) -> bool:
    """Whether fastfeedparser missed something: items, the rest of a title, a link after an Atom link."""
    if not feed.entries:
        return ITEM.search(document) is not None
    if MARKUP_IN_TITLE.search(document):
        return True
    return not all(entry.get("link") for entry in feed.entries) and PREFIXED_LINK.search(document) is not None


# feedparser gets only the elements that we need, and those with their own titles and links. Some others make it slow:
# an <author> of half a megabyte kept it, and every other thread, busy for minutes.
UNWANTED_TAG = re.compile(
    rb"""</? (?! (?:[a-z][\w.-]*:)? (?:rss|rdf|feed|channel|item|entry|title|link|guid|id|pubdate|published|issued
    |created|updated|modified|date|description|summary|content|encoded|source|image|textinput)[\s/>] ) [a-z][^<>]*>""",
    re.IGNORECASE | re.VERBOSE,
)


def read_with_feedparser(document: bytes) -> Feed | None:
    """Returns None if it finds no feed, or if the document is too large for it."""
    start = MAY_BE_FEED.search(document)
    document = UNWANTED_TAG.sub(b" ", document[start.start() if start else 0 :])
    if len(document) > MAX_BYTES_FOR_FEEDPARSER:
        return None
    try:
        # A stream, because feedparser tries bytes as a file name first.
        parsed = feedparser.parse(io.BytesIO(document), resolve_relative_uris=False, sanitize_html=False)
    except Exception:  # it documents none, but strangers' documents raise several
        return None
    if not parsed["version"] and not parsed["entries"]:
        return None
    return Feed([convert_feedparser_entry(entry) for entry in parsed["entries"]], get_text(parsed["feed"], "link"))


def convert_feedparser_entry(entry: dict[str, Any]) -> Entry:
    """Convert to fastfeedparser's keys."""
    time = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")
    published = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*time[:6]) if time else None
    texts = {"id": "id", "title": "title", "link": "link", "description": "summary"}
    return {"published": published} | {name: get_text(entry, key) for name, key in texts.items()}


def read_json(document: bytes) -> Feed:
    # As for XML: 5 MB of "[[[]]]," took 180 MB, and blocked everything else for a second.
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
        [convert_json_entry(item) for item in items[:MAX_STORIES] if isinstance(item, dict)],
        get_text(parsed, "home_page_url"),
    )


def convert_json_entry(item: dict[str, Any]) -> Entry:
    return {
        "id": get_text(item, "id"),
        "title": get_text(item, "title"),
        "link": get_text(item, "url") or get_text(item, "external_url"),
        "published": get_text(item, "date_published") or get_text(item, "date_modified"),
        "description": get_text(item, "summary") or get_text(item, "content_text") or get_text(item, "content_html"),
    }


def get_text(values: dict[str, Any], key: str) -> str:
    # dict's own `get`: feedparser's warns, and returns the values of other keys.
    value = dict.get(values, key)
    return str(value).strip() if isinstance(value, str | int | float) else ""
