"""Formats log lines."""

import logging
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter


class LineFormatter(logging.Formatter):
    """Writes one line per message: texts of strangers are escaped, and the lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escape(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {escape(line)}" for line in super().formatException(ei).split("\n"))


class JsonLineFormatter(JsonFormatter):
    """Writes a JSON object per line, with the fields of `batches.log_context`, without the request that Django adds to
    some.
    """

    def __init__(self) -> None:
        super().__init__(
            "{asctime}{levelname}{name}{process}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            reserved_attrs=[*RESERVED_ATTRS, "request"],
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def escape(text: str) -> str:
    """Escape control and format characters: they could move the cursor, forge a line or hide text."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
