"""CSV as spreadsheets write it: a header with a `url` column, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from .imports import Collector, InvalidList, clean_line
from .source import HEAD, MAX_LINE, find_first_line, read_lines

DELIMITERS = ",;\t"


def read_csv(stream: io.BufferedReader, collector: Collector) -> None:
    """A column `url` and perhaps a column `name`, in any case and order. Other columns and blank rows are ignored."""
    delimiter = _detect_delimiter(find_first_line(stream.peek(HEAD)))
    rows = _read_rows(csv.reader(_read_whole_lines(stream), delimiter=delimiter, skipinitialspace=True, strict=True))
    header_line, header = next(rows, (0, []))
    if not header:
        return
    columns = _clean_columns(header)
    if "url" not in columns:
        raise InvalidList(f'Line {header_line} has no column "url", only: {clean_line(", ".join(header), 300)}.')
    url_at, name_at = columns.index("url"), columns.index("name") if "name" in columns else None
    for line, row in rows:
        collector.add(line, _get_cell(row, url_at), _get_cell(row, name_at))


def has_url_column(line: str) -> bool:
    return "url" in _read_columns(line, _detect_delimiter(line))


def _detect_delimiter(header: str) -> str:
    return max(DELIMITERS, key=lambda delimiter: ("url" in _read_columns(header, delimiter), header.count(delimiter)))


def _read_columns(header: str, delimiter: str) -> list[str]:
    return _clean_columns(next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), []))


def _clean_columns(columns: list[str]) -> list[str]:
    return [column.strip().lower() for column in columns]


def _get_cell(row: list[str], index: int | None) -> str:
    return row[index] if index is not None and index < len(row) else ""


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
            raise InvalidList(_describe_error(str(error), line, reader.line_num)) from error
        if any(cell.strip() for cell in row):
            yield line, row


def _describe_error(message: str, first: int, last: int) -> str:
    if "field limit" in message and last == first:
        return f"Line {first} has a field of more than {csv.field_size_limit():,} characters."
    if "unexpected end" in message or last > first:
        return f"The quote opened in line {first} is never closed; within quotes, write each quote twice."
    return f"Line {first} has text after a closing quote; within quotes, write each quote twice."
