"""JSON: an entry per line (JSON Lines), or a document with arrays of entries, as programs export it."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from batches.limits import MAX_QUOTE
from batches.text import Sentence

from .fields import rank_fields
from .imports import Collector, InvalidList
from .source import LONGEST_MATCH, ListSource, Piecewise, find_first_line

#: Maximum characters of one value, which may be the whole list.
MAX_VALUE = 4_000_000
NOT_JSON = Sentence("It is not valid JSON.")
NOT_AN_ENTRY = Sentence('It has no "url"; an entry is a string, or an object with a string "url".')

_BETWEEN_VALUES = re.compile(r"[\s,\[\]]*+")
_LINE_END = re.compile(r"\n")
#: Characters before a faulty value. The decoder counts their lines, which took 10 s for 100,000 faults.
LONGEST_LEAD = 4_000
#: Where the next value may begin after an object with a fault: an object, or a line with a string that is not a key.
_NEXT_VALUE = re.compile(
    r"""(?<=[\n,\[])(?=[ \t\r]{0,100}\{) | (?<=\n)(?=[ \t\r,\[]{0,100}"(?![^"\n]{0,100}"[ \t]{0,10}:))""", re.VERBOSE
)
_decode = json.JSONDecoder().raw_decode


def read_json(source: ListSource, collector: Collector) -> None:
    """Read entries, which are strings, or objects with an address and optionally a name.

    They are in lines or in arrays: between any brackets and commas. Objects may contain the arrays. After a value with
    a fault, the next object or line is read.
    """
    if (first := find_first_line(source.head)) and first[0] not in '[{"':
        raise InvalidList(Sentence("This is not JSON; write an array of entries, or one JSON object or string a line."))
    window = Piecewise(source)
    while window.skip(_BETWEEN_VALUES):
        try:
            value, end = _decode_value(window)
        except (ValueError, RecursionError) as error:
            written, fault = window.text[window.at : window.at + MAX_QUOTE], getattr(error, "pos", 0)
            is_cut = not window.is_whole and ("Unterminated" in str(error) or fault >= len(window.text))
            reason = Sentence("It is longer than %(most)s characters.", most=MAX_VALUE) if is_cut else NOT_JSON
            collector.reject(window.line, written.partition("\n")[0], reason)
            window.at = _before(window, fault)
            window.find(_NEXT_VALUE if written.startswith("{") else _LINE_END)
            if window.at > LONGEST_LEAD:
                window.drop_used()
        else:
            written = window.text[window.at : end][:MAX_QUOTE]
            for line, url, name in _locate(window, end, _find_entries(value)):
                if url is None:
                    collector.reject(line, written, NOT_AN_ENTRY)
                else:
                    collector.add(line, url, name)
            window.at = end


def _decode_value(window: Piecewise) -> tuple[Any, int]:
    """The value at `at`, and its end."""
    while True:
        try:
            return _decode(window.text, window.at)
        except (ValueError, RecursionError):
            left = len(window.text) - window.at
            if window.is_whole or left > MAX_VALUE:
                raise
            window.read_on(min(left, MAX_VALUE))  # double the length, so that its start is not decoded again and again


def _before(window: Piecewise, fault: int) -> int:
    """Where to search for the next value: before the comma that precedes a fault, but not at the same value again."""
    gap = window.text[max(window.at, fault - LONGEST_MATCH) : fault]
    return max(window.at + 1, fault - len(gap) + len(gap.rstrip(", \t\r\n")))


def _locate(
    window: Piecewise, end: int, entries: Iterator[tuple[str | None, str]]
) -> Iterator[tuple[int, str | None, str]]:
    """The entries with their lines. After an entry with unusual escapes, the last line is repeated."""
    slash = "\\/" if window.text.find("\\/", window.at, end) >= 0 else "/"  # as PHP writes it
    is_plain = True
    for url, name in entries:
        if url is not None and is_plain:
            found = window.text.find(f'"{url.replace("/", slash)}"', window.at, end)
            is_plain = found >= 0
            window.at = max(window.at, found)
        yield window.line, url, name


def _find_entries(value: Any) -> Iterator[tuple[str | None, str]]:
    """Address and name of each entry in a value; None for a value that is not an entry."""
    values = [value]
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield value, ""
        elif isinstance(value, list) and value:
            values.extend(reversed(value))
        elif not isinstance(value, dict):
            yield None, ""
        elif entry := _read_object(value):
            yield entry
        elif lists := _find_lists(value):
            values.extend(reversed(lists))
        else:
            yield None, ""


def _read_object(value: dict[str, Any]) -> tuple[str, str] | None:
    """Its address and its name, or None without an address."""
    address_fields, name_fields = rank_fields(tuple(value))
    url = _first_text(value, address_fields)
    return None if url is None else (url, _first_text(value, name_fields) or "")


def _first_text(value: dict[str, Any], fields: Sequence[str]) -> str | None:
    for field in fields:
        if isinstance(value[field], str):
            return str(value[field])
    return None


def _find_lists(value: dict[str, Any]) -> list[list[Any]]:
    """The lists of objects, lists or addresses that an object contains, at any depth of objects."""
    found: list[list[Any]] = []
    values: list[Any] = [value]
    while values:
        inner = values.pop()
        if isinstance(inner, dict):
            values.extend(reversed(inner.values()))
        elif isinstance(inner, list) and any(
            isinstance(item, dict | list) or (isinstance(item, str) and "://" in item) for item in inner
        ):
            found.append(inner)
    return found
