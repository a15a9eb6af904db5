"""Reads documents as feeds: RSS 0.9x, 1.0 and 2.0, Atom 0.3 and 1.0, JSON Feed. No network."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from lxml import etree

from .document import MAX_TAGS, is_oversized, remove_doctype
from .elements import (
    Entry,
    find_head,
    find_home,
    find_identity,
    find_items,
    is_address,
    local_name,
    needs_text,
    read_entry,
)
from .repair import Rebuilder, repair

# A feed has tens of stories, an archive hundreds. Broken generators write more, and each would become a row.
MAX_STORIES = 5000


class InvalidFeed(Exception):
    """The document cannot be read as a feed."""


class Feed(NamedTuple):
    entries: Sequence[Entry]
    home: str = ""  # the site's page
    base: str = ""  # the base of links, if it is not the feed's address


def read_quickly(document: bytes) -> Feed | None:
    """Read a feed (UTF-8). Returns None if `read_thoroughly` may do better. Raises InvalidFeed."""
    if document.lstrip()[:1] == b"{":
        return read_json(document)
    document = make_safe(document)
    if feed := read_without_texts(document):
        return feed
    root, is_faulty = parse_xml(document)
    if is_faulty:
        document = make_safe(repair(document))
        root, is_faulty = parse_xml(document)
    if is_faulty:
        return None
    feed = read_xml(root)
    if feed is None and not MAY_BE_FEED.search(document):
        raise InvalidFeed
    return feed


# The articles make up most of a large feed. libxml2 reads them letter by letter, and they are seldom needed.
LARGE_BYTES = 20_000
LONG_TEXT = 1000
TEXT_START = re.compile(
    rb"<(?:description|summary|content|content:encoded)(?:\s[^<>]*)?(?<!/)>\s*(?P<cdata><!\[CDATA\[)?"
)


def read_without_texts(document: bytes) -> Feed | None:
    """Read a large feed without its articles. Returns None if something is missing."""
    if len(document) < LARGE_BYTES:
        return None
    document = drop_long_texts(document)
    root, is_faulty = parse_xml(document)
    feed = None if is_faulty else read_xml(root)
    return None if feed is None or any(needs_text(entry) for entry in feed.entries) else feed


def drop_long_texts(document: bytes) -> bytes:
    pieces, position = [], 0
    for text in TEXT_START.finditer(document):
        start = text.end()
        if start >= position:  # not within one that was dropped
            end = document.find(b"]]>" if text["cdata"] else b"<", start)
            if end < 0:
                break
            if end - start > LONG_TEXT:
                pieces.append(document[position:start])
                position = end
    return b"".join([*pieces, document[position:]])


# In capitals, or with a prefix that is not declared.
MAY_BE_FEED = re.compile(rb"<(?:[a-z][\w.-]*:)?(?:rss|feed|rdf|channel|item|entry)[\s/>]", re.IGNORECASE)


def read_thoroughly(document: bytes) -> Feed:
    """Read a feed (UTF-8), however broken it is. Raises InvalidFeed."""
    feed = read_quickly(document)
    if feed is None:
        document = Rebuilder().rebuild(repair(make_safe(document)))
        feed = read_xml(parse_xml(document)[0])
    if feed is None:
        raise InvalidFeed
    return feed


ROOT = re.compile(rb"<((?:[a-z][\w.-]*:)?(rss|feed|rdf))\b", re.IGNORECASE)
ITEM_END = re.compile(rb"</(?:[a-z][\w.-]*:)?(?:item|entry)\s*>", re.IGNORECASE)
JSON_ITEMS = re.compile(r'"items"\s*:\s*\[')
BETWEEN = re.compile(r"[\s,]*")


def cut_last_item(document: bytes) -> bytes:
    """Cut a truncated feed (UTF-8) after its last complete item. Raises InvalidFeed without a complete item."""
    if document.lstrip()[:1] == b"{":
        return cut_last_json_item(document.decode("utf-8", "replace"))
    root = ROOT.search(document)
    end = max((match.end() for match in ITEM_END.finditer(document)), default=0)
    if root is None or not end:
        raise InvalidFeed
    return document[:end] + (b"</channel>" if root[2].lower() == b"rss" else b"") + b"</%b>" % root[1]


def cut_last_json_item(text: str) -> bytes:
    start = JSON_ITEMS.search(text)
    if start is None:
        raise InvalidFeed
    decoder, end = json.JSONDecoder(strict=False), start.end()
    with suppress(ValueError, RecursionError):
        while between := BETWEEN.match(text, end):
            _, end = decoder.raw_decode(text, between.end())
    if end == start.end():
        raise InvalidFeed
    return f"{text[:end]}]}}".encode()


def make_safe(document: bytes) -> bytes:
    """Raises InvalidFeed if that is not possible."""
    if is_oversized(document):
        raise InvalidFeed
    return remove_doctype(document)


def read_xml(root: etree._Element | None) -> Feed | None:
    """Returns None if the document is not a feed."""
    head = None if root is None else find_head(root)
    if root is None or head is None:
        return None
    home = find_home(head)
    entries = [read_entry(item, home) for item in islice(find_items(root), MAX_STORIES)]
    # RSS does not define the base of relative links. In Atom, it is the document.
    return Feed(entries, home, "" if local_name(head) == "feed" else home)


# Linear in tags, attributes and namespaces, with limits of depth. All entities have been removed. One parser for all
# documents: with one for each, a small document takes half as long again.
PARSER = etree.XMLParser(recover=True, resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
# libxml2 keeps no more errors. Harmless ones may have displaced others.
MAX_FAULTS = 100


def parse_xml(document: bytes) -> tuple[etree._Element | None, bool]:
    """Return the root, and whether the document has faults other than namespaces that are not declared."""
    try:
        root = etree.fromstring(document, PARSER)
    except (etree.XMLSyntaxError, ValueError):  # nothing in it
        return None, True
    faults = PARSER.error_log
    return root, len(faults) >= MAX_FAULTS or any(fault.level == etree.ErrorLevels.FATAL for fault in faults)


def read_json(document: bytes) -> Feed:
    # 5 MB of "[[[]]]," took 180 MB, and blocked everything else for a second.
    if document.count(b"{") + document.count(b"[") > MAX_TAGS:
        raise InvalidFeed
    try:
        parsed = json.loads(document, strict=False)
    except (ValueError, RecursionError):
        raise InvalidFeed from None
    items = parsed.get("items")
    if not isinstance(items, list):
        raise InvalidFeed
    home = get_text(parsed, "home_page_url")
    entries = [convert_item(item, home) for item in items[:MAX_STORIES] if isinstance(item, dict)]
    return Feed(entries, home, home)


def convert_item(item: dict[str, Any], home: str) -> Entry:
    link = find_json_link(item)
    return Entry(
        identity=find_identity(get_text(item, "id"), link, home),
        title=get_text(item, "title"),
        link=link,
        dates=[date for key in ("date_published", "date_modified") if (date := get_text(item, key))],
        text=get_text(item, "summary") or get_text(item, "content_text") or get_text(item, "content_html"),
    )


def find_json_link(item: dict[str, Any]) -> str:
    attachments = item.get("attachments")
    enclosure = attachments[0] if isinstance(attachments, list) and attachments else {}
    identity = get_text(item, "id")
    return (
        get_text(item, "url")
        or get_text(item, "external_url")
        or (identity if is_address(identity) else "")
        or (get_text(enclosure, "url") if isinstance(enclosure, dict) else "")
    )


def get_text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    return str(value).strip() if isinstance(value, str | int | float) else ""
