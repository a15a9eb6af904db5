"""Feeds over loopback: the first and second pass of a worker, compared with a bare loop that records nothing."""

import asyncio
import time
from collections.abc import Iterator
from statistics import median

import aiohttp
import fastfeedparser

from batches.batch_manager import BatchManager
from benchmarks.feedserver import STORIES, FeedServer
from benchmarks.work import make_batch, work_on

PROFILES = 10_000
AT_ONCE = 100
FIRST = "first pass"
FIRST_GOAL, SECOND_GOAL = 0.5, 0.75


def run(profiles: int, rounds: int) -> Iterator[str]:
    with FeedServer() as port:
        yield from measure(profiles, rounds, f"http://127.0.0.1:{port}")


def measure(profiles: int, rounds: int, server: str) -> Iterator[str]:
    measured: dict[str, list[float]] = {}
    for number in range(rounds):
        for kind, ratios in passes(profiles, f"{server}/{{}}/{number}"):
            measured.setdefault(kind, []).append(ratios)
        yield f"round {number + 1}: " + ", ".join(f"{kind} {ratios[-1]:.2f}" for kind, ratios in measured.items())
    yield "median ratio to the bare loop: " + ", ".join(
        f"{kind} {median(ratios):.2f} (goal {FIRST_GOAL if kind == FIRST else SECOND_GOAL})"
        for kind, ratios in measured.items()
    )


def passes(profiles: int, address: str) -> Iterator[tuple[str, float]]:
    """The speed of each pass, relative to the bare loop over the same addresses just before."""
    for kind in ("same", "changing"):
        urls = [f"{address.format(kind)}/{profile}" for profile in range(profiles)]
        bare = asyncio.run(fetch_and_parse(urls))
        batch = make_batch(urls, "feed")
        first = work_on(batch)
        assert batch.stories_found == profiles * STORIES, batch.stories_found
        if kind == "same":
            yield FIRST, bare / first
        bare = asyncio.run(fetch_and_parse(urls))
        BatchManager().queue_batch(batch.pk)
        second = work_on(batch)
        assert batch.stories_found == 0
        yield f"second pass, {kind} documents", bare / second


async def fetch_and_parse(urls: list[str]) -> float:
    """Seconds that the bare loop takes."""
    waiting = iter(urls)
    started = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for url in waiting:
                async with session.get(url) as response:
                    assert len(fastfeedparser.parse(await response.read()).entries) == STORIES

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return time.perf_counter() - started
