"""A batch's profiles and results as a file: CSV for spreadsheets, JSON Lines for programs, OPML for feed readers.

Written row by row, so that memory does not grow with the batch. What is exported can be imported again. The stories
that a batch found are exported likewise, for spreadsheets and programs.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any
from xml.sax.saxutils import quoteattr

COLUMNS = ("url", "name", "status", "error", "http_status", "duration", "has_story", "checked_at", "feed_url")
STORY_COLUMNS = ("found_at", "published_at", "title", "url", "profile_url", "profile_name", "story_id")

MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson", "opml": "text/x-opml"}

# A spreadsheet takes a cell that begins so for a formula, and runs it, perhaps behind quotes and what it does not show.
# Cells may begin within ours as well: where the spreadsheet's separator is ";" or a tab, quotes count only in front of
# a cell of its own making, so that each of its separators and each line end within our quotes begins one.
_STARTS = r"=+\-@|%＝＋－＠｜％﹢﹣﹦﹫﹪"
_UNSEEN = r'"\x00-\x08\x0b\x0c\x0e-\x1f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff'
FORMULA = re.compile(
    rf"\A(?=[\t\r\n]|[\s{_UNSEEN}]*[{_STARTS}])"
    # One class, so that no character can be read in two ways: 26 of such took 6 s.
    rf"|(?<=[;\t\r\n])(?=(?:(?![\t\r\n])[\s{_UNSEEN}])*[{_STARTS}])"
)
# Left as it is, since it is imported again. Without blanks, quotes and bars, a formula within it can do nothing.
ADDRESS = re.compile(r"https?://[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")
# XML has no way to say these, not even escaped.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class _Line:
    """A file for csv.writer that keeps nothing: `write` hands the line back."""

    def write(self, line: str) -> str:
        return line


def export_csv(rows: Iterable[Any], columns: Sequence[str] = COLUMNS) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(columns)
    for values in _values(rows, columns):
        yield writer.writerow(map(_cell, values))


def export_jsonl(rows: Iterable[Any], columns: Sequence[str] = COLUMNS) -> Iterator[str]:
    # `json.dumps` makes an encoder for each row that is not written the usual way: a third of the time.
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for values in _values(rows, columns):
        yield encode(dict(zip(columns, values, strict=True))) + "\n"


def export_opml(rows: Iterable[Any]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<opml version="2.0">\n<head><title>Profiles</title></head>\n<body>\n'
    for row in rows:
        name, url = (quoteattr(NOT_XML.sub("", text)) for text in (row.name or row.url, row.url))
        yield f'<outline type="rss" text={name} xmlUrl={url}/>\n'
    yield "</body>\n</opml>\n"


EXPORTERS: dict[str, Callable[[Iterable[Any]], Iterator[str]]] = {
    "csv": export_csv,
    "jsonl": export_jsonl,
    "opml": export_opml,
}


STORY_EXPORTERS: dict[str, Callable[[Iterable[Any]], Iterator[str]]] = {
    "csv": partial(export_csv, columns=STORY_COLUMNS),
    "jsonl": partial(export_jsonl, columns=STORY_COLUMNS),
}


def _values(rows: Iterable[Any], columns: Sequence[str]) -> Iterator[list[Any]]:
    values_of = attrgetter(*columns)
    for row in rows:
        yield [value.isoformat() if isinstance(value, datetime) else value for value in values_of(row)]


def _cell(value: Any) -> Any:
    return FORMULA.sub("'", value) if isinstance(value, str) and not ADDRESS.fullmatch(value) else value
