"""How log lines are written."""

import logging
import re
from typing import Any

#: Control and format characters: they could move the cursor, forge a line or hide text.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


class LineFormatter(logging.Formatter):
    """Starts one line per message: what a stranger sent is escaped, and the lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return UNPRINTABLE.sub(_escape, super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {UNPRINTABLE.sub(_escape, line)}" for line in super().formatException(ei).split("\n"))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
