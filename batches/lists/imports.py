"""The result of an import: profiles, rejected entries, or the reason why the list is not valid."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from batches.limits import MAX_NAME, MAX_QUOTE
from batches.text import Clause, Sentence, choose_plural, clean_text, join

from .addresses import InvalidAddress, normalise_address

#: A list with more rejects than this is the wrong file, and the rejects would fill the memory.
MAX_REJECTS = 100_000
QUOTED_REJECTS = 3

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ProfileAddress:
    """A profile to create. `url` is normalised, `name` is one line of at most MAX_NAME characters."""

    url: str
    name: str = ""


class Names(dict[str, str]):
    """Profiles to create: their names by normalised address. An object for each of a million would take 70 MB."""


def collect_names(profiles: Iterable[Any]) -> Mapping[str, str]:
    """Names by normalised address, in the order of first appearance. Takes addresses, or objects with `url` and `name`.

    Raises InvalidAddress for a text that is not an address.
    """
    if isinstance(profiles, Names):
        return profiles
    names: dict[str, str] = {}
    for profile in profiles:
        url, name = (_normalise(profile), "") if isinstance(profile, str) else (profile.url, profile.name)
        names[url] = names.get(url) or clean_text(name, MAX_NAME)
    return names


def _normalise(text: str) -> str:
    try:
        return normalise_address(text)
    except InvalidAddress as error:
        message = Sentence(
            "%(text)s is not a valid profile address: %(why)s", text=repr(clean_text(text, MAX_QUOTE)), why=str(error)
        )
        raise InvalidAddress(message) from error


@dataclass(frozen=True, slots=True)
class Reject:
    """An invalid entry: its line (from 1), its text (at most MAX_QUOTE characters) and the reason in one sentence."""

    line: int
    text: str
    reason: str


@dataclass
class ImportResult:
    """At least one profile, each address once; `duplicates` counts the repetitions."""

    profiles: Names
    rejects: list[Reject]
    duplicates: int

    @cached_property
    def digest(self) -> str:
        """A hash of the profiles and their order, to recognise a list that was previewed."""
        digest = sha256()
        for url, name in self.profiles.items():
            digest.update(f"{url}\t{name}\n".encode())
        return digest.hexdigest()


class InvalidList(ValueError):
    """The list cannot be imported; `str(error)` is one sentence that says why. `rejects` are its invalid entries."""

    def __init__(self, message: str, rejects: Sequence[Reject] = ()) -> None:
        super().__init__(message)
        self.rejects = rejects


class Collector:
    """Collects the entries of a list, each address once."""

    def __init__(self) -> None:
        self.names = Names()
        self.rejects: list[Reject] = []
        self.duplicates = 0

    def add(self, line: int, text: str, name: str = "") -> None:
        try:
            url = normalise_address(text)
        except InvalidAddress as error:
            self.reject(line, text, str(error))
            return
        known = self.names.get(url)
        if known is not None:
            self.duplicates += 1
        if not known:
            self.names[url] = clean_line(name, MAX_NAME) if name != text else ""  # OPML requires a text

    def reject(self, line: int, text: str, reason: str) -> None:
        self.rejects.append(Reject(line, clean_line(text, MAX_QUOTE), reason))
        if len(self.rejects) > MAX_REJECTS:
            raise self._invalid(Sentence("More than %(most)s entries are not valid", most=MAX_REJECTS))

    def result(self, strict: bool) -> ImportResult:
        if not self.names and not self.rejects:
            raise InvalidList(Sentence("The list is empty. Add at least one URL."))
        if not self.names:
            raise self._invalid(Sentence("The list has no valid address"))
        if strict and self.rejects:
            summary = choose_plural(
                "%(count)s entry is not valid", "%(count)s entries are not valid", count=len(self.rejects)
            )
            raise self._invalid(summary)
        return ImportResult(self.names, self.rejects, self.duplicates)

    def _invalid(self, summary: Sentence) -> InvalidList:
        reasons: list[str] = [
            Sentence("line %(line)s: %(why)s", line=str(reject.line), why=Clause(reject.reason))
            for reject in self.rejects[:QUOTED_REJECTS]
        ]
        if len(self.rejects) > QUOTED_REJECTS:
            reasons.append("…")
        message = Sentence("%(summary)s (%(reasons)s).", summary=summary, reasons=join(reasons, "; "))
        return InvalidList(message, self.rejects)


def clean_line(text: str, limit: int) -> str:
    """`text` as one line, without control characters, which terminals obey; undecodable bytes become U+FFFD."""
    if len(text) <= limit and text.isprintable() and "  " not in text:  # the usual case; four times faster
        return text.strip()
    readable = _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text[: limit * 10]))
    return clean_text(" ".join(readable.split()), limit).rstrip()
