"""OPML: the subscription lists that feed readers export, well-formed or not. Fetches and expands nothing.

Not an XML parser: many public collections are not well-formed, and a parser refuses the whole list for a bare "&". Only
the attributes of outlines count, wherever they are. So neither entities nor nesting nor many attributes make it slow.
"""

import re
import sys
from collections.abc import Sequence
from html.entities import html5

from batches.text import Sentence

from .fields import rank_fields
from .imports import Collector, InvalidList, clean_line
from .source import MAX_LINE, ListSource, Piecewise

ROOTS = {"opml", "head", "body", "outline"}

OPEN_COMMENT = Sentence("The comment that begins here has no end; it hides the rest of the list.")
OPEN_SECTION = Sentence("The CDATA section that begins here has no end; it hides the rest of the list.")
NOT_READABLE = Sentence('Its address cannot be read; write each attribute as name="value".')
CUT = Sentence("The list ends within this entry.")
INCLUSION = Sentence("It includes another list, which is not fetched; import that list separately.")

_NAME = r"[A-Za-z_][\w.-]{0,100}"
_START = re.compile(rf"<(?:(!--)|(!\[CDATA\[)|(?:{_NAME}:)?({_NAME})(?=[\s/>]))")
_HIDING = {1: (OPEN_COMMENT, re.compile("-->")), 2: (OPEN_SECTION, re.compile(r"\]\]>"))}
_NEXT_TAG = re.compile(rf"</?(?:{_NAME}:)?(?:outline|body|opml)\b", re.IGNORECASE)
_TAG = re.compile(r"""(?:\s++[\w:.-]++\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'))*+\s*+/?>""")
_ATTRIBUTE = re.compile(r"""([\w:.-]++)\s*+=\s*+("[^"<]*+"|'[^'<]*+')""")

# Within a tag that is not well-formed.
_END_OR_ATTRIBUTE = re.compile(r"""(>)|(?<![\w:.-])([\w:.-]++)\s*+=\s*+(["']?)""")
_AFTER_QUOTE = r"""(?=\s*+[\w:.-]++\s*+=\s*+["']|\s++[\w:.-]++\s*+=|\s*+/?\s*+>|\s*+\Z)"""
_CLOSING = {quote: re.compile(quote + _AFTER_QUOTE) for quote in "\"'"}
_ATTRIBUTE_IN_VALUE = re.compile(
    r"""\s(?:xmlUrl|htmlUrl|url|text|title|type|description|version|category|language)\s*+=\s*+["']""", re.IGNORECASE
)
_ADDRESS = re.compile(r"""\s(?:xmlUrl|htmlUrl|url)\s*+=\s*+["']""", re.IGNORECASE)
_UNQUOTED = re.compile(r"""[^\s"'>]*?(?=[\s"']|/?>|\Z)""")

_ENTITY = re.compile(r"&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]\w{0,40}));", re.IGNORECASE)

#: Names and values, with their quotes.
Attributes = list[tuple[str, str]]


def read_opml(source: ListSource, collector: Collector) -> None:
    """Read the outlines with an address at any depth: `xmlUrl`, otherwise `url`, otherwise `htmlUrl`.

    They are named by `title`, otherwise `text`. Other outlines are folders or notes.
    """
    window = Piecewise(source)
    has_root = False
    while start := window.find(_START):
        line, tag = window.line, start[3]
        window.at = start.end()
        if start.lastindex in _HIDING:
            fault, pattern = _HIDING[start.lastindex]
            if end := window.find(pattern):
                window.at = end.end()
            else:
                collector.reject(line, start[0], fault)
            continue
        if not has_root and tag.lower() not in ROOTS:
            name = clean_line(tag, 80)
            raise InvalidList(
                Sentence("This is XML but not OPML: it starts with <%(tag)s>, not with <opml>.", tag=name)
            )
        has_root = True
        if tag.lower() == "outline":
            _read_outline(window, line, collector)
    if not has_root and source.head.strip():
        raise InvalidList(Sentence("This is not OPML: it does not contain <opml>."))


def _read_outline(window: Piecewise, line: int, collector: Collector) -> None:
    """Add the outline with the attributes that begin at `at`, and move past them."""
    while not (tag := _TAG.match(window.text, window.at)):
        following = _NEXT_TAG.search(window.text, window.at)
        is_long = len(window.text) - window.at > MAX_LINE
        if following or is_long or window.is_whole:
            end = following.start() if following else len(window.text)
            written = window.text[window.at : end]
            window.at = end
            if is_long and not following:
                collector.reject(line, written, Sentence("It is longer than %(most)s characters.", most=MAX_LINE))
                window.find(_NEXT_TAG)
            else:
                _mend_outline(line, written, not following, collector)
            return
        window.read_on()
    attributes = _ATTRIBUTE.findall(window.text, window.at, tag.end())
    window.at = tag.end()
    _add_outline(line, attributes, collector)


def _mend_outline(line: int, written: str, is_last: bool, collector: Collector) -> None:
    attributes, has_end = _read_loosely(written)
    if is_last and not has_end:
        collector.reject(line, written, CUT)
    elif not _add_outline(line, attributes, collector) and "url" in written.lower():
        collector.reject(line, written, NOT_READABLE)


def _add_outline(line: int, attributes: Attributes, collector: Collector) -> bool:
    """Returns whether the outline is an entry, valid or not."""
    attributes.reverse()
    values = dict(attributes)  # the first of two equal ones counts
    address_fields, name_fields = rank_fields(tuple(values)[::-1])
    if not address_fields:
        return False
    url = _first_of(values, address_fields)
    if url and values.get("type", "").strip("\"' \t\n").lower() == "include":
        collector.reject(line, url, INCLUSION)
    else:
        collector.add(line, url, _first_of(values, name_fields))
    return True


def _first_of(values: dict[str, str], fields: Sequence[str]) -> str:
    for field in fields:
        value = values[field][1:-1]
        if text := (_ENTITY.sub(_decode_entity, value) if "&" in value else value).strip():
            return text
    return ""


def _decode_entity(match: re.Match[str]) -> str:
    """The character of an entity of XML or HTML. A character that XML forbids makes an address invalid."""
    if match[3]:
        return html5.get(f"{match[3]};", match[0])
    number = int(match[1]) if match[1] else int(match[2], 16)
    return chr(number) if number <= sys.maxunicode else match[0]


def _read_loosely(written: str) -> tuple[Attributes, bool]:
    """The attributes of a tag that is not well-formed, and whether it has an end.

    A quote closes a value if an attribute or the end of the tag follows. Otherwise, or if an attribute is within the
    value, the quote was forgotten. An end of a tag before the address belongs to HTML within a description. Linear: the
    next closing quote is searched only once.
    """
    attributes: Attributes = []
    closing: dict[str, int] = {}
    last_address = max((found.start() for found in _ADDRESS.finditer(written)), default=0)
    position = 0
    while (found := _END_OR_ATTRIBUTE.search(written, position)) and not (found[1] and found.start() > last_address):
        if found[1]:
            position = found.end()
            continue
        start, quote = found.end(), found[3]
        if quote and closing.get(quote, -1) < start:
            close = _CLOSING[quote].search(written, start)
            closing[quote] = close.start() if close else len(written)
        if quote and (end := closing[quote]) < len(written):
            inner = _ATTRIBUTE_IN_VALUE.search(written, start, end)
            end = inner.start() if inner else end
            position = end if inner else end + 1
        else:
            bare = _UNQUOTED.match(written, start)
            end = position = bare.end() if bare else start
        attributes.append((found[2], f'"{written[start:end]}"'))
    return attributes, found is not None
