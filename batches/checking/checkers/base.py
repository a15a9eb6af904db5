"""The interface of checkers: given one profile, a checker fetches it once and returns what it found. No database."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from batches.conf import Config


@dataclass(frozen=True, slots=True)
class ProfileToCheck:
    """One address, and what earlier checks remembered about it (empty if nothing)."""

    profile_id: int
    url: str
    feed_url: str = ""
    etag: str = ""
    last_modified: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """One item of a profile. `id` is the same in each check; `published` is timezone-aware or None."""

    id: str
    title: str = ""
    url: str = ""
    published: datetime | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check.

    `error` is the reason for people, empty for an ok check. `duration` is in seconds. `feed_url`, `etag`,
    `last_modified` and `fingerprint` (of the document with the stories) are for the next check to remember; None keeps
    the remembered value.
    """

    ok: bool
    error: str = ""
    http_status: int | None = None
    duration: float = 0.0
    stories: Sequence[Story] = ()
    feed_url: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    fingerprint: str | None = None


class FetchError(Exception):
    """No usable response. `str(error)` is the reason for people; its subject, the address, is left out."""

    def __init__(self, sentence: str, http_status: int | None = None, *, transient: bool = False) -> None:
        super().__init__(sentence)
        self.http_status = http_status
        self.transient = transient


class Checker(ABC):
    """Checks profiles, many at once, inside one event loop.

    Entered before the first check and exited after the last, so that a checker can keep a connection pool open.
    An exception from `check` is recorded as that profile's failure.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @abstractmethod
    async def check(self, profile: ProfileToCheck) -> CheckResult: ...
