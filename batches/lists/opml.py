"""OPML: the subscription lists that feed readers export. Reads a stream; fetches and expands nothing."""

from __future__ import annotations

import io
from typing import Any

from lxml import etree

from batches.limits import MAX_QUOTE

from .imports import Collector, InvalidList, clean_line
from .source import HEAD

# huge_tree=False bounds the depth (256), the length of a text and the growth by entities.
SAFELY = {"resolve_entities": False, "load_dtd": False, "no_network": True, "huge_tree": False}
SAFELY |= {"recover": False, "collect_ids": False}
ATTRIBUTES = ("xmlurl", "htmlurl", "title", "text")


class _HeadLimiter:
    """The bytes of an OPML; its root must be within the first HEAD.

    libxml2 is quadratic in the declarations before the root, used or not: 40,000 attributes in 1 MB took a minute.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.left = HEAD
        self.has_root = False

    def read(self, size: int) -> bytes:
        if self.has_root:
            return self.stream.read(size)
        if not self.left:
            raise InvalidList(f"There is no <opml> in the first {HEAD // 1024} KB; remove what precedes it.")
        piece = self.stream.read(min(size, self.left))
        self.left -= len(piece)
        return piece


def read_opml(stream: io.BufferedReader, collector: Collector) -> None:
    """Outlines at any depth with `xmlUrl` or else `htmlUrl`, named by `title` or else `text`. Others are folders."""
    source = _HeadLimiter(stream)
    events = etree.iterparse(source, events=("start", "end"), **SAFELY)
    try:
        for event, element in events:
            if event == "end":
                _free(element)
            elif element.getparent() is None:
                _check_root(element)
                source.has_root = True
            elif _local_name(element) == "outline":
                _add_outline(element, collector)
    except etree.XMLSyntaxError as error:
        raise InvalidList(_describe_error(error, events.error_log)) from error


def _add_outline(element: Any, collector: Collector) -> None:
    # Not attrib.items(), which is quadratic: 40,000 attributes took 6 s.
    names = {name.lower(): name for name in element.attrib}
    values = {name: element.get(names[name]).strip() for name in ATTRIBUTES if name in names}
    if "xmlurl" in values or "htmlurl" in values:
        url, name = values.get("xmlurl") or values.get("htmlurl", ""), values.get("title") or values.get("text", "")
        collector.add(element.sourceline, url, name)


def _check_root(root: Any) -> None:
    if _local_name(root) != "opml":
        raise InvalidList(f"This is XML but not OPML: it starts with <{clean_line(root.tag, 80)}>, not with <opml>.")
    dtd = root.getroottree().docinfo.internalDTD
    # libxml2 expands declared entities in attributes in spite of resolve_entities=False.
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise InvalidList("The OPML declares its own entities, which are not supported; remove its DOCTYPE.")


def _local_name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _free(element: Any) -> None:
    """Drop what has been read: 280,000 outlines take 1 MB instead of 340 MB."""
    element.clear()
    parent = element.getparent()
    # What precedes the root (a comment, a style sheet) has no parent, and stays.
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _describe_error(error: Any, log: Any) -> str:
    # Not the exception itself: for an unknown entity it has neither the line nor the cause.
    fatal = next(iter(log.filter_from_fatals()), None)
    line, message = (fatal.line, fatal.message) if fatal else (error.lineno, error.msg)
    if fatal and fatal.type_name == "ERR_RESOURCE_LIMIT":
        message = "it is nested too deeply, or one of its texts is too long"
    if "EntityRef" in message or "Entity '" in message:
        message = f'{message} (write "&amp;" for a bare "&")'
    return f"The OPML is broken in line {max(line or 0, 1)}: {clean_line(message, MAX_QUOTE).rstrip('.')}."
