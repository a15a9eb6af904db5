"""Lists of profiles: plain text, CSV, OPML and JSON Lines in; normalised addresses and rejected lines out.

What spoils a whole list (`InvalidList`) and what spoils one entry of it (`Reject`):

- The list: UTF-16, more than a tenth of unreadable characters in its first 64 KB, broken XML, broken quotes, no `url`
  column, no address at all.
- The entry: everything else. Bytes that are not UTF-8 reject the address they stand in, and become U+FFFD in a name.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import PurePath
from typing import BinaryIO

from .delimited import has_url_column, read_csv
from .imports import Collector, ImportResult
from .lines import read_jsonl, read_text
from .opml import read_opml
from .source import HEAD, Bounded, first_line, refuse_known, refuse_unreadable

READERS: dict[str, Callable[[io.BufferedReader, Collector], None]] = {
    "text": read_text,
    "csv": read_csv,
    "opml": read_opml,
    "jsonl": read_jsonl,
}
FORMATS = tuple(READERS)
EXTENSIONS = {
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "csv",
    ".opml": "opml",
    ".xml": "opml",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def read_profiles(
    source: BinaryIO | bytes, *, filename: str = "", format: str | None = None, strict: bool = False
) -> ImportResult:
    """The profiles listed in `source`, which is read once, in pieces, and not closed; at most MAX_LIST_BYTES.

    The format is `format` (one of FORMATS), else what the extension of `filename` says, else what the content looks
    like.
    Of several mentions of an address the first stays, with the first name that is not empty.

    Raises InvalidList if the list as a whole cannot be read, if no profile is in it, or, with `strict`, if there is a
    reject. Raises ValueError for a format that does not exist.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"There is no format {format!r}; the formats are {', '.join(FORMATS)}.")
    stream: io.BufferedReader = io.BufferedReader(
        Bounded(io.BytesIO(source) if isinstance(source, bytes) else source), HEAD
    )
    head = stream.peek(HEAD)
    refuse_known(head)
    line = first_line(head)
    format = format or detect_format(head, filename)
    if not (format == "opml" and line.startswith("<")):  # XML names its own encoding
        refuse_unreadable(head)
    collector = Collector()
    READERS[format](stream, collector)
    return collector.result(strict)


def detect_format(head: bytes, filename: str = "") -> str:
    """The format that the extension names, or else the one that the first HEAD bytes of the list look like."""
    return EXTENSIONS.get(PurePath(filename).suffix.lower()) or _sniff(first_line(head))


def _sniff(line: str) -> str:
    if line.startswith("<"):
        return "opml"
    if line.startswith("{"):
        return "jsonl"
    return "csv" if has_url_column(line) else "text"
