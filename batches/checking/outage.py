"""Distinguishes our own outage from failures of sites, and notices its end.

The latest checks of a run raise the suspicion. Hosts that answered last time decide: this machine is offline if none of
them answers, even while no check is running. The same probe ends the outage. So dead sites never hold the queue: while
others answer, their failures are recorded. And the queue is never held again unless the network changes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, NamedTuple, TypeVar

from batches.checking.checkers.base import CheckResult, HostPaused, ProfileToCheck
from batches.checking.checkers.http import HttpChecker
from batches.conf import Config
from batches.models import Database
from batches.text import pluralise

from . import queries

T = TypeVar("T")

#: Seconds that a host has to answer. Usually one answers at once.
PATIENCE = 10.0


class Offline(Exception):
    """This machine is offline. Failures without an answer `since` this time do not count."""

    def __init__(self, reason: str, since: datetime) -> None:
        super().__init__(reason)
        self.since = since


class Seen(NamedTuple):
    host: str
    is_unreachable: bool
    moment: float  # of `time.time`, which takes a tenth of the time of a `datetime`


class Watch:
    """The latest checks of a run, and how many of them could not connect."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._latest: deque[Seen] = deque(maxlen=config.outage_window)

    def note(self, host: str, result: CheckResult) -> None:
        self._latest.append(Seen(host, result.is_unreachable, time()))

    def forget(self) -> None:
        self._latest.clear()

    @property
    def has_failures(self) -> bool:
        return self._unreachable > 0 and self._is_on

    @property
    def _unreachable(self) -> int:
        return sum(seen.is_unreachable for seen in self._latest)

    def suspects_outage(self, *, has_ended: bool) -> bool:
        """Whether too many could not connect. At the end of the run, fewer checks than usual are enough."""
        total, share = len(self._latest), self._config.outage_share
        is_enough = total >= self._config.outage_window or has_ended
        return (
            self._is_on
            and is_enough
            and self._unreachable > share * total
            and self._count_hosts() >= self._config.outage_hosts
        )

    def _count_hosts(self) -> int:
        return len({seen.host for seen in self._latest})

    @property
    def _is_on(self) -> bool:
        return 0 < self._config.outage_share <= 1

    def describe(self) -> Offline:
        checks, hosts = pluralise(len(self._latest), "check"), pluralise(self._count_hosts(), "host")
        latest = f"{self._unreachable:,} of the last {checks} on {hosts} could not connect"
        return Offline(
            f"This machine seems to be offline: {latest}.", datetime.fromtimestamp(self._latest[0].moment, UTC)
        )


class Prober:
    """Probes a few hosts that answered last time, each time different ones."""

    def __init__(self, config: Config, database: Database) -> None:
        self._config = config
        self._database = database
        self._known: Sequence[str] | None = None
        self._online_until = 0.0

    async def remember(self) -> None:
        """Call it before failures are recorded: later, a short list may have no host left that answered last time."""
        if self._known is None:
            self._known = await self._find()

    async def is_online(self) -> bool:
        """Whether any host answers. True without a known host, as in the first run: then nothing distinguishes the two.

        An answer counts for a while: in a long list of dead sites, the few others would be probed every few seconds.
        """
        if monotonic() < self._online_until:
            return True
        addresses = await self._find() or self._known
        is_online = not addresses or await does_any_answer(addresses, self._config)
        self._online_until = monotonic() + self._config.outage_seconds if is_online else 0.0
        return is_online

    async def _find(self) -> Sequence[str]:
        found: Sequence[str] = await self._database(queries.sample_answering, self._config.outage_probes)
        return found


async def does_any_answer(addresses: Sequence[str], config: Config) -> bool:
    """Probe each of them once, concurrently. Any answer counts, whatever its status."""
    hasty = replace(config, retries=0, timeout=min(config.timeout, PATIENCE))
    async with HttpChecker(hasty) as checker:
        questions = [asyncio.create_task(does_answer(checker, address)) for address in addresses]
        try:
            for answer in asyncio.as_completed(questions):
                if await answer:
                    return True
            return False
        finally:
            await end(*questions)


async def does_answer(checker: HttpChecker, address: str) -> bool:
    try:
        result = await checker.check(ProfileToCheck(0, address))
    except HostPaused:  # it has just answered
        return True
    return result.http_status is not None


async def unless(stopped: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of the work; None if the event happens first, which cancels the work."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        await end(*tasks)


async def end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
