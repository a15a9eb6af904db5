"""Politeness: limits the requests to a host at once, and honours the pauses that hosts ask for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

# Pauses are remembered for hosts not in use, too. At most this many, of about 200 bytes each.
MAX_PAUSED_HOSTS = 10_000


class HostPaused(Exception):
    """The host asked for a longer pause than we are willing to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked us to wait {seconds:.0f} s")


@dataclass(slots=True)
class HostInUse:
    free: asyncio.Semaphore
    users: int = 0


class HostSlots:
    """Slots per host name. Forgets hosts that are neither in use nor paused."""

    def __init__(self, per_host: int, longest_wait: float) -> None:
        self._per_host = per_host
        self._longest_wait = longest_wait
        self._in_use: dict[str, HostInUse] = {}
        self._paused_until: dict[str, float] = {}

    async def acquire(self, name: str) -> None:
        """Wait for a free slot and the end of the host's pause. Raises HostPaused if the pause is too long."""
        host = self._in_use.get(name)
        if host is None:
            host = self._in_use[name] = HostInUse(asyncio.Semaphore(self._per_host))
        host.users += 1
        try:
            await host.free.acquire()
            # Checked while holding the slot: its previous holder may have been told to wait.
            while name in self._paused_until:
                host.free.release()
                await self._wait_for_pause(name)
                await host.free.acquire()
        except BaseException:
            self._leave(name, host)
            raise

    async def _wait_for_pause(self, name: str) -> None:
        while until := self._paused_until.get(name):
            seconds = until - monotonic()
            if seconds > self._longest_wait:
                raise HostPaused(seconds)
            if seconds <= 0:
                self._paused_until.pop(name, None)
            else:
                await asyncio.sleep(seconds)

    def release(self, name: str) -> None:
        host = self._in_use[name]
        host.free.release()
        self._leave(name, host)

    def _leave(self, name: str, host: HostInUse) -> None:
        host.users -= 1
        if not host.users:
            del self._in_use[name]

    def pause(self, name: str, seconds: float) -> None:
        """Send this host nothing for `seconds`. A longer pause already set stays."""
        until = monotonic() + seconds
        self._paused_until[name] = max(until, self._paused_until.pop(name, 0.0))
        if len(self._paused_until) > MAX_PAUSED_HOSTS:
            self._forget_pauses()

    def _forget_pauses(self) -> None:
        now = monotonic()
        self._paused_until = {name: until for name, until in self._paused_until.items() if until > now}
        while len(self._paused_until) > MAX_PAUSED_HOSTS:
            del self._paused_until[next(iter(self._paused_until))]
