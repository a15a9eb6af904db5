"""What a checker is: it is given one profile, fetches it once, and says what it found. No database here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from batches.conf import Config


@dataclass(frozen=True, slots=True)
class ProfileToCheck:
    """One address, and what earlier checks remembered about it (empty where there was none)."""

    profile_id: int
    url: str
    feed_url: str = ""
    etag: str = ""
    last_modified: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Story:
    """One item that a profile shows. `id` stays the same from check to check; `published` is timezone-aware or None."""

    id: str
    title: str = ""
    url: str = ""
    published: datetime | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check.

    `error` is empty for an ok check, else one sentence a person understands. `duration` is in seconds.
    `feed_url`, `etag`, `last_modified` and `fingerprint` (of the document that the stories were read from) are what to
    remember for the next check; None keeps what is remembered.
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


class Checker(ABC):
    """Checks profiles, many at once, inside one event loop.

    Entered before the first check and left after the last, so that a checker can keep a connection pool open.
    An exception out of `check` is recorded as that profile's failure.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @abstractmethod
    async def check(self, profile: ProfileToCheck) -> CheckResult: ...
