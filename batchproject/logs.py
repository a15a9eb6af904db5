"""How log lines are written."""

import logging
from typing import Any


class LineFormatter(logging.Formatter):
    """Starts one line per message: what a stranger sent is escaped, and the lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escape(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {escape(line)}" for line in super().formatException(ei).split("\n"))


def escape(text: str) -> str:
    """Escape control and format characters: they could move the cursor, forge a line or hide text."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
