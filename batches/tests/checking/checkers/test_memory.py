"""Memory for bodies: large ones wait for each other, small ones do not wait, and all are finally received."""

import asyncio
import gzip
import random
from unittest.mock import patch

import pytest

from batches.checking.checkers.clock import WATCH_SECONDS
from batches.checking.checkers.memory import SMALL_BYTES, Memory, Share
from batches.tests.support.feedserver import WAIT_SECONDS
from batches.tests.support.hostile import peak
from batches.tests.support.time import asynchronous, put_forward

from .conftest import with_checker

LARGE = 10 * SMALL_BYTES


def test_memory_is_limited_but_small_bodies_always_get_some():
    memory = Memory(3 * LARGE, LARGE)
    shares = [Share(memory) for _ in range(4)]
    assert [share.grow(LARGE) for share in shares] == [True, True, False, False]
    assert all(share.grow(SMALL_BYTES) for share in shares[2:])
    assert not shares[2].grow(1)
    shares[0].close()
    assert shares[2].grow(LARGE - 2 * SMALL_BYTES)


@asynchronous
async def test_a_cancelled_waiting_body_passes_its_turn_to_the_next():
    memory = Memory(2 * LARGE, LARGE)
    holder, favoured, cancelled, waiting = (Share(memory) for _ in range(4))
    assert holder.grow(LARGE)
    await favoured.wait_to_grow(LARGE)
    waits = [asyncio.create_task(share.wait_to_grow(LARGE)) for share in (cancelled, waiting)]
    await asyncio.sleep(0)
    waits[0].cancel()
    favoured.close()
    async with asyncio.timeout(WAIT_SECONDS):
        await waits[1]
    cancelled.close()
    assert (waiting.size, memory.free) == (LARGE, -LARGE)


@asynchronous
async def test_only_bodies_with_enough_memory_wake_up():
    """Once all woke up at each change: with 20,000 hosts, waiting took ten times the CPU of the checks."""
    memory = Memory(4 * LARGE, LARGE)
    holder, reserved = Share(memory), Share(memory)
    assert holder.grow(3 * LARGE)
    await reserved.wait_to_grow(LARGE)
    shares = [Share(memory) for _ in range(100)]
    waits = [asyncio.create_task(share.wait_to_grow(LARGE)) for share in shares]
    await asyncio.sleep(0)
    holder.resize(LARGE)
    assert [share.size for share in shares] == [LARGE] + 99 * [0]
    reserved.close()
    assert sum(share.size for share in shares) == 3 * LARGE
    await asyncio.gather(*waits[:3])
    assert [wait.done() for wait in waits] == 3 * [True] + 97 * [False]
    for wait in waits[3:]:
        wait.cancel()


@asynchronous
async def test_the_reserve_is_free_again_when_a_body_turns_out_small():
    memory = Memory(2 * LARGE, LARGE)
    holder, unpacked, waiting = (Share(memory) for _ in range(3))
    assert holder.grow(LARGE - 2)
    await unpacked.wait_to_grow(LARGE)
    wait = asyncio.create_task(waiting.wait_to_grow(LARGE))
    await asyncio.sleep(0)
    unpacked.resize(3)  # it does not fit without the reserve
    assert waiting.size == 0
    unpacked.resize(2)
    assert waiting.size == LARGE
    await wait


def test_releasing_memory_twice_does_no_harm():
    memory = Memory(LARGE, 0)
    share = Share(memory)
    share.grow(SMALL_BYTES)
    share.resize(2 * SMALL_BYTES)
    assert memory.free == LARGE - 2 * SMALL_BYTES
    share.close()
    share.close()
    assert memory.free == LARGE


# With a server


@patch("batches.checking.checkers.client.MEMORY_BYTES", 6_000_000)
@with_checker(per_host=40, max_body=1_000_000)
async def test_large_bodies_that_arrive_at_the_same_moment_are_received_one_after_the_other(checker, server):
    pieces = [bytes(50_000)] * 19 + [bytes(49_999), b"\0"]
    for number in range(40):
        server.answer(f"/{number}", pieces, headers={"Content-Length": "1000000"}, every=0.001)

    async def fetch(number):
        return len((await checker.fetch(server.url(f"/{number}"))).body)

    with peak(25_000_000):
        assert await asyncio.gather(*map(fetch, range(40))) == [1_000_000] * 40
    assert checker._client.memory.free == 4_000_000


@pytest.mark.slow
@patch("batches.checking.checkers.client.MEMORY_BYTES", 0)
@with_checker(timeout=10 * WAIT_SECONDS, max_body=SMALL_BYTES + 1)
async def test_waiting_for_memory_is_not_charged(checker, server, monkeypatch):
    """A body that waits may wait longer than any timeout, and continues at once, even if only its last byte waited."""
    server.answer("/", bytes(SMALL_BYTES + 1))
    memory = checker._client.memory
    held, waits = Share(memory), asyncio.Event()
    assert held.grow(memory.free)
    await held.wait_to_grow(1)  # and has the reserve

    async def wait(*wanted, original=Share.wait_to_grow):
        waits.set()
        await original(*wanted)

    monkeypatch.setattr(Share, "wait_to_grow", wait)
    waiting = asyncio.create_task(checker.fetch(server.url("/")))
    await waits.wait()
    put_forward(15 * WAIT_SECONDS)
    await asyncio.sleep(2 * WATCH_SECONDS)
    assert not waiting.done()
    held.close()
    async with asyncio.timeout(WAIT_SECONDS):
        assert len((await waiting).body) == SMALL_BYTES + 1


@with_checker(max_body=5_000_000)
async def test_a_check_that_ends_while_its_body_waits_to_be_unpacked_releases_its_memory(checker, server, monkeypatch):
    server.answer("/", gzip.compress(random.Random(1).randbytes(20_000)))
    waits, memory = asyncio.Event(), checker._client.memory

    async def wait_for_ever(share, size):
        waits.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Share, "wait_to_grow", wait_for_ever)
    free, fetching = memory.free, asyncio.create_task(checker.fetch(server.url("/")))
    await waits.wait()
    assert memory.free < free
    fetching.cancel()
    await asyncio.wait([fetching])
    assert memory.free == free


@pytest.mark.parametrize(("packed_to", "waits"), [("a third", 0), ("a hundredth", 20)])
@patch("batches.checking.checkers.client.MEMORY_BYTES", 0)
@with_checker(per_host=20, max_body=5_000_000)
async def test_only_tightly_compressed_bodies_wait_for_memory_up_to_the_limit(
    checker, server, monkeypatch, packed_to, waits
):
    """Once all did: of 500 feeds, eight could be unpacked at once."""
    body = random.Random(1).randbytes(20_000).hex().encode() * (1 if packed_to == "a third" else 30)
    for number in range(20):
        server.answer(f"/{number}", gzip.compress(body), headers={"Content-Encoding": "gzip"})
    asked = []

    async def grow(share, size, original=Share.wait_to_grow):
        asked.append(size)
        await original(share, size)

    async def fetch(number):
        return (await checker.fetch(server.url(f"/{number}"))).body == body

    monkeypatch.setattr(Share, "wait_to_grow", grow)
    assert all(await asyncio.gather(*map(fetch, range(20))))
    assert (len(asked) >= 20, asked.count(5_000_000)) == (True, waits)
