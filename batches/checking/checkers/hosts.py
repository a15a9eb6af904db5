"""Politeness: limits the requests to a host at once, and honours the pauses that hosts ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from weakref import WeakValueDictionary

from .base import FetchError

# Pauses are remembered for hosts not in use, too. At most this many, of about 200 bytes each.
MAX_PAUSED_HOSTS = 10_000


class HostSlots:
    """Slots per host name. Forgets hosts that are neither in use nor paused."""

    def __init__(self, per_host: int, longest_wait: float) -> None:
        self._per_host = per_host
        self._longest_wait = longest_wait
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._paused_until: dict[str, float] = {}

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[None]:
        """Hold a slot of the host, after its pause. Raises FetchError if the pause is too long."""
        # As long as somebody waits for a slot or holds one, all get the same semaphore.
        slots = self._slots.setdefault(name, asyncio.Semaphore(self._per_host))
        async with slots:
            # Checked while holding the slot: its previous holder may have been told to wait.
            await self._wait_for_pause(name)
            yield

    async def _wait_for_pause(self, name: str) -> None:
        while until := self._paused_until.get(name):
            seconds = until - monotonic()
            if seconds > self._longest_wait:
                raise FetchError(describe_pause(seconds))
            if seconds <= 0:
                self._paused_until.pop(name, None)
            else:
                await asyncio.sleep(seconds)

    def pause(self, name: str, seconds: float) -> None:
        """Send this host nothing for `seconds`. A longer pause already set stays."""
        until = monotonic() + seconds
        self._paused_until[name] = max(until, self._paused_until.pop(name, 0.0))
        if len(self._paused_until) > MAX_PAUSED_HOSTS:
            now = monotonic()
            self._paused_until = {name: until for name, until in self._paused_until.items() if until > now}
        while len(self._paused_until) > MAX_PAUSED_HOSTS:
            del self._paused_until[next(iter(self._paused_until))]


def describe_pause(seconds: float) -> str:
    return f"asked us to wait {seconds:.0f} s"
