"""Resolves names without threads: a name without an answer costs a packet, and delays no other name."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

import aiodns
import pycares

from batches.metrics import LOOKUPS

from .base import NO_ANSWER, NO_SUCH_HOST, NoConnection, Unreachable
from .clock import not_charged

# c-ares repeats a question sooner if it knows that a name server is fast, and waits twice as long each time.
FIRST_SECONDS, TRIES = 2.0, 6
#: Seconds after which a lookup fails: names that take longer are dead.
MAX_SECONDS = 8.0
# Some name servers lose questions if a thousand arrive at the same moment. A name without an answer releases its place
# to others after the first second.
MAX_AT_ONCE = 100
QUICK_SECONDS = 1.0
# A check that waits longer for a name releases its place. If it did so at once, too many checks would run concurrently,
# because most names are found within milliseconds.
PATIENCE = 0.1
#: Maximum seconds for which answers are remembered, including failures: other profiles of a dead name need not wait
#: again.
CACHE_SECONDS = 60.0
MAX_CACHED = 20_000
#: Lookups after which c-ares forgets its answers. It would keep all of them for up to an hour, in 2.7 kB a name.
MAX_CACHED_BY_ARES = 1000
# libcurl alternates between the two families. c-ares would open a socket to each address, only to sort them.
NO_SORT = 1 << 7

UNKNOWN = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA, aiodns.error.ARES_EBADNAME})
#: RFC 6761: never query these names.
LOCALHOST, LOOPBACK = "localhost", ("127.0.0.1", "::1")

OUTCOMES = {"": "ok", NO_SUCH_HOST: "no_such_host", NO_ANSWER: "no_answer"}


class Known(NamedTuple):
    """The addresses of a name, or the reason for the failure."""

    until: float
    addresses: Sequence[str] = ()
    problem: str = ""


class Resolver:
    """Create, use and close it in one event loop."""

    def __init__(self) -> None:
        self._dns = aiodns.DNSResolver(timeout=FIRST_SECONDS, tries=TRIES)
        self._known: dict[str, Known] = {}
        self._under_way: dict[str, asyncio.Task[Known]] = {}
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._lookups = 0

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._dns.close()

    async def resolve(self, name: str) -> Sequence[str]:
        """The addresses of `name`, at least one. Raises FetchError."""
        if f".{name.removesuffix('.')}".endswith(f".{LOCALHOST}"):
            return LOOPBACK
        known = self._known.get(name)
        if known is None or known.until <= monotonic():
            known = await self._look_up(name)
        if known.problem:
            raise (NoConnection if known.problem == NO_ANSWER else Unreachable)(known.problem)
        return known.addresses

    async def _look_up(self, name: str) -> Known:
        """Query once, however many checks wait for the answer. If one is cancelled, the others still get it."""
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda _: self._under_way.pop(name))
        with not_charged(keeps_place=True):
            await asyncio.wait([task], timeout=PATIENCE)
        if not task.done():
            with not_charged():
                await asyncio.wait([task])
        return Known(0.0, problem=NO_ANSWER) if task.cancelled() else task.result()

    async def _ask(self, name: str) -> Known:
        answer, began = None, monotonic()
        self._lookups += 1
        if self._lookups % MAX_CACHED_BY_ARES == 0:
            self._dns._channel.reinit()
        try:
            async with self._room:
                answer = self._dns.getaddrinfo(name, flags=NO_SORT)
                await asyncio.wait([answer], timeout=QUICK_SECONDS)
            await asyncio.wait([answer], timeout=MAX_SECONDS - QUICK_SECONDS)
            known = read_addresses(answer)
            LOOKUPS.labels(OUTCOMES[known.problem]).observe(monotonic() - began)
            return self._remember(name, known)
        finally:
            if answer:
                answer.cancel()

    def _remember(self, name: str, known: Known) -> Known:
        self._known.pop(name, None)  # to the end
        self._known[name] = known
        if len(self._known) > MAX_CACHED:
            del self._known[next(iter(self._known))]
        return known


def read_addresses(answer: asyncio.Future[pycares.AddrInfoResult]) -> Known:
    now = monotonic()
    if not answer.done():
        return Known(now + CACHE_SECONDS, problem=NO_ANSWER)
    if fault := answer.exception():
        return Known(now + CACHE_SECONDS, problem=NO_SUCH_HOST if fault.args[0] in UNKNOWN else NO_ANSWER)
    nodes = answer.result().nodes
    if not nodes:
        return Known(now + CACHE_SECONDS, problem=NO_SUCH_HOST)
    seconds = min([CACHE_SECONDS, *(node.ttl for node in nodes)])
    return Known(now + seconds, [node.addr[0].decode() for node in nodes])
