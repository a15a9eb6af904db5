"""Bytes of unknown make into XML that can be parsed: one encoding, no entities, no attacks by size or shape."""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases
from functools import lru_cache
from html.entities import html5
from xml.parsers import expat

MARKS = {
    codecs.BOM_UTF8: "utf_8_sig",
    codecs.BOM_UTF32_LE: "utf_32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf_32",
    codecs.BOM_UTF16_LE: "utf_16",
    codecs.BOM_UTF16_BE: "utf_16",
    b"<\0": "utf_16_le",
    b"\0<": "utf_16_be",
}
ALL_MARKS = tuple(MARKS)
DECLARED_ENCODING = re.compile(rb"\s*<\?xml\s[^<>]*?\bencoding\s*=\s*[\"']([\w.:-]{1,40})")
DECLARATION = re.compile(rb"\A\s*<\?xml\s[^<>]*>")
MAX_DECLARATION = 200
# Of Python's codecs, those that are encodings of text in the wild: `punycode` is quadratic, `unicode_escape` warns.
TEXT_CODEC = re.compile(r"utf_8|cp\d+|iso8859_\d+|koi8_\w|mac_\w+|gb18030|big5\w*|euc_\w+|iso2022_\w+|johab|hz|ptcp154")
# What is sent under the first name is the second more often than not; the second holds all characters of the first.
WIDER_CODECS = {
    "ascii": "cp1252",
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "x_sjis": "cp932",
    "euc_kr": "cp949",
}


def to_utf8(body: bytes, charset: str = "") -> bytes:
    """`body` in UTF-8 without byte order mark; `charset` is what the HTTP header names, else empty.

    Its XML declaration, where it has one, names no other encoding afterwards. What cannot be decoded is replaced.
    """
    declared = declared_encoding(body[: body.find(b"?>", 0, MAX_DECLARATION) + 1])
    codec = codec_of_body(body, declared, charset)
    end = end_of_valid_utf8(body) if codec == "utf_8" else 0
    if end and codec_of(declared or "utf-8") == "utf_8":
        return body[:end]
    document = body[:end] if end else body.decode(codec, "replace").encode("utf-8", "replace")
    return DECLARATION.sub(b"", document, count=1)


def codec_of_body(body: bytes, declared: str, charset: str) -> str:
    """The codec for the body, from its first bytes, what it declares, and what the HTTP header names."""
    if body.startswith(ALL_MARKS):
        return next(codec for mark, codec in MARKS.items() if body.startswith(mark))
    named = [codec for label in (declared, charset) if label and (codec := codec_of(label))]
    # UTF-8 does not come about by accident in Western text, whereas servers add "charset=iso-8859-1" to everything.
    if (not named or "utf_8" in named or "cp1252" in named) and end_of_valid_utf8(body):
        return "utf_8"
    return next((codec for codec in named if codec != "utf_8"), "utf_8" if named else "cp1252")


# Most documents begin with one of a few declarations.
@lru_cache(maxsize=256)
def declared_encoding(declaration: bytes) -> str:
    encoding = DECLARED_ENCODING.match(declaration)
    return encoding[1].decode() if encoding else ""


@lru_cache(maxsize=256)
def codec_of(label: str) -> str:
    """Python's codec for an encoding's label, or empty."""
    name = re.sub(r"[^a-z0-9]+", "_", label.lower())
    name = aliases.get(name, name)
    name = WIDER_CODECS.get(name, name)
    return name if TEXT_CODEC.fullmatch(name) else ""


def end_of_valid_utf8(body: bytes) -> int:
    """How many bytes of `body` are UTF-8: all, or all but a character cut in the middle at the end; else 0."""
    try:
        return codecs.utf_8_decode(body, "strict", False)[1]
    except UnicodeDecodeError:
        return 0


DOCTYPE = re.compile(
    rb"""<!DOCTYPE (?:[^"'\[<>] | "[^"]*+" | '[^']*+')*+"""
    rb"""(?:\[ (?:<!--.*?(?:-->|\Z) | "[^"]*+" | '[^']*+' | [^\]"'])*+ \]\s*+)? >""",
    re.VERBOSE | re.DOTALL,
)


def without_doctype(document: bytes) -> bytes:
    """`document` without its DOCTYPE, and so without entities: nothing can be expanded or loaded.

    Empty where a DOCTYPE has no end.
    """
    pieces = []
    position = 0
    while (start := document.find(b"<!DOCTYPE", position)) >= 0:
        doctype = DOCTYPE.match(document, start)
        if doctype is None:
            return b""
        pieces.append(document[position:start])
        position = doctype.end()
    # With a space, so that what stood around one does not become another.
    return b" ".join([*pieces, document[position:]])


# Parsers compare each attribute of an element with all others, and look up namespaces one by one: 300,000 attributes
# took 70 s, 200,000 nested namespaces 13 s. A tree takes 200 bytes a tag.
MAX_ATTRIBUTES = 1000
MAX_NAMESPACES = 20_000
MAX_TAGS = 500_000
# What is smaller cannot hold enough of them to matter.
SMALL_BYTES = 50_000
TOO_MANY_ATTRIBUTES = re.compile(
    rb"""<[^<>"'=]*+ (?: =\s*+ (?:"[^"]*+" | '[^']*+') [^<>"'=]*+ ){%d}""" % MAX_ATTRIBUTES, re.VERBOSE
)


def is_oversized(document: bytes) -> bool:
    """Whether a parser would take long, or much memory, for no feed that anybody reads."""
    if len(document) <= SMALL_BYTES:
        return False
    return (
        document.count(b"<") > MAX_TAGS
        or document.count(b"xmlns") > MAX_NAMESPACES
        or TOO_MANY_ATTRIBUTES.search(document) is not None
    )


ENDS_EARLY = frozenset(
    expat.errors.codes[error]
    for error in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
    )
)


def xml_fault(document: bytes) -> int:
    """0 for well-formed XML, else expat's code of the first fault."""
    try:
        expat.ParserCreate("utf-8").Parse(document, True)
    except expat.ExpatError as error:
        return error.code
    return 0


# Each takes a hundred bytes until the document is put together again.
MAX_REPAIRS = 100_000
CONTROL_CHARACTERS = bytes(set(range(32)) - set(b"\t\n\r"))
TO_REPAIR = re.compile(
    rb"""(?P<cdata> <!\[CDATA\[ .*? (?:\]\]>|\Z) )
    | & (?! (?-i:amp|lt|gt|quot|apos); )
        (?: \#(?P<decimal>\d{1,7}); | \#x(?P<hex>[\da-f]{1,6}); | (?P<name>[a-z]\w{0,40}); )?
    | < (?![a-z_/!?])""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def repair(document: bytes) -> bytes:
    """The document with the slips mended that make it no XML but leave no doubt about what was meant.

    Those are bare "&" and "<", HTML's entities, characters that XML does not have, and text before the beginning.
    Empty where there is no end of them.
    """
    document = document.translate(None, CONTROL_CHARACTERS)
    repaired, repairs = TO_REPAIR.subn(_repaired, document[start_of_xml(document) :], count=MAX_REPAIRS)
    return repaired if repairs < MAX_REPAIRS else b""


START_OF_XML = re.compile(rb"<\?xml\s|<(?:[a-z][\w.-]*:)?(?:rss|feed|rdf)\b", re.IGNORECASE)


def start_of_xml(document: bytes) -> int:
    found = START_OF_XML.search(document, 0, 8192)
    return found.start() if found else 0


def _repaired(match: re.Match[bytes]) -> bytes:
    whole: bytes = match[0]
    if match["cdata"]:
        return whole
    if match["decimal"] or match["hex"]:
        return whole if is_xml_character(int(match["decimal"] or match["hex"], 10 if match["decimal"] else 16)) else b""
    if match["name"] and (characters := html5.get(f"{match['name'].decode()};")):
        return "".join(f"&#{ord(character)};" for character in characters).encode()
    return (b"&amp;" if whole.startswith(b"&") else b"&lt;") + whole[1:]


def is_xml_character(number: int) -> bool:
    return (
        number in (9, 10, 13) or 0x20 <= number <= 0xD7FF or 0xE000 <= number <= 0xFFFD or 0x10000 <= number <= 0x10FFFF
    )
