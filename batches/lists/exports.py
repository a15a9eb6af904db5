"""Writes a batch's profiles and stories: CSV for spreadsheets, JSON Lines for programs, OPML for feed readers.

Row by row, so that memory does not grow with the batch. Exported profiles can be imported again.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import quoteattr

from batches.text import NOT_XML

COLUMNS = ("url", "name", "status", "error", "http_status", "duration", "has_story", "checked_at", "feed_url")
MEMBER_COLUMNS = ("url", "name", "feed_url")
PROFILE_COLUMNS = (
    *MEMBER_COLUMNS,
    *("last_checked_at", "last_error", "last_duration", "failures", "failing_since", "last_story_at"),
)
REJECT_COLUMNS = ("line", "text", "reason")
STORY_COLUMNS = ("found_at", "published_at", "title", "url", "profile_url", "profile_name", "story_id")

Exporter = Callable[..., Iterator[str]]

MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson", "opml": "text/x-opml"}

# Spreadsheets run a cell that starts like this as a formula, even after quotes and invisible characters. Their cells
# may start within ours: if their separator is ";" or a tab, they ignore our quotes, so that each of their separators
# and each line end starts a cell.
_STARTS = r"=+\-@|%＝＋－＠｜％﹢﹣﹦﹫﹪"
_INVISIBLE = r'"\x00-\x08\x0b\x0c\x0e-\x1f\xad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff'
FORMULA = re.compile(
    rf"\A(?=[\t\r\n]|[\s{_INVISIBLE}]*[{_STARTS}])"
    # One class, so that no character matches in two ways: 26 such characters took 6 s.
    rf"|(?<=[;\t\r\n])(?=(?:(?![\t\r\n])[\s{_INVISIBLE}])*[{_STARTS}])"
)
_ESCAPED = re.compile(rf"(?<![^;\t\r\n])'(?=[\s{_INVISIBLE}]*[{_STARTS}])")
# Left unchanged, so that it can be imported again. A formula without blanks, quotes and bars is harmless.
ADDRESS = re.compile(r"https?://[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")


def export_csv(rows: Iterable[Any], columns: Sequence[str]) -> Iterator[str]:
    echo: Any = SimpleNamespace(write=str)  # a file that only returns the line from `writerow`
    writer = csv.writer(echo)
    yield writer.writerow(columns)
    for values in _read_values(rows, columns):
        yield writer.writerow(
            FORMULA.sub("'", value) if isinstance(value, str) and not ADDRESS.fullmatch(value) else value
            for value in values
        )


def export_jsonl(rows: Iterable[Any], columns: Sequence[str]) -> Iterator[str]:
    # With options, `json.dumps` creates an encoder for each row, which took a third of the time.
    encode = json.JSONEncoder(ensure_ascii=False).encode
    for values in _read_values(rows, columns):
        yield encode(dict(zip(columns, values, strict=True))) + "\n"


def export_opml(rows: Iterable[Any]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<opml version="2.0">\n<head><title>Profiles</title></head>\n<body>\n'
    for row in rows:
        name, url = (quoteattr(NOT_XML.sub("", text)) for text in (row.name or row.url, row.url))
        yield f'<outline type="rss" text={name} xmlUrl={url}/>\n'
    yield "</body>\n</opml>\n"


def export_as_table(columns: Sequence[str]) -> dict[str, Exporter]:
    return {"csv": partial(export_csv, columns=columns), "jsonl": partial(export_jsonl, columns=columns)}


#: By format.
STORY_EXPORTERS = export_as_table(STORY_COLUMNS)
EXPORTERS, MEMBER_EXPORTERS, PROFILE_EXPORTERS = (
    export_as_table(columns) | {"opml": export_opml} for columns in (COLUMNS, MEMBER_COLUMNS, PROFILE_COLUMNS)
)


def _read_values(rows: Iterable[Any], columns: Sequence[str]) -> Iterator[list[Any]]:
    values_of = attrgetter(*columns)
    for row in rows:
        yield [value.isoformat() if isinstance(value, datetime) else value for value in values_of(row)]


def unescape(text: str) -> str:
    """The text of a cell before `export_csv` made it harmless."""
    return _ESCAPED.sub("", text)
