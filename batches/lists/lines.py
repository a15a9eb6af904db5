"""The formats with one profile a line: plain text and JSON Lines."""

from __future__ import annotations

import io
import json
from typing import Any

from .imports import Collector, InvalidList
from .source import MAX_LINE, lines


def read_text(stream: io.BufferedReader, collector: Collector) -> None:
    """One address a line; blank lines and lines that begin with "#" do not count."""
    for number, line in lines(stream):
        address = line.strip()
        if address and not address.startswith("#"):
            collector.add(number, address)


def read_jsonl(stream: io.BufferedReader, collector: Collector) -> None:
    """A string or an object with `url` and perhaps `name` a line. A first line that is not JSON fails the list."""
    is_first = True
    for number, line in lines(stream):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if is_first:
                raise InvalidList(f"Line {number} is not JSON; JSON Lines has one object or string a line.") from error
            collector.reject(number, line, _why_not_json(line))
        else:
            _add(number, line, value, collector)
        is_first = False


def _why_not_json(line: str) -> str:
    return (
        f"It is longer than {MAX_LINE:,} characters." if len(line) == MAX_LINE else "It is not JSON that can be read."
    )


def _add(number: int, line: str, value: Any, collector: Collector) -> None:
    url, name = (value.get("url"), value.get("name")) if isinstance(value, dict) else (value, "")
    if isinstance(url, str):
        collector.add(number, url, name if isinstance(name, str) else "")
    else:
        collector.reject(number, line, 'It has no "url": a line is a string, or an object with a string "url".')
