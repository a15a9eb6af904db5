"""Reads the bytes of a list as text: limits them, chooses the encoding, splits the text into lines or pieces."""

import codecs
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from batches.encodings import DECLARED_ENCODING, MARKS, MAX_DECLARATION, find_codec
from batches.limits import MAX_LIST_BYTES
from batches.text import Sentence

from .imports import InvalidList

#: 200 MB of blank lines took 35 s; 200 MB of short addresses would take 2 GB of memory.
MAX_LINES = 5_000_000
#: Characters of one line. Longer than any CSV field (131,072), to tell a long field from a long line.
MAX_LINE = 1_000_000
#: Bytes at the start that decide encoding and format.
HEAD = 65_536
#: Characters that a `Piecewise` reads at once.
PIECE = 262_144
#: The longest match that may lie across the border of two pieces.
LONGEST_MATCH = 256

_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
#: A byte that cannot be decoded. It makes an address invalid, and becomes U+FFFD in a name.
_NOT_TEXT = "\udcff"


class ListSource:
    """The text of a list, read once and in pieces; `head` is its start."""

    def __init__(self, file: BinaryIO) -> None:
        stream = io.BufferedReader(BoundedStream(file), HEAD)
        head = stream.peek(HEAD)
        if head.startswith(b"PK\x03\x04"):
            raise InvalidList(
                Sentence("This is a workbook or a ZIP archive; save the sheet with the addresses as CSV in UTF-8.")
            )
        codec = choose_codec(head)
        self.head = decode_head(head)
        _require_text(head.decode("utf-8", "surrogateescape") if codec == "utf_8_sig" else self.head)
        self.text = io.TextIOWrapper(stream, encoding=codec, errors=_ERRORS, newline=None)

    def read_lines(self) -> Iterator[tuple[int, str]]:
        """Yield each line with its number, cut at MAX_LINE characters: an endless line must not fill the memory."""
        number = 0
        while line := self.text.readline(MAX_LINE):
            number += 1
            _require_few(number)
            rest = line
            while len(rest) == MAX_LINE and not rest.endswith("\n"):
                rest = self.text.readline(MAX_LINE)
            yield number, line


class Piecewise:
    """A window on a text with lines of any length: `text` from `at` on has not been used yet."""

    def __init__(self, source: ListSource) -> None:
        self._source = source
        self.text = ""
        self.at = 0
        self.is_whole = False
        self._line, self._counted = 1, 0

    @property
    def line(self) -> int:
        """The line of `at`."""
        self._count_lines()
        return self._line

    def _count_lines(self) -> None:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        _require_few(self._line - 1)

    def read_on(self, at_least: int = 0) -> None:
        """Drop the used text, and read another piece."""
        self.drop_used()
        piece = self._source.text.read(max(PIECE, at_least))
        self.text += piece
        self.is_whole = not piece

    def drop_used(self) -> None:
        self._count_lines()
        self.text = self.text[self.at :]
        self.at = self._counted = 0

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Move `at` past the match of the pattern there. Returns whether anything is left."""
        while True:
            match = pattern.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.at < len(self.text) or self.is_whole:
                return self.at < len(self.text)
            self.read_on()

    def find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The next match of at most LONGEST_MATCH characters, or None. `at` moves to its start, or to the end."""
        while True:
            match = pattern.search(self.text, self.at)
            if match and (self.is_whole or match.end() < len(self.text)):
                self.at = match.start()
                return match
            if self.is_whole:
                self.at = len(self.text)
                return None
            self.at = match.start() if match else max(self.at, len(self.text) - LONGEST_MATCH)
            self.read_on()


class BoundedStream(io.RawIOBase):
    """The first MAX_LIST_BYTES of `source`.

    Fills each buffer, so that the head of a pipe is as long as a file's.
    """

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
            message = Sentence(
                "The list is larger than %(most)s MB; split it into several.", most=MAX_LIST_BYTES // 1_000_000
            )
            raise InvalidList(message)
        return filled


def choose_codec(head: bytes) -> str:
    """Choose as feed readers do: a byte order mark, the declared encoding of XML, otherwise UTF-8 with Windows-1252."""
    if marked := next((codec for mark, codec in MARKS.items() if head.startswith(mark)), None):
        return marked
    # UTF-16 without a mark: addresses are ASCII, and ASCII has NUL in only one half of each unit.
    first, second = head[::2].count(0), head[1::2].count(0)
    if min(first, second) == 0 and max(first, second) > 1 and max(first, second) * 4 > len(head):
        return "utf_16_be" if first else "utf_16_le"
    declared = DECLARED_ENCODING.match(head, 0, MAX_DECLARATION)
    codec = find_codec(declared[1].decode()) if declared else ""
    return "utf_8_sig" if codec in {"", "utf_8", "cp1252"} else codec


def decode_head(head: bytes) -> str:
    """The text of a list's first bytes, without a truncated last character."""
    return codecs.getincrementaldecoder(choose_codec(head))(_ERRORS).decode(head)


def find_first_line(head: str) -> str:
    """The first line that is not blank."""
    return re.split(r"[\r\n]", head.strip(), maxsplit=1)[0]


def _require_few(lines: int) -> None:
    if lines > MAX_LINES:
        raise InvalidList(Sentence("The list has more than %(most)s lines; split it into several.", most=MAX_LINES))


def _require_text(head: str) -> None:
    """Western text in Windows-1252 has less than a tenth of characters that are not ASCII; other scripts have more."""
    unreadable = _UNREADABLE.findall(head)
    if len(unreadable) * 10 <= len(head):
        return
    if min(unreadable) < " ":
        raise InvalidList(Sentence("This is a binary file, not a list of addresses."))
    raise InvalidList(Sentence("The list is not in UTF-8; save it as UTF-8."))


def _read_as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    """Decode bytes that are not UTF-8 as Windows-1252, even in a file that is partly UTF-8. 200 MB take 45 s."""
    assert isinstance(error, UnicodeDecodeError)
    if error.encoding != "utf-8":
        return _NOT_TEXT, error.end
    return _WINDOWS_1252[error.object[error.start]], error.start + 1


_WINDOWS_1252 = [bytes([number]).decode("cp1252", "replace").replace("\ufffd", _NOT_TEXT) for number in range(256)]
_ERRORS = "batches.windows-1252"
codecs.register_error(_ERRORS, _read_as_windows_1252)
