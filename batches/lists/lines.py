"""The formats with one profile a line: plain text and JSON Lines."""

from __future__ import annotations

import io
import json

from .imports import Collector, InvalidList
from .source import MAX_LINE, read_lines


def read_text(stream: io.BufferedReader, collector: Collector) -> None:
    """One address a line. Blank lines and lines that start with "#" are ignored."""
    for number, line in read_lines(stream):
        address = line.strip()
        if address and not address.startswith("#"):
            collector.add(number, address)


def read_jsonl(stream: io.BufferedReader, collector: Collector) -> None:
    """Each line is a string, or an object with `url` and perhaps `name`. The first must be valid JSON."""
    is_first = True
    for number, line in read_lines(stream):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            if is_first:
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
        is_first = False
