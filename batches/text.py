"""Text that both databases can store and that people can read."""

import re
import unicodedata
from datetime import datetime

# PostgreSQL refuses NUL in text, and neither database can encode a lone surrogate.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# XML cannot express these, not even escaped.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

# Control, format and white space characters, and marks, which need a letter to stand on. Some letters are blank, too.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Me"})
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"


def is_visible(text: str) -> bool:
    """Whether it has a character that people can see."""
    return any(unicodedata.category(letter) not in INVISIBLE and letter not in BLANK_LETTERS for letter in text)


def clean_text(value: object, limit: int) -> str:
    """`value` as text without NUL and lone surrogates, truncated to `limit` characters."""
    text = value if isinstance(value, str) else _as_text(value)
    if len(text) <= limit and text.isascii() and "\x00" not in text:  # the usual case; three times faster
        return text
    return UNSTORABLE.sub("", text[: limit * 2])[:limit]


def one_line(text: str) -> str:
    """For a message: on one line, and without characters that control how the rest of it is shown."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def pluralise(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 batch", "2,000 batches". The plural is the noun with an s by default."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def format_duration(seconds: float) -> str:
    """2 h 05 min, 3 min 20 s, 17 s: with the precision that an estimate has."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def describe_zone(local: datetime) -> str:
    """The time zone of a local time: "UTC", "Europe/Berlin (UTC+01:00)"."""
    name, offset = str(local.tzinfo), f"{local:%z}"
    return name if name == "UTC" else f"{name} (UTC{offset[:3]}:{offset[3:5]})"


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # an exception's own text may raise, and we need a text anyway
        return f"<{type(value).__name__} without a text>"
