"""Reads lists of profiles: plain text, CSV, OPML and JSON in; normalised addresses and rejected lines out.

A fault invalidates the whole list (`InvalidList`) or one entry (`Reject`):

- The list: more than a tenth of unreadable characters in its first 64 KB, another kind of file, no valid address.
- The entry: everything else. Everything that could be an entry is either imported or rejected.
"""

import io
import re
from pathlib import PurePath
from typing import BinaryIO

from .csv_lists import is_table, read_csv
from .imports import Collector, ImportResult
from .json_lists import read_json
from .opml import read_opml
from .source import ListSource, decode_head, find_first_line


def read_text(source: ListSource, collector: Collector) -> None:
    """Read one address per line. Blank lines and lines that start with "#" are ignored."""
    for number, line in source.read_lines():
        address = line.strip()
        if address and not address.startswith("#"):
            collector.add(number, address)


READERS = {"text": read_text, "csv": read_csv, "opml": read_opml, "jsonl": read_json}
FORMATS = tuple(READERS)
#: The extension .txt is not used, since people give it to any file.
EXTENSIONS = {".csv": "csv", ".tsv": "csv", ".opml": "opml", ".xml": "opml"}
EXTENSIONS |= {".json": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl"}

_MARKUP = re.compile(r"<(?!https?:|feed:)", re.IGNORECASE)
_JSON = re.compile(r"\{|\[\s*(?:$|[\"\[{\]])")
_OPML = re.compile(r"<(?:\w+:)?opml[\s>]", re.IGNORECASE)


def read_profiles(
    source: BinaryIO | bytes, *, filename: str = "", format: str | None = None, strict: bool = False
) -> ImportResult:
    """Read the profiles listed in `source`: once, in pieces, at most MAX_LIST_BYTES, without closing it.

    `format` is one of FORMATS; without it, the content decides, otherwise the extension of `filename`. An address that
    occurs several times counts once, at its first place, with the first name that is not empty.

    Raises InvalidList if the list cannot be read, has no profile, or (with `strict`) has a reject. Raises ValueError
    for an unknown format.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; the formats are {', '.join(FORMATS)}.")
    text = ListSource(io.BytesIO(source) if isinstance(source, bytes) else source)
    collector = Collector()
    READERS[format or _detect_format(text.head, filename)](text, collector)
    return collector.result(strict)


def detect_format(head: bytes, filename: str = "") -> str:
    """The format of a list that begins with these bytes."""
    return _detect_format(decode_head(head), filename)


def _detect_format(head: str, filename: str) -> str:
    """The first character identifies markup and JSON. Otherwise the extension decides, then the first lines."""
    line = find_first_line(head)
    if _MARKUP.match(line) or _OPML.search(head):
        return "opml"
    if _JSON.match(line):
        return "jsonl"
    return EXTENSIONS.get(PurePath(filename).suffix.lower()) or ("csv" if is_table(head) else "text")
