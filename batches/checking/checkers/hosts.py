"""Politeness: how many requests one host gets at once, and how long it asked to be left alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic

# Hosts that asked for a wait are remembered without being in use. This many, at about 200 bytes each.
MAX_PAUSED_HOSTS = 10_000


class HostPaused(Exception):
    """The host asked to be left alone for longer than we are willing to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"asked us to wait {seconds:.0f} s")


@dataclass(slots=True)
class HostInUse:
    free: asyncio.Semaphore
    users: int = 0


class HostSlots:
    """Slots per host name. Keeps nothing about a host that is neither in use nor paused."""

    def __init__(self, per_host: int, longest_wait: float) -> None:
        self._per_host = per_host
        self._longest_wait = longest_wait
        self._in_use: dict[str, HostInUse] = {}
        self._paused_until: dict[str, float] = {}

    async def acquire(self, name: str) -> None:
        """Waits for the host's pause to end and for a free slot. Raises HostPaused for a pause that is too long."""
        host = self._in_use.get(name)
        if host is None:
            host = self._in_use[name] = HostInUse(asyncio.Semaphore(self._per_host))
        host.users += 1
        try:
            await host.free.acquire()
            # Looked at with the slot in hand: whoever had it before may have been told to wait.
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
        """Nobody asks this host for `seconds`; a longer pause that it asked for before stays."""
        until = monotonic() + seconds
        self._paused_until[name] = max(until, self._paused_until.pop(name, 0.0))
        if len(self._paused_until) > MAX_PAUSED_HOSTS:
            self._forget_pauses()

    def _forget_pauses(self) -> None:
        now = monotonic()
        self._paused_until = {name: until for name, until in self._paused_until.items() if until > now}
        while len(self._paused_until) > MAX_PAUSED_HOSTS:
            del self._paused_until[next(iter(self._paused_until))]
