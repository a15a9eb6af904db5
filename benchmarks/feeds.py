"""Feeds over loopback: the worker's first and second pass, as ratios to a bare loop that records nothing."""

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
FIRST_GOAL, SECOND_GOAL = 0.5, 0.75


def run(profiles: int, rounds: int) -> Iterator[str]:
    with FeedServer() as port:
        yield from measure(profiles, rounds, f"http://127.0.0.1:{port}")


def measure(profiles: int, rounds: int, server: str) -> Iterator[str]:
    first_ratios, second_ratios = [], []
    for number in range(rounds):
        urls = [f"{server}/{number}/{profile}" for profile in range(profiles)]
        bare = asyncio.run(fetch_and_parse(urls))
        batch = make_batch(urls, "feed")
        first = work_on(batch)
        assert batch.stories_found == profiles * STORIES, batch.stories_found
        BatchManager().queue_batch(batch.pk)
        second = work_on(batch)
        assert batch.stories_found == 0
        first_ratios.append(bare / first)
        second_ratios.append(bare / second)
        rates = ", ".join(
            f"{name} {profiles / seconds:,.0f}/s ({bare / seconds:.2f})"
            for name, seconds in (("bare", bare), ("first pass", first), ("second pass", second))
        )
        yield f"round {number + 1}: {rates}"
    yield (
        f"median ratio: first pass {median(first_ratios):.2f} (goal {FIRST_GOAL}), "
        f"second pass {median(second_ratios):.2f} (goal {SECOND_GOAL})"
    )


async def fetch_and_parse(urls: list[str]) -> float:
    """Seconds of the bare loop."""
    waiting = iter(urls)
    started = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for url in waiting:
                async with session.get(url) as answer:
                    assert len(fastfeedparser.parse(await answer.read()).entries) == STORIES

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return time.perf_counter() - started
