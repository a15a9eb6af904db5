"""Measures how long the event loop is blocked, so that the log shows documents or chunks that are too large."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from batches.metrics import LOOP_LAG

logger = logging.getLogger(__name__)

#: Seconds. A loop that is later than this makes hosts wait, and soon its lease.
MAX_LAG = 0.1
INTERVAL = 0.02
SECONDS_BETWEEN_WARNINGS = 60.0


class LoopLag:
    """The longest delay of the loop, and the longest computing time of one step, in seconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.longest = self.longest_step = 0.0
        self._worst = 0.0
        self._next_warning = 0.0
        self._schedule()

    def stop(self) -> None:
        self._timer.cancel()

    def _schedule(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._computed = time.thread_time()
        self._timer = self._loop.call_at(self._due, self._measure)

    def _measure(self) -> None:
        late, computed = self._loop.time() - self._due, time.thread_time() - self._computed
        self.longest = max(self.longest, late)
        LOOP_LAG.observe(max(0.0, late))
        if late > MAX_LAG:
            # On a busy machine it is late without having computed anything.
            self.longest_step = max(self.longest_step, computed)
            self._worst = max(self._worst, computed)
        if self._worst > MAX_LAG and self._loop.time() >= self._next_warning:
            logger.warning("The event loop was blocked for %.2f s by something that took long to compute.", self._worst)
            self._worst = 0.0
            self._next_warning = self._loop.time() + SECONDS_BETWEEN_WARNINGS
        self._schedule()


@asynccontextmanager
async def measuring_lag() -> AsyncIterator[LoopLag]:
    lag = LoopLag()
    try:
        yield lag
    finally:
        lag.stop()
        logger.debug("The event loop was late by at most %.3f s.", lag.longest)
