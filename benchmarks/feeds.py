"""Feeds over loopback: the worker's first and second pass, as ratios to a bare loop that records nothing."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from statistics import median

import aiohttp
import fastfeedparser

from batches.batch_manager import BatchManager
from benchmarks.work import make_batch, work_on

PROFILES = 10_000
STORIES = 4
SIZE = 1_800
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
        yield (
            f"round {number + 1}: bare {profiles / bare:,.0f}/s, first pass {profiles / first:,.0f}/s ({bare / first:.2f}), "
            f"second pass {profiles / second:,.0f}/s ({bare / second:.2f})"
        )
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


def feed(path: str) -> bytes:
    items = "".join(
        f"<item><title>Story {number} of {path}</title><link>http://feeds.example{path}/{number}</link>"
        f"<guid isPermaLink='false'>{path}/{number}</guid><pubDate>Mon, 0{number + 1} Jun 2026 08:00:00 +0000</pubDate>"
        f"<description>{'Some words about it. ' * 9}</description></item>"
        for number in range(STORIES)
    )
    text = f"<?xml version='1.0'?><rss version='2.0'><channel><title>Feed</title>{items}</channel></rss>"
    return f"{text}{' ' * (SIZE - len(text))}".encode()


class Answers(asyncio.Protocol):
    """The smallest HTTP server that keeps connections alive, so that it is not what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        body = feed(data.split(b" ", 2)[1].decode())
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


class FeedServer:
    """Runs in a process of its own while entered. Gives its port."""

    def __enter__(self) -> int:
        port, theirs = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        number: int = port.recv()
        return number

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        self.process.join()


def serve(port: Connection) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())
