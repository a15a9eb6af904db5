"""The interface of checkers: a checker gets one profile, fetches it once and returns the result. No database."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import NoneType
from typing import Any, NamedTuple, Self, get_args, get_type_hints

from batches.conf import Config

from .politeness import HostPaused as HostPaused
from .politeness import HostSlots

# Named tuples, because each check creates many: they take half of the time of frozen dataclasses.


class ProfileToCheck(NamedTuple):
    """One address, and what earlier checks remembered about it (empty at first)."""

    profile_id: int
    url: str
    feed_url: str = ""
    etag: str = ""
    last_modified: str = ""
    fingerprint: str = ""


class Story(NamedTuple):
    """One item of a profile. `id` is the same in each check; `published` is timezone-aware or None."""

    id: str
    title: str = ""
    url: str = ""
    published: datetime | None = None


class CheckResult(NamedTuple):
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
    #: The permanent redirect target of the profile's address (301 or 308 on every hop), or empty. None if the address
    #: was not fetched, because a remembered feed was, or if nothing answered.
    moved_to: str | None = None
    #: False if it did not look for stories. The first check that does finds the profile's baseline.
    reads_stories: bool = True
    #: The host asked us to wait for too long. The profile itself has not failed.
    host_paused: bool = False
    #: No connection to the host: its name was not found, or nothing answers there. Our own network may be the cause.
    is_unreachable: bool = False


#: The types of fields. A duration can be a whole number, and stories are checked one by one.
TYPES: dict[type, dict[str, Any]] = {
    CheckResult: get_type_hints(CheckResult) | {"duration": int | float, "stories": Sequence},
    Story: get_type_hints(Story),
}


def require_result(result: object) -> CheckResult:
    """Raises TypeError for any other value, also in fields: recording it would end the batch, not only fail its
    profile.
    """
    if not isinstance(result, CheckResult):
        raise TypeError(f"it returned {type(result).__name__}, not a CheckResult")
    require_types(CheckResult, tuple(map(type, result)))
    for story in result.stories:
        if not isinstance(story, Story):
            raise TypeError(f"it returned a CheckResult with a {type(story).__name__} among its stories")
        require_types(Story, tuple(map(type, story)))
        if story.published is not None and story.published.tzinfo is not UTC:
            story.published.utcoffset()  # raises for a broken time zone
    return result


@lru_cache(maxsize=1000)  # nearly all results have one of a few combinations of types
def require_types(kind: type[CheckResult | Story], types: tuple[type, ...]) -> None:
    for (name, wanted), found in zip(TYPES[kind].items(), types, strict=True):
        if not issubclass(found, wanted):
            allowed = " or ".join("None" if one is NoneType else one.__name__ for one in get_args(wanted) or [wanted])
            raise TypeError(f"it returned a {kind.__name__} with {name} of type {found.__name__}, not {allowed}")


NO_SUCH_HOST = "no such host"
NO_ANSWER = "no such host, or its name servers do not answer"
REFUSED, OUT_OF_REACH, TOO_LATE = "refused the connection", "could not be reached", "did not answer within"
#: Reasons for a failed connection. Another reason begins with TOO_LATE.
NO_CONNECTION = (NO_SUCH_HOST, NO_ANSWER, REFUSED, OUT_OF_REACH)


class FetchError(Exception):
    """No usable response. `str(error)` is the reason for people; its subject, the address, is left out."""

    def __init__(self, sentence: str, http_status: int | None = None, *, transient: bool = False) -> None:
        super().__init__(sentence)
        self.http_status = http_status
        self.transient = transient


class NoAnswer(FetchError):
    """The site took too long. It may only be slow today."""


class Unreachable(FetchError):
    """No connection to the host."""


class NoConnection(NoAnswer, Unreachable):
    """No connection to the host in time."""


class Checker(ABC):
    """Checks profiles, many at once, inside one event loop.

    Entered before the first check and exited after the last, so that a checker can keep a connection pool open.
    HostPaused from `check` postpones the profile; any other exception is recorded as that profile's failure.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        #: Take a slot of the domain for each request: then no domain gets more than `BATCHES_PER_HOST` at once, from
        #: all workers together, and the pauses that it asks for are kept.
        self.hosts = HostSlots(config.per_host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def send_while(self, may_send: Callable[[], bool]) -> None:
        """Called before the first check.

        Send nothing while `may_send` returns False: other workers may have these hosts.
        """
        return

    @abstractmethod
    async def check(self, profile: ProfileToCheck) -> CheckResult: ...
