"""Reads the bytes of a list: bounds their number, checks their encoding, splits them into lines."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from batches.limits import MAX_LIST_BYTES

from .imports import InvalidList

#: 200 MB of blank lines took 35 s; 200 MB of short addresses would take 2 GB of memory.
MAX_LINES = 5_000_000
#: Characters of one line. Longer than any CSV field (131,072), to tell a long field from a long line.
MAX_LINE = 1_000_000
#: Bytes at the start that decide encoding and format.
HEAD = 65_536

_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class BoundedStream(io.RawIOBase):
    """The first MAX_LIST_BYTES of `source`. Fills each buffer, so that a pipe has as long a head as a file."""

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self.total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        filled = 0
        while filled < len(buffer) and (chunk := self.source.read(len(buffer) - filled)):
            buffer[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        self.total += filled
        if self.total > MAX_LIST_BYTES:
            raise InvalidList(f"The list is larger than {MAX_LIST_BYTES // 1_000_000} MB; split it into several.")
        return filled


def refuse_other_files(head: bytes) -> None:
    """Raise InvalidList for files that people upload by mistake, with what to do instead."""
    if head.startswith(b"PK\x03\x04"):
        raise InvalidList("This is a workbook or a ZIP archive; save the sheet with the addresses as CSV in UTF-8.")
    # UTF-16 without a mark: addresses are ASCII, and ASCII has NUL in only one half of each unit.
    fewer, more = sorted((head[::2].count(0), head[1::2].count(0)))
    if head.startswith(_MARKS) or (fewer == 0 and more > 1 and more * 4 > len(head)):
        raise InvalidList("The list is in UTF-16 or UTF-32; save it as UTF-8.")


def require_utf8(head: bytes) -> None:
    text = head.decode("utf-8", "surrogateescape")
    unreadable = _UNREADABLE.findall(text)
    if len(unreadable) * 10 <= len(text):
        return
    if min(unreadable) < " ":
        raise InvalidList("This is a binary file, not a list of addresses.")
    raise InvalidList("The list is not in UTF-8; save it as UTF-8.")


def find_first_line(head: bytes) -> str:
    """The first line that is not blank."""
    return re.split(r"[\r\n]", head.decode("utf-8-sig", "surrogateescape").strip(), maxsplit=1)[0]


def read_lines(stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
    """Each line with its number, cut at MAX_LINE characters: an endless line must not fill the memory."""
    # Undecodable bytes become lone surrogates, which make the address in their line invalid.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline=None)
    number = 0
    while line := text.readline(MAX_LINE):
        number += 1
        if number > MAX_LINES:
            raise InvalidList(f"The list has more than {MAX_LINES:,} lines; split it into several.")
        rest = line
        while len(rest) == MAX_LINE and not rest.endswith("\n"):
            rest = text.readline(MAX_LINE)
        yield number, line
