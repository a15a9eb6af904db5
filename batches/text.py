"""Text that both databases can store and that people can read."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache, lru_cache, reduce
from html import escape
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise as StrOrPromise
else:
    StrOrPromise = Any  # a text, which may be translated when it is shown

# PostgreSQL refuses NUL in text, and neither database can encode a lone surrogate.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Embeddings, overrides and isolates would reverse the text of the sentence around a name. Hebrew and Arabic do not need
# them, and keep the marks U+200E, U+200F and U+061C, which affect only their neighbours.
UNREADABLE = re.compile("[\x00\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
# XML cannot express these, not even escaped.
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

ALONE = "%(number)s"
NUMBER = re.compile(r"\d{1,3}(,\d{3})+")
#: The patterns of some values; others can be any text.
PATTERNS = {"day": r"\d+", "minute": r"\d+", "nth": r"\S+", "first": r"\S+", "last": r"\S+"}

# Control, format and whitespace characters, and marks, which need a letter. Some letters are blank, too.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Mn", "Me"})
BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"


def is_visible(text: str) -> bool:
    """Whether it has a visible character."""
    return any(unicodedata.category(letter) not in INVISIBLE and letter not in BLANK_LETTERS for letter in text)


def clean_text(value: object, limit: int) -> str:
    """`value` as text that can be stored and shown within a sentence, truncated to `limit` characters."""
    text = value if isinstance(value, str) else _as_text(value)
    if len(text) <= limit and text.isascii() and "\x00" not in text:  # the usual case; three times faster
        return text
    return UNREADABLE.sub("", text[: limit * 2])[:limit]


def stored_line(text: str) -> str:
    """A text on one line, as names are stored."""
    return " ".join(clean_text(text, len(text)).split())


def printable(text: str) -> str:
    """A foreign text, without control sequences of the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def one_line(text: str) -> str:
    """A text on one line for a message, without characters that control the display of the rest."""
    return " ".join(printable(text).split())


def is_web_address(address: str) -> bool:
    """Whether it can become a link: a `javascript:` address would run with the rights of the reader."""
    return address.lower().startswith(("http://", "https://"))


def pluralise(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 batch", "2,000 batches". The plural is the noun with an s by default."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


class Sentence(str):
    """A text in English for programs, the log and the database, and in the language of the page as HTML.

    `Sentence("%(name)s has %(count)s profiles", name=…, count=2_000)`: numbers get separators, and a value can be a
    sentence itself. `make messages` collects the texts from the calls of `Sentence` and `choose_plural`.
    """

    _forms: tuple[str, ...]
    _values: Mapping[str, Any]

    def __new__(cls, text: str, /, **values: object) -> Self:
        return cls._build((text,), text, values)

    @classmethod
    def _build(cls, forms: tuple[str, ...], text: str, values: Mapping[str, Any]) -> Self:
        values = {name: value if _is_number(value) else str(value) for name, value in values.items()}
        shown = {name: f"{value:,}" if _is_number(value) else value for name, value in values.items()}
        sentence = super().__new__(cls, text % shown if shown else text)
        sentence._forms, sentence._values = forms, values
        return sentence

    def __str__(self) -> Self:
        """Return itself, so that it survives in an exception."""
        return self

    def __html__(self) -> str:
        """For templates and `format_html`."""
        return escape(self.translated())

    def translated(self) -> str:
        from django.utils import formats, translation  # the code that reads lists and documents works without Django

        one, *many = self._forms
        text = translation.ngettext(one, many[0], self._values["count"]) if many else translation.gettext(one)
        shown = {
            name: formats.number_format(value, force_grouping=True) if _is_number(value) else translate(value)
            for name, value in self._values.items()
        }
        return text % shown if shown else text


class Clause(Sentence):
    """A sentence without its full stop, as a value of another sentence."""

    def __new__(cls, sentence: str) -> Self:
        clause = str.__new__(cls, sentence.rstrip("."))
        parts = sentence if isinstance(sentence, Sentence) else Sentence(sentence)
        clause._forms, clause._values = parts._forms, parts._values
        return clause

    def translated(self) -> str:
        return super().translated().rstrip(".")


def choose_plural(one: str, many: str, /, *, count: int, **values: object) -> Sentence:
    """A sentence with the first text if `count` is 1, otherwise with the second one."""
    return Sentence._build((one, many), one if count == 1 else many, {"count": count, **values})


def join(texts: Iterable[str], separator: str) -> str:
    """Joins sentences into one that can be translated."""
    first, *others = [*texts] or [""]
    both = f"%(left)s{separator}%(right)s"
    return reduce(lambda left, right: Sentence(both, left=left, right=right), others, first)


def translate(value: object) -> str:
    """A sentence in the language of the page as plain text; any other text unchanged."""
    return value.translated() if isinstance(value, Sentence) else str(value)


@lru_cache(10_000)
def recognise(text: str, templates: tuple[str, ...]) -> str:
    """The sentence from which a text was made, if it matches one of the templates."""
    if isinstance(text, Sentence):
        return text
    if NUMBER.fullmatch(text):
        return Sentence(ALONE, number=int(text.replace(",", "")))
    for template, pattern in compile_all(templates):
        if found := pattern.fullmatch(text):
            values = {name: recognise(value, templates) for name, value in found.groupdict().items()}
            return Sentence(template, **values)
    return text


def is_whole(text: object) -> bool:
    """Whether no words of a recognised text would stay in English, where they can be in the wrong place."""
    if isinstance(text, Sentence):
        return all(map(is_whole, text._values.values()))
    return not any(map(str.isalpha, str(text)))


@cache
def compile_all(templates: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    def as_group(found: re.Match[str]) -> str:
        return f"(?P<{found[1]}>{PATTERNS.get(found[1], '.+')})"

    patterns = (re.sub(r"%\\\((\w+)\\\)s", as_group, re.escape(template)) for template in templates)
    return [(template, re.compile(pattern, re.DOTALL)) for template, pattern in zip(templates, patterns, strict=True)]


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def format_duration(seconds: float) -> str:
    """A duration such as 2 h 05 min, 3 min 20 s or 17 s, with the precision of an estimate."""
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
    except Exception:  # the text of an exception may raise, and we always need a text
        return f"<{type(value).__name__} without a text>"
