"""What an import finds: profiles, rejects, or that nothing can be imported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from batches.limits import MAX_NAME, MAX_QUOTE
from batches.text import clean_text

from .addresses import InvalidAddress, normalise_address

#: With more rejects than this it is the wrong file, and keeping them all would fill the memory.
MAX_REJECTS = 100_000
SHOWN_REJECTS = 3

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ProfileAddress:
    """A profile to create. `url` is normalised, `name` is one line of at most 200 characters."""

    url: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """What cannot be a profile: the line it is in (from 1), its text (at most 200 characters), one sentence why."""

    line: int
    text: str
    reason: str


@dataclass
class ImportResult:
    """At least one profile, each address once; `duplicates` counts the further mentions."""

    profiles: list[ProfileAddress]
    rejects: list[Reject]
    duplicates: int

    @cached_property
    def digest(self) -> str:
        """Equal for the same profiles in the same order: tells whether this is the list that was previewed."""
        lines = (f"{profile.url}\t{profile.name}\n" for profile in self.profiles)
        return sha256("".join(lines).encode()).hexdigest()


class InvalidList(ValueError):
    """Nothing is imported; `str(error)` is one sentence. `rejects` are the entries behind it, where there are some."""

    def __init__(self, message: str, rejects: Sequence[Reject] = ()) -> None:
        super().__init__(message)
        self.rejects = rejects


class Collector:
    """Collects what a reader finds, each address once."""

    def __init__(self) -> None:
        self.profiles: dict[str, ProfileAddress] = {}
        self.rejects: list[Reject] = []
        self.duplicates = 0

    def add(self, line: int, text: str, name: str = "") -> None:
        try:
            url = normalise_address(text)
        except InvalidAddress as error:
            self.reject(line, text, str(error))
            return
        known = self.profiles.get(url)
        if known:
            self.duplicates += 1
        if not known or (name and not known.name):
            self.profiles[url] = ProfileAddress(url, clean_line(name, MAX_NAME))

    def reject(self, line: int, text: str, reason: str) -> None:
        self.rejects.append(Reject(line, clean_line(text, MAX_QUOTE), reason))
        if len(self.rejects) > MAX_REJECTS:
            raise self._failure(f"More than {MAX_REJECTS:,} entries cannot be profiles")

    def result(self, strict: bool) -> ImportResult:
        if not self.profiles and not self.rejects:
            raise InvalidList("The list is empty: there is no address in it.")
        if not self.profiles:
            raise self._failure("There is no address in the list that can be checked")
        if strict and self.rejects:
            count = len(self.rejects)
            raise self._failure(
                "1 entry cannot be a profile" if count == 1 else f"{count:,} entries cannot be profiles"
            )
        return ImportResult(list(self.profiles.values()), self.rejects, self.duplicates)

    def _failure(self, summary: str) -> InvalidList:
        shown = [f"line {reject.line}: {reject.reason.rstrip('.')}" for reject in self.rejects[:SHOWN_REJECTS]]
        if len(self.rejects) > SHOWN_REJECTS:
            shown.append("…")
        return InvalidList(f"{summary} ({'; '.join(shown)}).", self.rejects)


def clean_line(text: str, limit: int) -> str:
    """`text` in one line without control characters, which a terminal would obey; undecodable bytes become U+FFFD."""
    if not text:
        return ""
    readable = _SURROGATE.sub("\ufffd", _CONTROL.sub(" ", text[: limit * 10]))
    return clean_text(" ".join(readable.split()), limit).rstrip()
