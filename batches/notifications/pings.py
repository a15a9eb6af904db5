"""Pings a dead man's switch, such as Healthchecks, when a run starts and ends. The switch alerts if no ping arrives.

A ping is sent while checks run, through the guard, and is tried a few times at most. The run continues whether or not
it arrives. `/start` and `/fail` after the address say what has happened, and `rid` says to which run it belongs.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from batches.checking.checkers.base import HostPaused, ProfileToCheck
from batches.checking.checkers.http import HttpChecker
from batches.conf import Config

logger = logging.getLogger(__name__)

#: Seconds that the switch has to respond, including retries.
TIMEOUT = 10.0
#: Seconds that an ending worker waits for its last ping.
LAST_SECONDS = 5.0


class Ping(StrEnum):
    """The suffix of the address."""

    START = "/start"
    SUCCESS = ""
    FAIL = "/fail"


class Pinger:
    """Sends pings one after the other, so that the end of a short run does not arrive before its start."""

    def __init__(self, config: Config) -> None:
        self._config = replace(config, timeout=TIMEOUT)
        self.waiting: asyncio.Queue[str] = asyncio.Queue()

    def ping(self, event: Ping, run: UUID) -> None:
        if self._config.ping_url:
            self.waiting.put_nowait(make_address(self._config.ping_url, event, run))

    async def work(self) -> None:
        while True:
            address = await self.waiting.get()
            if reason := await self._send(address):
                logger.warning("The ping to BATCHES_PING_URL failed: %s", reason)
            self.waiting.task_done()

    async def _send(self, address: str) -> str:
        """Send it; returns the reason for a failure.

        The log line omits the address: everybody who knows it can ping.
        """
        try:
            async with HttpChecker(self._config) as checker:
                return (await checker.check(ProfileToCheck(0, address))).error
        except HostPaused:
            return "it asks for a pause"
        except Exception as error:
            return type(error).__name__


def make_address(base: str, event: Ping, run: UUID) -> str:
    parts = urlsplit(base)
    query = f"{parts.query}&rid={run}" if parts.query else f"rid={run}"
    return urlunsplit(parts._replace(path=parts.path.rstrip("/") + event, query=query))


@asynccontextmanager
async def pinging(config: Config) -> AsyncIterator[Pinger]:
    """Send pings in the background of the `async with` block."""
    pinger = Pinger(config)
    work = asyncio.create_task(pinger.work())
    try:
        yield pinger
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await pinger.waiting.join()
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
