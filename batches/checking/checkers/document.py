"""Turns unknown bytes into XML that is safe to parse: one encoding, no entities, no attacks by size or shape."""

from __future__ import annotations

import codecs
import re
import sys
from html.entities import html5
from xml.parsers import expat

from batches.encodings import DECLARED_ENCODING, MARKS, MAX_DECLARATION, find_codec
from batches.text import NOT_XML

DECLARATION = re.compile(rb"\A\s*<\?xml\s[^<>]*>")


def to_utf8(body: bytes, charset: str = "") -> bytes:
    """Convert `body` to UTF-8 without byte order mark. `charset` comes from the HTTP header, or is empty.

    Replaces invalid bytes, and removes an XML declaration that names another encoding.
    """
    encoding = DECLARED_ENCODING.match(body, 0, MAX_DECLARATION)
    declared = encoding[1].decode() if encoding else ""
    codec = choose_codec(body, declared, charset)
    end = find_utf8_end(body) if codec == "utf_8" else 0
    if end and find_codec(declared or "utf-8") == "utf_8":
        return body[:end]
    document = body[:end] if end else body.decode(codec, "replace").encode("utf-8", "replace")
    return DECLARATION.sub(b"", document, count=1)


def choose_codec(body: bytes, declared: str, charset: str) -> str:
    """Choose by the first bytes, the declaration and the HTTP header."""
    if marked := next((codec for mark, codec in MARKS.items() if body.startswith(mark)), None):
        return marked
    named = [codec for label in (declared, charset) if label and (codec := find_codec(label))]
    # Western text is not valid UTF-8 by accident, whereas servers add "charset=iso-8859-1" to everything.
    if (not named or "utf_8" in named or "cp1252" in named) and find_utf8_end(body):
        return "utf_8"
    return next((codec for codec in named if codec != "utf_8"), "utf_8" if named else "cp1252")


def find_utf8_end(body: bytes) -> int:
    """Return how many bytes are UTF-8: all, all but a character cut at the end, or else 0."""
    try:
        return codecs.utf_8_decode(body, "strict", False)[1]
    except UnicodeDecodeError:
        return 0


DOCTYPE = re.compile(
    rb"""<!DOCTYPE (?:[^"'\[<>] | "[^"]*+" | '[^']*+')*+"""
    rb"""(?:\[ (?:<!--.*?(?:-->|\Z) | "[^"]*+" | '[^']*+' | [^\]"'])*+ \]\s*+)? >""",
    re.VERBOSE | re.DOTALL,
)


def remove_doctype(document: bytes) -> bytes:
    """Remove DOCTYPEs, and so all entities: nothing can be expanded or loaded. Returns b"" if one has no end."""
    pieces = []
    position = 0
    while (start := document.find(b"<!DOCTYPE", position)) >= 0:
        doctype = DOCTYPE.match(document, start)
        if doctype is None:
            return b""
        pieces.append(document[position:start])
        position = doctype.end()
    # With a space, so that the text around one does not form another.
    return b" ".join([*pieces, document[position:]])


# Parsers are quadratic in the attributes of an element and in nested namespaces: 300,000 attributes took 70 s, 200,000
# namespaces 13 s. A tree takes 200 bytes a tag.
MAX_ATTRIBUTES = 1000
MAX_NAMESPACES = 20_000
MAX_TAGS = 500_000
# Smaller documents cannot hold enough of them to matter.
SMALL_BYTES = 50_000
TOO_MANY_ATTRIBUTES = re.compile(
    rb"""<[^<>"'=]*+ (?: =\s*+ (?:"[^"]*+" | '[^']*+') [^<>"'=]*+ ){%d}""" % MAX_ATTRIBUTES, re.VERBOSE
)


def is_oversized(document: bytes) -> bool:
    """Whether parsing would take long or much memory. No real feed is like this."""
    if len(document) <= SMALL_BYTES:
        return False
    return (
        document.count(b"<") > MAX_TAGS
        or document.count(b"xmlns") > MAX_NAMESPACES
        or TOO_MANY_ATTRIBUTES.search(document) is not None
    )


ENDS_EARLY = frozenset(
    expat.errors.codes[getattr(expat.errors, f"XML_ERROR_{error}")]
    for error in ("NO_ELEMENTS", "UNCLOSED_TOKEN", "UNCLOSED_CDATA_SECTION", "PARTIAL_CHAR")
)


def find_xml_fault(document: bytes) -> int:
    """Return expat's code of the first fault, 0 for well-formed XML."""
    try:
        expat.ParserCreate("utf-8").Parse(document, True)
    except expat.ExpatError as error:
        return error.code
    return 0


# Each takes a hundred bytes until the document is joined again.
MAX_REPAIRS = 100_000
START_OF_XML = re.compile(rb"<\?xml\s|<(?:[a-z][\w.-]*:)?(?:rss|feed|rdf)\b", re.IGNORECASE)
CONTROL_CHARACTERS = bytes(set(range(32)) - set(b"\t\n\r"))
TO_REPAIR = re.compile(
    rb"""(?P<cdata> <!\[CDATA\[ .*? (?:\]\]>|\Z) )
    | & (?! (?-i:amp|lt|gt|quot|apos); )
        (?: \#(?P<decimal>\d{1,7}); | \#x(?P<hex>[\da-f]{1,6}); | (?P<name>[a-z]\w{0,40}); )?
    | < (?![a-z_/!?])""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def repair(document: bytes) -> bytes:
    """Repair unambiguous faults: bare "&" and "<", HTML's entities, characters that XML forbids, text before the start.

    Returns b"" if there are more than MAX_REPAIRS.
    """
    document = document.translate(None, CONTROL_CHARACTERS)
    if start := START_OF_XML.search(document, 0, 8192):
        document = document[start.start() :]
    repaired, repairs = TO_REPAIR.subn(_repair_match, document, count=MAX_REPAIRS)
    return repaired if repairs < MAX_REPAIRS else b""


def _repair_match(match: re.Match[bytes]) -> bytes:
    whole: bytes = match[0]
    if match["cdata"]:
        return whole
    if match["decimal"] or match["hex"]:
        number = int(match["decimal"] or match["hex"], 10 if match["decimal"] else 16)
        return whole if number <= sys.maxunicode and not NOT_XML.match(chr(number)) else b""
    if match["name"] and (characters := html5.get(f"{match['name'].decode()};")):
        return "".join(f"&#{ord(character)};" for character in characters).encode()
    return (b"&amp;" if whole.startswith(b"&") else b"&lt;") + whole[1:]
