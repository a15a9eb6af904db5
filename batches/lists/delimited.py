"""CSV as spreadsheets write it: a header with a `url` column, separated by commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from .imports import Collector, InvalidList, clean_line
from .source import HEAD, MAX_LINE, first_line, lines

DELIMITERS = ",;\t"


def read_csv(stream: io.BufferedReader, collector: Collector) -> None:
    """A column `url`, perhaps a column `name`, in any case and order; further columns and blank rows do not count."""
    delimiter = _delimiter(first_line(stream.peek(HEAD)))
    rows = _rows(csv.reader(_whole_lines(stream), delimiter=delimiter, skipinitialspace=True, strict=True))
    header_line, header = next(rows, (0, []))
    if not header:
        return
    columns = _cleaned(header)
    if "url" not in columns:
        raise InvalidList(f'Line {header_line} has no column "url", only: {clean_line(", ".join(header), 300)}.')
    url_at, name_at = columns.index("url"), columns.index("name") if "name" in columns else len(columns)
    for line, row in rows:
        collector.add(line, _cell(row, url_at), _cell(row, name_at))


def has_url_column(line: str) -> bool:
    return "url" in _columns(line, _delimiter(line))


def _delimiter(header: str) -> str:
    return max(DELIMITERS, key=lambda delimiter: ("url" in _columns(header, delimiter), header.count(delimiter)))


def _columns(header: str, delimiter: str) -> list[str]:
    return _cleaned(next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), []))


def _cleaned(columns: list[str]) -> list[str]:
    return [column.strip().lower() for column in columns]


def _cell(row: list[str], index: int) -> str:
    return row[index] if index < len(row) else ""


def _whole_lines(stream: io.BufferedReader) -> Iterator[str]:
    for number, line in lines(stream):
        if len(line) == MAX_LINE:
            raise InvalidList(f"Line {number} is longer than {MAX_LINE:,} characters.")
        yield line


def _rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line it begins in."""
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidList(_problem(str(error), line, reader.line_num)) from error
        if any(cell.strip() for cell in row):
            yield line, row


def _problem(message: str, first: int, last: int) -> str:
    if "field limit" in message and last == first:
        return f"Line {first} has a field of more than {csv.field_size_limit():,} characters."
    if "unexpected end" in message or last > first:
        return f"A quote that is opened in line {first} is not closed; inside of quotes, a quote is written twice."
    return f"Line {first} has text after a closing quote; inside of quotes, a quote is written twice."
