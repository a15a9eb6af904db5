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
        self._timer: asyncio.TimerHandle | None = None
        #: Whether the limit was reached.
        self.is_over = False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._around = _innermost.get()
        self._token = _innermost.set(self)
        self._is_entered = True
        if self._limit is not None:  # as `asyncio.timeout` does, which takes three times as long
            self._task = asyncio.current_task()
            self._cancelling = self._task.cancelling() if self._task else 0
        self._run()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._stop()
        self._is_entered = False
        _innermost.reset(self._token)
        is_ours = self.is_over and self._task is not None and self._task.uncancel() <= self._cancelling
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

    @property
    def is_running(self) -> bool:
        return self._is_entered and not self._waits

    @property
    def charged(self) -> float:
        """Seconds."""
        return self._charged + (0.0 if self._waits else self._loop.time() - self._running_since)

    def _stop(self) -> None:
        self._charged = self.charged
        self._waits += 1
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._run()

    def _run(self) -> None:
        self._running_since = self._loop.time()
        # A task that the check has left behind may still wait after the clock has ended.
        if self._limit is not None and self._is_entered and not self.is_over:
            self._timer = self._loop.call_at(self._running_since + self._limit - self._charged, self._end)

    def _end(self) -> None:
        self.is_over = True
        if self._task:
            self._task.cancel()


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
