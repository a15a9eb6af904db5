"""A batch's profiles and results as a file: CSV for spreadsheets, JSON Lines for programs, OPML for feed readers.

Written row by row, so that memory does not grow with the batch. What is exported can be imported again.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

from .queries import Row

COLUMNS = ("url", "name", "status", "error", "http_status", "duration", "has_story", "checked_at", "feed_url")

# A spreadsheet takes a cell that begins so for a formula, and runs it.
FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
# XML has no way to say these, not even escaped.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class _Line:
    """A file for csv.writer that keeps nothing: `write` hands the line back."""

    def write(self, line: str) -> str:
        return line


def export_csv(rows: Iterable[Row]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow([_cell(value) for value in _values(row)])


def export_jsonl(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(dict(zip(COLUMNS, _values(row), strict=True)), ensure_ascii=False) + "\n"


def export_opml(rows: Iterable[Row]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<opml version="2.0">\n<head><title>Profiles</title></head>\n<body>\n'
    for row in rows:
        name, url = (quoteattr(NOT_XML.sub("", text)) for text in (row.name or row.url, row.url))
        yield f'<outline type="rss" text={name} xmlUrl={url}/>\n'
    yield "</body>\n</opml>\n"


EXPORTERS: dict[str, Callable[[Iterable[Row]], Iterator[str]]] = {
    "csv": export_csv,
    "jsonl": export_jsonl,
    "opml": export_opml,
}


def _values(row: Row) -> list[Any]:
    values = row._replace(checked_at=row.checked_at.isoformat() if row.checked_at else None)._asdict()  # type: ignore[arg-type]
    return [values[column] for column in COLUMNS]


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value
