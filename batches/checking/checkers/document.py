"""Turns unknown bytes into XML that is safe to parse: one encoding, no entities, no attacks by size or shape."""

import codecs
import re

from batches.encodings import DECLARED_ENCODING, MARKS, MAX_DECLARATION, find_codec

ALL_MARKS = tuple(MARKS)
DECLARATION = re.compile(rb"\A\s*<\?xml\s[^<>]*>")


def to_utf8(body: bytes, charset: str = "") -> bytes:
    """Convert `body` to UTF-8 without byte order mark. `charset` comes from the HTTP header, or is empty.

    Replaces invalid bytes, and removes an XML declaration that names another encoding.
    """
    encoding = DECLARED_ENCODING.match(body, 0, MAX_DECLARATION)
    declared = encoding[1].decode() if encoding else ""
    end = find_utf8_end(body)
    codec = choose_codec(body, declared, charset, is_utf8=bool(end))
    if codec != "utf_8":
        end = 0
    if end and find_codec(declared or "utf-8") == "utf_8":
        return body[:end]
    document = body[:end] if end else body.decode(codec, "replace").encode("utf-8", "replace")
    return DECLARATION.sub(b"", document, count=1)


def choose_codec(body: bytes, declared: str, charset: str, *, is_utf8: bool) -> str:
    """Choose by the first bytes, the declaration and the HTTP header."""
    if body.startswith(ALL_MARKS):
        return next(codec for mark, codec in MARKS.items() if body.startswith(mark))
    named = [codec for label in (declared, charset) if label and (codec := find_codec(label))]
    # Western text is never valid UTF-8 by accident, but some servers add "charset=iso-8859-1" to everything.
    if (not named or "utf_8" in named or "cp1252" in named) and is_utf8:
        return "utf_8"
    if others := [codec for codec in named if codec != "utf_8"]:
        return others[0]
    # Many that say UTF-8 are in Windows-1252: then no character in UTF-8 is left beside the invalid bytes.
    return "utf_8" if named and not body.decode("utf-8", "ignore").isascii() else "cp1252"


def find_utf8_end(body: bytes) -> int:
    """Return the number of bytes in UTF-8: all, all but a truncated last character, or 0."""
    try:
        return codecs.utf_8_decode(body, "strict", False)[1]
    except UnicodeDecodeError:
        return 0


DOCTYPE = re.compile(
    rb"""<!DOCTYPE (?:[^"'\[<>] | "[^"]*+" | '[^']*+')*+"""
    rb"""(?:\[ (?:<!--.*?(?:-->|\Z) | "[^"]*+" | '[^']*+' | [^\]"'])*+ \]\s*+)? >""",
    re.VERBOSE | re.DOTALL,
)


BEFORE_DOCTYPE = re.compile(rb"(?:\s++|<\?.*?\?>|<!--.*?-->)*+(?=<!DOCTYPE)", re.DOTALL)


def remove_doctype(document: bytes) -> bytes:
    """Remove the DOCTYPE, and so all entities: nothing can be expanded or loaded. Returns b"" if it has no end.

    It precedes all elements. Anything further on that looks like a DOCTYPE is text, such as an article on HTML in
    CDATA.
    """
    if b"<!DOCTYPE" not in document:
        return document
    pieces = []
    position = 0
    while before := BEFORE_DOCTYPE.match(document, position):
        doctype = DOCTYPE.match(document, before.end())
        if doctype is None:
            return b""
        pieces.append(before[0])
        position = doctype.end()
    # Insert a space, so that the surrounding text does not form another DOCTYPE.
    return b" ".join([*pieces, document[position:]]) if pieces else document


# A tree takes 200 bytes a tag.
MAX_TAGS = 500_000


def is_oversized(document: bytes) -> bool:
    """Whether its tree would take much memory. No real feed is like this."""
    return len(document) > MAX_TAGS and document.count(b"<") > MAX_TAGS
