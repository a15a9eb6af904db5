"""The clock of a check: it stops while the check waits for something of ours, which is not the site's fault.

    async with Clock(20.0) as clock:       # at most 20 s, not counting the next wait
        with not_charged():
            await our_slots.acquire()

`not_charged` stops every clock around it, also one that a caller has started. It is for waiting only: for slots, for a
parser, for room in memory. What the site does, or fails to do, is charged.

The run then starts another check in the place of one that waits. `not_charged(keeps_place=True)` is for one that
waits with an open connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self


class Clock:
    """Raises TimeoutError when what runs within it has taken more than `limit` charged seconds (None: no limit).

    `on_wait(True)` is called when a wait begins that leaves the place to others, `on_wait(False)` when it ends.
    """

    def __init__(self, limit: float | None = None, on_wait: Callable[[bool], None] | None = None) -> None:
        self._limit = limit
        self._on_wait = on_wait
        self._charged = 0.0
        self._running_since = 0.0
        self._waits = 0
        self._is_entered = False
        self._timeout: asyncio.Timeout | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._around = _innermost.get()
        self._token = _innermost.set(self)
        self._running_since = self._loop.time()
        if self._limit is not None:
            self._timeout = asyncio.timeout(self._limit)
            await self._timeout.__aenter__()
        self._is_entered = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._stop()
        self._is_entered = False
        _innermost.reset(self._token)
        if self._timeout:
            await self._timeout.__aexit__(*exc_info)  # type: ignore[arg-type]

    @property
    def is_running(self) -> bool:
        return self._is_entered and not self._waits

    @property
    def charged(self) -> float:
        """Seconds."""
        return self._charged + (0.0 if self._waits else self._loop.time() - self._running_since)

    @property
    def is_over(self) -> bool:
        """Whether the limit was reached."""
        return self._timeout is not None and self._timeout.expired()

    def _stop(self) -> None:
        self._charged = self.charged
        self._waits += 1
        self._set_deadline(None)

    def _go_on(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._running_since = self._loop.time()
            self._set_deadline(None if self._limit is None else self._running_since + self._limit - self._charged)

    def _set_deadline(self, deadline: float | None) -> None:
        # A task that the check has left behind may still wait after the clock has ended.
        if self._timeout and self._is_entered and not self.is_over:
            self._timeout.reschedule(deadline)


_innermost: ContextVar[Clock | None] = ContextVar("innermost", default=None)


@contextmanager
def not_charged(*, keeps_place: bool = False) -> Iterator[None]:
    """What is awaited in here is our fault: the clocks of this check stand still."""
    stopped = list(_clocks_around())
    leaving = [clock._on_wait for clock in stopped if clock._on_wait and not keeps_place]
    for clock in stopped:
        clock._stop()
    for on_wait in leaving:
        on_wait(True)
    try:
        yield
    finally:
        for clock in stopped:
            clock._go_on()
        for on_wait in leaving:
            on_wait(False)


def _clocks_around() -> Iterator[Clock]:
    clock = _innermost.get()
    while clock is not None:
        yield clock
        clock = clock._around
