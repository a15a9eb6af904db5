"""Documents are read outside the event loop, fairly, within limits, and without harm to others."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest

from batches.checking.checkers import parser_process
from batches.checking.checkers import parsers as parsers_module
from batches.checking.checkers.clock import Clock
from batches.checking.checkers.page import Declared
from batches.checking.checkers.parsers import MAX_BYTES_IN_LOOP, Lane, Parsers
from batches.checking.checkers.reading import Body, Reading, Unreadable
from batches.tests.support.feedserver import WAIT_SECONDS
from batches.tests.support.time import asynchronous, with_opened

from .conftest import check, item, link, page, rss

LARGE = MAX_BYTES_IN_LOOP + 1


@pytest.fixture
def obedient(monkeypatch):
    """Parser processes do what a document says (`support/parser.py`)."""
    command = parser_process.COMMAND.replace(parser_process.__name__, "batches.tests.support.parser")
    monkeypatch.setattr(parser_process, "COMMAND", command)


def body(command="", size=LARGE, host="a.example"):
    return Body(command.encode().ljust(size), f"http://{host}/")


@with_opened
@asynccontextmanager
async def with_parsers():
    parsers = Parsers()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            yield parsers
    finally:
        parsers.close()


@asynccontextmanager
async def reading(parsers, folder, **document):
    """A process is reading a document until the block ends, as this task."""
    os.mkfifo(folder / "pipe")
    task = asyncio.create_task(parsers.read(body(f"wait {folder}/pipe", **document)))
    fd = await asyncio.to_thread(os.open, folder / "pipe", os.O_WRONLY)
    yield task
    os.close(fd)


# The place of reading


@pytest.mark.parametrize(("size", "in_process"), [(MAX_BYTES_IN_LOOP, False), (LARGE, True)])
@with_parsers
async def test_only_small_documents_are_read_in_the_event_loop(parsers, size, in_process, obedient, monkeypatch):
    monkeypatch.setattr(parsers_module, "read", lambda body, thoroughly: Reading(["in the loop"]))
    assert await parsers.read(body(size=size)) == (Reading() if in_process else Reading(["in the loop"]))


@pytest.mark.parametrize(("seconds_at_once", "turns"), [(WAIT_SECONDS, 1), (-1.0, 3)])
@with_parsers
async def test_small_documents_are_read_in_series_with_pauses_for_others(parsers, seconds_at_once, turns, monkeypatch):
    turn, read_in = 0, []
    monkeypatch.setattr(parsers_module, "SECONDS_AT_ONCE", seconds_at_once)
    monkeypatch.setattr(parsers_module, "read", lambda body, thoroughly: read_in.append(turn) or Reading())
    readings = [asyncio.create_task(parsers.read(body(size=10))) for _ in range(4)]
    readings[1].cancel()
    while not all(reading.done() for reading in readings):
        turn += 1
        await asyncio.sleep(0)
    assert len(read_in) == 3
    assert len(set(read_in)) == turns


@with_parsers
async def test_a_document_is_read_thoroughly_in_a_process_whatever_its_size(parsers, obedient, monkeypatch):
    monkeypatch.setattr(parsers_module, "read", lambda body, thoroughly: None)
    assert await parsers.read(body(size=10)) == Reading(page=Declared())


def test_a_large_feed_and_a_large_page_are_read_as_small_ones_are(server):
    server.answer("/", page(link("/feed"), "x" * LARGE))
    server.answer("/feed", rss(*(item(number % 60) for number in range(3000))))
    server.answer("/small", rss(*map(item, range(60))))
    server.answer("/broken", rss("<title>a <b>b</title>"))
    found, feed, small, broken = (check(server.url(path)) for path in ("/", "/feed", "/small", "/broken"))
    assert found.stories == feed.stories == small.stories
    assert (found.feed_url, found.fingerprint) == (server.url("/feed"), feed.fingerprint)
    assert [story.title for story in broken.stories] == ["a b"]


# Limits


TOO_MUCH = {
    "compute": r"^reading the document takes more than 1 s of computing$",
    "fill": r"^reading the document takes more than 400 MB of memory$",
    "die": r"^the process that read the document ended \(SIGKILL\)$",
}


@pytest.mark.slow
@pytest.mark.parametrize(("command", "reason"), TOO_MUCH.items(), ids=TOO_MUCH)
@patch("batches.checking.checkers.parsers.QUICK_SECONDS", 1.0)
@with_parsers
async def test_a_document_that_exceeds_the_limits_of_its_process_fails_alone(parsers, command, reason, obedient):
    before = asyncio.create_task(parsers.read(body()))
    hostile = asyncio.create_task(parsers.read(body(command)))
    after = asyncio.create_task(parsers.read(body()))
    with pytest.raises(Unreadable, match=reason):
        await hostile
    assert (await before, await after) == (Reading(), Reading())


@with_parsers
async def test_a_process_that_does_not_answer_is_ended(parsers, obedient, monkeypatch, tmp_path):
    monkeypatch.setattr(parser_process, "PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Unreadable, match=r"ended \(SIGKILL\)$"):
        await parsers.read(body(f"wait {tmp_path}/pipe"))


@with_parsers
async def test_a_bug_in_the_process_is_an_error_with_its_traceback(parsers, obedient):
    with pytest.raises(RuntimeError, match=r"in fail\n[^$]*ZeroDivisionError: a bug of ours"):
        await parsers.read(body("fail"))


@with_parsers
async def test_a_process_that_has_become_large_is_replaced(parsers, obedient):
    await parsers.read(body())
    first = parsers._quick._process._process
    await parsers.read(body("grow"))
    await parsers.read(body())
    assert first.poll() is not None
    assert parsers._quick._process._process is not first


@with_parsers
async def test_signals_for_the_worker_do_not_end_its_parser_processes(parsers, obedient):
    """Ctrl-C reaches them too, but running checks have the grace period to finish."""
    await parsers.read(body())
    process = parsers._quick._process._process
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process.send_signal(number)
    await parsers.read(body())
    assert parsers._quick._process._process is process


@with_parsers
async def test_a_process_that_is_reading_ends_when_the_checker_is_closed(parsers, obedient, tmp_path):
    async with reading(parsers, tmp_path) as task:
        process = parsers._quick._process._process
        parsers.close()
        with pytest.raises(Unreadable):
            await task
    assert process.poll() == -signal.SIGKILL


# Waiting


@with_parsers
async def test_the_host_that_has_used_the_process_least_is_next_with_its_smallest_document(parsers, obedient, tmp_path):
    log, order = tmp_path / "log", [("heavy", 0), ("heavy", 1), ("light", 9), ("light", 8)]
    await parsers.read(body(f"log {log} start", host="heavy"))
    async with reading(parsers, tmp_path, host="busy"):
        waiting = [
            asyncio.create_task(parsers.read(body(f"log {log} {more}", LARGE + more, host))) for host, more in order
        ]
        await asyncio.sleep(0)
        parsers._quick._seconds_used.update(light=0.0, heavy=1000.0)
    await asyncio.gather(*waiting)
    sizes = [line.split()[-1] for line in log.read_text().splitlines()]
    assert sizes == ["start", "8", "9", "0", "1"]


@with_parsers
async def test_a_quick_document_does_not_wait_for_a_slow_one(parsers, obedient, tmp_path, monkeypatch):
    monkeypatch.setattr(parsers_module, "read", lambda body, thoroughly: None)
    async with reading(parsers, tmp_path, size=1000) as slow:
        assert await parsers.read(body()) == Reading()
        assert not slow.done()
    await slow


@with_parsers
async def test_waiting_for_a_process_and_its_reading_are_not_charged_to_the_check(parsers, obedient, tmp_path):
    os.mkfifo(tmp_path / "pipe")

    async def read(command):
        with Clock() as clock:
            await parsers.read(body(command))
        return clock

    clocks = [asyncio.create_task(read(command)) for command in (f"wait {tmp_path}/pipe", "")]
    fd = await asyncio.to_thread(os.open, tmp_path / "pipe", os.O_WRONLY)
    await asyncio.sleep(0.5)
    os.close(fd)
    assert max([(await clock).charged for clock in clocks]) < 0.4


@with_parsers
async def test_checks_that_are_cancelled_leave_the_process_to_others(parsers, obedient, tmp_path):
    async with reading(parsers, tmp_path) as task:
        cancelled, waiting = (asyncio.create_task(parsers.read(body())) for _ in range(2))
        await asyncio.sleep(0)
        task.cancel()
        cancelled.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == Reading()


@asynchronous
async def test_a_turn_that_comes_when_its_check_is_cancelled_passes_to_the_next():
    lane = Lane(1.0)
    await lane._wait_for_turn("a.example", 1)
    cancelled, waiting = (asyncio.create_task(lane._wait_for_turn("a.example", size)) for size in (1, 2))
    await asyncio.sleep(0)
    lane._start_next()
    cancelled.cancel()
    async with asyncio.timeout(WAIT_SECONDS):
        await waiting
    lane.close()
