"""What a run shares with other workers through the database: the partitions of the batch, and slots of domains."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from batches.checking.checkers.slots import Slots
from batches.queue.leases import ClaimedRun
from batches.queue.loans import Exchange
from batches.queue.partitions import partition_of_domain

from .partitions import Partitions

#: Seconds between two exchanges while slots are borrowed, lent or wanted, and before one that lends a free slot.
EXCHANGE_SECONDS, LEND_SECONDS = 0.5, 0.02


@dataclass(eq=False)
class Sharing:
    """Leases and returns partitions, and exchanges slots of the domains that redirects lead to.

    `share` is the call `share_run` of the manager for this run. `on_stuck` is called while a check waits for a worker
    that no longer sends heartbeats: claiming again takes over its partitions.
    """

    claimed: ClaimedRun
    slots: Slots
    share: Callable[..., Awaitable[Exchange]]
    processes: int
    on_stuck: Callable[[], None]

    def __post_init__(self) -> None:
        # A partition is not ours before we know what is lent of it. The first worker of a run has not lent anything.
        self.partitions = Partitions(self.claimed.partitions if self.claimed.is_first else (), self._find_used)
        #: One call at a time, so that each knows what the previous one has changed.
        self._turn = asyncio.Lock()
        self._wish = asyncio.Event()
        self._has_ended = False
        self.slots.share(self._is_own, self.exchange_soon)

    def _is_own(self, domain: str) -> bool:
        return self.partitions.has(partition_of_domain(domain))

    def _find_used(self) -> set[int]:
        return {partition_of_domain(domain) for domain in self.slots.in_use}

    async def begin(self) -> None:
        """Call it before the first check."""
        if not self.claimed.is_first:
            await self.exchange()

    async def lease_more(self) -> None:
        """Return the checked partitions, and lease free ones."""
        async with self._turn:
            await self._exchange(self.partitions.checked, [], self.processes)

    async def release(self) -> None:
        """Return the checked partitions, and those that others need."""
        async with self._turn:
            await self._exchange(self.partitions.checked, self.partitions.released)

    def exchange_soon(self) -> None:
        """We want a slot of others, or others want one of ours."""
        self._wish.set()

    def end(self) -> None:
        self._has_ended = True
        self._wish.set()

    async def keep_exchanging(self) -> None:
        """Until `end`."""
        while await self._has_wish():
            await self.exchange()

    async def _has_wish(self) -> bool:
        seconds = LEND_SECONDS if self.slots.spare else EXCHANGE_SECONDS if self.slots.is_exchanging else None
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wish.wait()
        self._wish.clear()
        return not self._has_ended

    async def exchange(self) -> None:
        async with self._turn:
            await self._exchange([], [])

    async def _exchange(self, checked: list[int], released: list[int], processes: int = 0) -> None:
        self.partitions.disown([*checked, *released])
        wishes = self.slots.take_wishes()
        exchange = await self.share(*wishes, checked, released, processes)
        self.partitions.lease(exchange.partitions, exchange.empty)
        self.slots.set_loans(exchange.borrowed, exchange.lent)
        if exchange.is_stuck:
            self.on_stuck()
