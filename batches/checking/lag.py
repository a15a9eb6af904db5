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


@asynccontextmanager
async def measuring_lag() -> AsyncIterator[None]:
    measuring = asyncio.create_task(_measure())
    try:
        yield
    finally:
        measuring.cancel()


async def _measure() -> None:
    loop = asyncio.get_running_loop()
    worst = next_warning = 0.0
    while True:
        due, before = loop.time() + INTERVAL, time.thread_time()
        await asyncio.sleep(INTERVAL)
        late, computed = loop.time() - due, time.thread_time() - before
        LOOP_LAG.observe(max(0.0, late))
        if late > MAX_LAG:
            worst = max(worst, computed)  # on a busy machine it is late without having computed anything
        if worst > MAX_LAG and loop.time() >= next_warning:
            logger.warning("The event loop was blocked for %.2f s by something that took long to compute.", worst)
            worst, next_warning = 0.0, loop.time() + SECONDS_BETWEEN_WARNINGS
