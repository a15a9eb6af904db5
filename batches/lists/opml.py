"""OPML: the subscription lists that feed readers export. Read as a stream; nothing is fetched or expanded."""

from __future__ import annotations

import io
from typing import Any

from lxml import etree

from batches.limits import MAX_QUOTE

from .imports import Collector, InvalidList, clean_line
from .source import HEAD


class _UntilRoot:
    """The bytes of an OPML, of which the first HEAD must have the root.

    The declarations before it take time that grows with the square of their number, whether or not they are used:
    40,000 attributes declared in 1 MB took a minute.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.left = HEAD
        self.has_root = False

    def read(self, size: int) -> bytes:
        if self.has_root:
            return self.stream.read(size)
        if not self.left:
            raise InvalidList(f"No <opml> begins within the first {HEAD // 1024} KB; remove what stands before it.")
        piece = self.stream.read(min(size, self.left))
        self.left -= len(piece)
        return piece


def read_opml(stream: io.BufferedReader, collector: Collector) -> None:
    """Nested outlines with `xmlUrl` or else `htmlUrl`, named by `title` or else `text`; the others are folders."""
    # huge_tree=False bounds the nesting (256), the length of one text and the growth by entities.
    source = _UntilRoot(stream)
    events = etree.iterparse(
        source,
        events=("start", "end"),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        collect_ids=False,
    )
    try:
        for event, element in events:
            if event == "end":
                _forget(element)
            elif element.getparent() is None:
                _check_root(element)
                source.has_root = True
            elif _local_name(element) == "outline":
                _add_outline(element, collector)
    except etree.XMLSyntaxError as error:
        raise InvalidList(_problem(error, events.error_log)) from error


def _add_outline(element: Any, collector: Collector) -> None:
    # Not attrib.items(), whose time grows with the square of their number: 40,000 took 6 s.
    names = {name.lower(): name for name in element.attrib}
    if "xmlurl" in names or "htmlurl" in names:
        collector.add(
            element.sourceline, _first(element, names, "xmlurl", "htmlurl"), _first(element, names, "title", "text")
        )


def _first(element: Any, names: dict[str, str], *wanted: str) -> str:
    """The first of these attributes that says something."""
    values = (element.get(names[name]).strip() for name in wanted if name in names)
    return next(filter(None, values), "")


def _check_root(root: Any) -> None:
    if _local_name(root) != "opml":
        raise InvalidList(f"This is XML but not OPML: it begins with <{clean_line(root.tag, 80)}>, not with <opml>.")
    dtd = root.getroottree().docinfo.internalDTD
    # resolve_entities=False does not keep libxml2 from expanding a declared entity in an attribute.
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise InvalidList("The OPML declares entities of its own, and these are not read; remove its DOCTYPE.")


def _local_name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _forget(element: Any) -> None:
    """Frees what has been read: 280,000 outlines took 1 MB instead of 340 MB."""
    element.clear()
    parent = element.getparent()
    # What stands before the root (a remark, a style sheet) has no parent, and stays.
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def _problem(error: Any, log: Any) -> str:
    # The first fatal entry: for an unknown entity the exception itself has neither the line nor the cause.
    fatal = next(iter(log.filter_from_fatals()), None)
    line, message = (fatal.line, fatal.message) if fatal else (error.lineno, error.msg)
    if fatal and fatal.type_name == "ERR_RESOURCE_LIMIT":
        message = "it is nested too deep, or one of its texts is too long"
    if "EntityRef" in message or "Entity '" in message:
        message = f'{message} (a bare "&" must be written "&amp;")'
    return f"The OPML is broken in line {max(line or 0, 1)}: {clean_line(message, MAX_QUOTE).rstrip('.')}."
