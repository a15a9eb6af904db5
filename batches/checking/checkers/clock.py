"""The clock of a check. It stops while the check waits for our own resources, which is not the site's fault.

    with Clock(20.0) as clock:             # at most 20 s, not counting the next wait
        with not_charged():
            await our_slots.acquire()

`not_charged` stops every clock around it, even one that a caller has started. Use it only for waiting: for slots, for a
parser, for memory. All time that the site takes is charged.

The run then starts another check in its place. Use `not_charged(keeps_place=True)` for a check that waits with an
open connection.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import Self

#: Seconds between two checks of the clocks with a limit. A timer for each would cost more than the clock.
WATCH_SECONDS = 0.1


class Clock:
    """Raises TimeoutError when its block has taken more than `limit` charged seconds (None: no limit).

    `on_wait(True)` is called when a wait begins that releases the place of the check, `on_wait(False)` when it ends.
    """

    __slots__ = (
        *("_around", "_cancelling", "_charged", "_is_entered", "_limit", "_loop", "_on_wait", "_running_since"),
        *("_task", "_token", "_waits", "_watch", "is_over"),
    )

    def __init__(self, limit: float | None = None, on_wait: Callable[[bool], None] | None = None) -> None:
        self._limit = limit
        self._on_wait = on_wait
        self._charged = 0.0
        self._waits = 0
        self._is_entered = False
        #: Whether the limit was reached.
        self.is_over = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._around = _innermost.get()
        self._token = _innermost.set(self)
        self._is_entered = True
        self._running_since = self._loop.time()
        if self._limit is not None:
            self._task = asyncio.current_task(self._loop)
            self._cancelling = self._task.cancelling() if self._task else 0
            self._watch = watch_of(self._loop)
            self._watch.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._stop()
        self._is_entered = False
        _innermost.reset(self._token)
        if self._limit is not None:
            self._watch.remove(self)
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

    def _go_on(self) -> None:
        self._waits -= 1
        if not self._waits:
            self._running_since = self._loop.time()

    def cancel_if_over(self) -> None:
        """Cancel the block if its time is used up."""
        if not self.is_over and self._limit is not None and self.charged >= self._limit:
            self.is_over = True
            if self._task:
                self._task.cancel()


class Watch:
    """Checks the clocks of an event loop that have a limit."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._clocks: dict[Clock, None] = {}
        self._is_watching = False

    def add(self, clock: Clock) -> None:
        self._clocks[clock] = None
        if not self._is_watching:
            self._is_watching = True
            self._loop.call_later(WATCH_SECONDS, self._watch_clocks)

    def remove(self, clock: Clock) -> None:
        self._clocks.pop(clock, None)

    def _watch_clocks(self) -> None:
        for clock in list(self._clocks):
            clock.cancel_if_over()
        self._is_watching = bool(self._clocks)
        if self._is_watching:
            self._loop.call_later(WATCH_SECONDS, self._watch_clocks)


#: The watch of a loop. If threads with their own loops alternate, a loop has several, which does no harm.
watch_of = lru_cache(maxsize=1)(Watch)

_innermost: ContextVar[Clock | None] = ContextVar("innermost", default=None)


def charged_seconds() -> float:
    """The seconds that the innermost clock has charged; without a clock, a time to compare with."""
    clock = _innermost.get()
    return clock.charged if clock else monotonic()


@contextmanager
def not_charged(*, keeps_place: bool = False) -> Iterator[None]:
    """Stop the clocks of this check while the block waits for our own resources."""
    clock = _innermost.get()
    stopped: list[Clock] = []
    while clock:
        stopped.append(clock)
        clock = clock._around
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
