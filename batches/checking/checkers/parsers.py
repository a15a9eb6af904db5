"""Reads documents without holding up the event loop: small ones at once, the others in parser processes."""

import asyncio
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import NamedTuple

from batches.lists.domains import domain_of

from .clock import not_charged
from .parser_process import ParserProcess
from .reading import Body, Reading, compute_fingerprint, read

# Reading one of this size takes 1 ms, or 50 ms if it is malicious. Larger ones must not hold up the event loop.
MAX_BYTES_IN_LOOP = 64_000
# A fingerprint of one of this size takes 1 ms.
MAX_FINGERPRINT_IN_LOOP = 1_000_000
# Seconds in which the event loop reads documents before it does something else.
SECONDS_AT_ONCE = 0.02
# Seconds of computing. An honest document of 5 MB takes 0.1 s, and a malicious one that is still read takes 0.4 s.
QUICK_SECONDS, THOROUGH_SECONDS = 2.0, 5.0
# Hosts of which the computing time is remembered.
MAX_HOSTS = 10_000


class Parsers:
    """Two processes, so that documents that are quick to read do not wait for slow ones."""

    def __init__(self) -> None:
        self._small = SmallDocuments()
        self._quick = Lane(QUICK_SECONDS)
        self._thorough = Lane(THOROUGH_SECONDS)

    def close(self) -> None:
        """End the processes, whatever they are reading."""
        self._quick.close()
        self._thorough.close()

    async def compute_fingerprint(self, body: Body) -> str:
        if len(body.content) <= MAX_FINGERPRINT_IN_LOOP:
            return compute_fingerprint(body)
        with not_charged():
            return await asyncio.to_thread(compute_fingerprint, body)

    async def read(self, body: Body) -> Reading:
        """Raises Unreadable."""
        is_small = len(body.content) <= MAX_BYTES_IN_LOOP
        reading = await (self._small.read(body) if is_small else self._quick.read(body, thoroughly=False))
        if reading is None:
            reading = await self._thorough.read(body, thoroughly=True)
        assert reading is not None
        return reading


class SmallDocuments:
    """Reads small documents of many checks in a series, in the event loop.

    Reading one between the other steps of its check takes up to twice as long, because the processor's caches then
    contain other code and data.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Body, asyncio.Future[Reading | None]]] = deque()

    async def read(self, body: Body) -> Reading | None:
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Reading | None] = loop.create_future()
        self._waiting.append((body, result))
        if len(self._waiting) == 1:
            loop.call_soon(self._read_all, loop)  # after the other steps of this turn of the loop
        return await result

    def _read_all(self, loop: asyncio.AbstractEventLoop) -> None:
        enough = monotonic() + SECONDS_AT_ONCE
        while self._waiting:
            body, result = self._waiting.popleft()
            if not result.done():  # its check was cancelled
                set_outcome(result, body)
            if monotonic() > enough:
                break
        if self._waiting:
            loop.call_soon(self._read_all, loop)


def set_outcome(result: asyncio.Future[Reading | None], body: Body) -> None:
    try:
        result.set_result(read(body, thoroughly=False))
    except Exception as error:
        result.set_exception(error)


class Waiting(NamedTuple):
    host: str
    size: int
    turn: asyncio.Future[None]


class Lane:
    """A process and the documents that wait for it.

    The next document is from the host that has used the process least, and the smallest of these. So a host with many
    heavy documents, or many hosts with one each, do not hold up the others.
    """

    def __init__(self, cpu_seconds: float) -> None:
        self._process = ParserProcess(cpu_seconds)
        self._thread = ThreadPoolExecutor(1, "parser")
        self._waiting: list[Waiting] = []
        self._is_busy = False
        self._seconds_used: defaultdict[str, float] = defaultdict(float)

    async def read(self, body: Body, *, thoroughly: bool) -> Reading | None:
        host = domain_of(body.url)
        loop = asyncio.get_running_loop()
        with not_charged():
            await self._wait_for_turn(host, len(body.content))
            # It continues if this check is cancelled, and keeps its turn.
            started = self._thread.submit(self._read, host, body, thoroughly)
            started.add_done_callback(lambda _: loop.call_soon_threadsafe(self._start_next))
            return await asyncio.wrap_future(started)

    def close(self) -> None:
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._process.close()

    async def _wait_for_turn(self, host: str, size: int) -> None:
        if not self._is_busy:
            self._is_busy = True
            return
        waiting = Waiting(host, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if not waiting.turn.cancelled():
                self._start_next()
            raise

    def _start_next(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting.turn.done()]
        self._is_busy = bool(self._waiting)
        if self._waiting:
            chosen = min(self._waiting, key=lambda waiting: (self._seconds_used[waiting.host], waiting.size))
            chosen.turn.set_result(None)

    def _read(self, host: str, body: Body, thoroughly: bool) -> Reading | None:
        started = monotonic()
        try:
            return self._process.read(body, thoroughly=thoroughly)
        finally:
            if len(self._seconds_used) > MAX_HOSTS:
                self._seconds_used.clear()
            self._seconds_used[host] += monotonic() - started
