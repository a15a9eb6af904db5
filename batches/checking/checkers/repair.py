"""Repairs feeds that are not well-formed XML: first the unambiguous faults, then everything else."""

import re
import sys
from html.entities import html5

from batches.text import NOT_XML

from .elements import HEADS, IDS, ITEMS, WANTED

# Each repair takes a hundred bytes until the document is joined.
MAX_REPAIRS = 100_000
START_OF_XML = re.compile(rb"<\?xml\s[^<>]*>|<(?:[a-z][\w.-]*:)?(?P<root>rss|feed|rdf)\b", re.IGNORECASE)
NOT_ALLOWED = bytes(set(range(32)) - set(b"\t\n\r"))
TO_REPAIR = re.compile(
    rb"""(?P<cdata> <!\[CDATA\[ .*? (?:\]\]>|\Z) )
    | & (?! (?-i:amp|lt|gt|quot|apos); )
        (?: \#(?P<decimal>\d{1,7}); | \#x(?P<hex>[\da-f]{1,6}); | (?P<name>[a-z]\w{0,40}); )?
    | < (?![a-z_/!?])
    | \xef\xbf[\xbe\xbf]""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)


def repair(document: bytes) -> bytes:
    """Repair unambiguous faults: bare "&" and "<", HTML's entities, characters that XML forbids, text before the start.

    Returns b"" if there are more than MAX_REPAIRS.
    """
    document = document.translate(None, NOT_ALLOWED)
    if start := START_OF_XML.search(document, 0, 8192):
        document = document[start.start() if start["root"] else start.end() :]
    repaired, repairs = TO_REPAIR.subn(_repair_match, document, count=MAX_REPAIRS)
    return repaired if repairs < MAX_REPAIRS else b""


def _repair_match(match: re.Match[bytes]) -> bytes:
    whole: bytes = match[0]
    if match["cdata"]:
        return whole
    if match["decimal"] or match["hex"]:
        number = int(match["decimal"] or match["hex"], 10 if match["decimal"] else 16)
        return b"&#%d;" % number if number <= sys.maxunicode and not NOT_XML.match(chr(number)) else b""
    if match["name"] and (characters := html5.get(f"{match['name'].decode()};")):
        return "".join(f"&#{ord(character)};" for character in characters).encode()
    if whole == b"<":
        return b"&lt;"
    return b"&amp;" + whole[1:] if whole.startswith(b"&") else b""


TOKEN = re.compile(
    rb"""(?P<cdata> <!\[CDATA\[ .*? (?:\]\]>|\Z) )
    | <!-- .*? (?:-->|\Z)
    | <[!?] [^<>]* >?
    | < (?P<end>/)? (?P<name>[a-z_][\w.:-]*+) (?P<rest> (?: [^<>"'] | "[^"<]*" | '[^'<]*' | ["'] )*+ ) >
    | < | \]\]>""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
ATTRIBUTE = re.compile(
    rb"""(?<![\w:.-]) ([a-z][\w:.-]*+) \s*+=\s*+ (?: "([^"]*)" | '([^']*)' | ([^\s"'>]+) )""",
    re.VERBOSE | re.IGNORECASE,
)
ATTRIBUTES = {name.lower(): name for name in (b"href", b"rel", b"type", b"url", b"src", b"xml:base", b"rdf:about")}
#: These contain elements; the other relevant ones contain only text.
CONTAINERS = HEADS | ITEMS | {"image", "textinput", "source"}
KEPT = CONTAINERS.union(name.rpartition(":")[2] for name in WANTED)
# Real feeds need seven levels.
MAX_DEPTH = 20


class Rebuilder:
    """Keeps only the elements that feeds are read by, and closes them where they should have been.

    Drops a truncated last element, and its item if the id is truncated: it would be a new story, and with its whole id
    another one in the next check.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._open: list[tuple[bytes, int]] = []  # with their places in `_pieces`
        self._prefix = b""  # of the heads and items
        self._has_id = False  # the current item

    def rebuild(self, document: bytes) -> bytes:
        position = 0
        for token in TOKEN.finditer(document):
            self._pieces.append(document[position : token.start()])
            position = token.end()
            self._write(token)
        self._pieces.append(document[position:])
        self._drop_what_is_cut()
        while self._open:
            self._close(self._open[-1][0])
        rdf = b"http://www.w3.org/1999/02/22-rdf-syntax-ns#"
        return b'<document xmlns:rdf="%b">%b</document>' % (rdf, b"".join(self._pieces))

    def _write(self, token: re.Match[bytes]) -> None:
        if token["cdata"]:
            self._pieces.append(token["cdata"] if token["cdata"].endswith(b"]]>") else b"")
        elif token["name"] and local_name(token["name"]) in KEPT:
            name = token["name"].lower()
            if local_name(name) in HEADS | ITEMS:
                self._prefix = name.rpartition(b":")[0] + b":"
            name = name.removeprefix(self._prefix)
            if token["end"]:
                self._close(name)
            else:
                self._start(name, token["rest"])
        else:
            self._pieces.append(b"&lt;" if token[0] == b"<" else b" ")

    def _start(self, name: bytes, rest: bytes) -> None:
        if self._open and local_name(self._open[-1][0]) not in CONTAINERS:
            self._close(self._open[-1][0])
        attributes = read_attributes(rest)
        if local_name(name) in ITEMS:
            self._close(name)
            self._has_id = b"rdf:about" in attributes
        if len(self._open) >= MAX_DEPTH or (name == b"source" and b"src" in attributes):  # the latter is HTML's
            return
        is_empty = rest.endswith(b"/")
        if not is_empty:
            self._open.append((name, len(self._pieces)))
        written = b"".join(b' %b="%b"' % pair for pair in attributes.items())
        self._pieces.append(b"<%b%b%b>" % (name, written, b"/" if is_empty else b""))

    def _close(self, name: bytes) -> None:
        """Close the innermost element of this name, and all elements in it. Ignore an end tag without a start tag."""
        if any(name == opened for opened, _ in self._open):
            innermost = b""
            while innermost != name:
                innermost, _ = self._open.pop()
                self._pieces.append(b"</%b>" % innermost)
                self._has_id = self._has_id or local_name(innermost) in IDS

    def _drop_what_is_cut(self) -> None:
        for number, (name, place) in enumerate(self._open):
            is_cut_item = local_name(name) in ITEMS and not self._has_id
            if is_cut_item or local_name(name) not in CONTAINERS:
                del self._pieces[place:]
                del self._open[number:]
                break


def local_name(name: bytes) -> str:
    return name.rpartition(b":")[2].lower().decode("ascii", "replace")


def read_attributes(rest: bytes) -> dict[bytes, bytes]:
    """The attributes that feeds need; the first of each name counts."""
    found: dict[bytes, bytes] = {}
    for match in ATTRIBUTE.finditer(rest):
        if name := ATTRIBUTES.get(match[1].lower()):
            found.setdefault(name, (match[2] or match[3] or match[4] or b"").replace(b'"', b"&quot;"))
    return found
