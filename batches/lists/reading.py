"""Reads lists of profiles: plain text, CSV, OPML and JSON Lines in; normalised addresses and rejected lines out.

A fault spoils the whole list (`InvalidList`) or one entry (`Reject`):

- The list: UTF-16, more than a tenth of unreadable characters in its first 64 KB, broken XML, broken quotes, no `url`
  column, no valid address.
- The entry: everything else. Bytes that are not UTF-8 reject the address they are in, and become U+FFFD in a name.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, BinaryIO

from .imports import Collector, ImportResult, InvalidList, clean_line
from .opml import read_opml
from .source import HEAD, MAX_LINE, BoundedStream, find_first_line, read_lines, refuse_other_files, require_utf8

DELIMITERS = ",;\t"


def read_text(stream: io.BufferedReader, collector: Collector) -> None:
    """One address a line. Blank lines and lines that start with "#" are ignored."""
    for number, line in read_lines(stream):
        address = line.strip()
        if address and not address.startswith("#"):
            collector.add(number, address)


def read_jsonl(stream: io.BufferedReader, collector: Collector) -> None:
    """Each line is a string, or an object with `url` and perhaps `name`. The first must be valid JSON."""
    for number, line in read_lines(stream):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not collector.profiles and not collector.rejects:
                raise InvalidList(f"Line {number} is not JSON; write one JSON object or string a line.") from error
            is_cut = len(line) == MAX_LINE
            reason = f"It is longer than {MAX_LINE:,} characters." if is_cut else "It is not valid JSON."
            collector.reject(number, line, reason)
        else:
            url, name = (value.get("url"), value.get("name")) if isinstance(value, dict) else (value, "")
            if isinstance(url, str):
                collector.add(number, url, name if isinstance(name, str) else "")
            else:
                collector.reject(number, line, 'It has no "url"; a line is a string, or an object with a string "url".')


def read_csv(stream: io.BufferedReader, collector: Collector) -> None:
    """A column `url` and perhaps a column `name`, in any case and order. Other columns and blank rows are ignored.

    As spreadsheets write it: separated by commas, semicolons or tabs.
    """
    header = find_first_line(stream.peek(HEAD))
    delimiter = max(DELIMITERS, key=lambda sign: ("url" in _read_columns(header, sign), header.count(sign)))
    rows = _read_rows(csv.reader(_read_whole_lines(stream), delimiter=delimiter, skipinitialspace=True, strict=True))
    line, row = next(rows, (0, ["url"]))
    columns = _clean_columns(row)
    if "url" not in columns:
        raise InvalidList(f'Line {line} has no column "url", only: {clean_line(", ".join(row), 300)}.')
    for line, row in rows:
        cells = dict(reversed([*zip(columns, row, strict=False)]))  # the first of two equal columns counts
        collector.add(line, cells.get("url", ""), cells.get("name", ""))


def _read_columns(header: str, delimiter: str) -> list[str]:
    return _clean_columns(next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), []))


def _clean_columns(columns: list[str]) -> list[str]:
    return [column.strip().lower() for column in columns]


def _read_whole_lines(stream: io.BufferedReader) -> Iterator[str]:
    for number, line in read_lines(stream):
        if len(line) == MAX_LINE:
            raise InvalidList(f"Line {number} is longer than {MAX_LINE:,} characters.")
        yield line


def _read_rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with its first line."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidList(_describe_csv_error(str(error), line, reader.line_num)) from error
        if any(cell.strip() for cell in row):
            yield line, row


def _describe_csv_error(message: str, first: int, last: int) -> str:
    if "field limit" in message and last == first:
        return f"Line {first} has a field of more than {csv.field_size_limit():,} characters."
    if "unexpected end" in message or last > first:
        return f"The quote opened in line {first} is never closed; within quotes, write each quote twice."
    return f"Line {first} has text after a closing quote; within quotes, write each quote twice."


READERS = {"text": read_text, "csv": read_csv, "opml": read_opml, "jsonl": read_jsonl}
FORMATS = tuple(READERS)
EXTENSIONS = {".txt": "text", ".csv": "csv", ".tsv": "csv", ".opml": "opml", ".xml": "opml"}
EXTENSIONS |= {".jsonl": "jsonl", ".ndjson": "jsonl"}


def read_profiles(
    source: BinaryIO | bytes, *, filename: str = "", format: str | None = None, strict: bool = False
) -> ImportResult:
    """Read the profiles listed in `source`: once, in pieces, at most MAX_LIST_BYTES, without closing it.

    `format` is one of FORMATS; without it, the extension of `filename` or else the content decides. An address that
    occurs several times counts once, at its first place, with the first name that is not empty.

    Raises InvalidList if the list cannot be read, has no profile, or (with `strict`) has a reject. Raises ValueError
    for an unknown format.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; the formats are {', '.join(FORMATS)}.")
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    stream: io.BufferedReader = io.BufferedReader(BoundedStream(file), HEAD)
    head = stream.peek(HEAD)
    refuse_other_files(head)
    format = format or detect_format(head, filename)
    if not (format == "opml" and find_first_line(head).startswith("<")):  # XML names its own encoding
        require_utf8(head)
    collector = Collector()
    READERS[format](stream, collector)
    return collector.result(strict)


def detect_format(head: bytes, filename: str = "") -> str:
    """The format that the extension names, or else the one that the first HEAD bytes look like."""
    if format := EXTENSIONS.get(PurePath(filename).suffix.lower()):
        return format
    line = find_first_line(head)
    if line.startswith("<"):
        return "opml"
    if line.startswith("{"):
        return "jsonl"
    return "csv" if any("url" in _read_columns(line, delimiter) for delimiter in DELIMITERS) else "text"
