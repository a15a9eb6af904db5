"""Politeness: few requests at once to one host, and none while it asked to be left alone."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from batches.checking.checkers import fetch as fetch_module
from batches.checking.checkers import hosts as hosts_module
from batches.checking.checkers.base import FetchError
from batches.checking.checkers.hosts import HostSlots
from batches.checking.checkers.http import HttpChecker
from batches.tests.support.feedserver import WAIT_SECONDS, FeedServer, Reply, Request

from .conftest import fetch, quick_config, run_with


@pytest.fixture
def server(server: FeedServer) -> FeedServer:
    server.answer("/", body=b"a")
    return server


def with_checker(**config: object) -> Callable[[Callable[[HttpChecker], Coroutine[Any, Any, None]]], None]:
    """Runs the decorated coroutine with a checker at once."""
    return lambda work: run_with(HttpChecker(quick_config(**config)), work)


def start_fetches(checker: HttpChecker, *urls: str) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(checker.fetch(url)) for url in urls]


def test_a_host_gets_at_most_per_host_requests_at_once_whatever_the_case_of_its_name(server):
    gate = server.hold("/")

    @with_checker(per_host=2, allowed_networks=("127.0.0.0/8", "::1"))
    async def _(checker: HttpChecker) -> None:
        names = ("localhost", "LocalHost", "LOCALHOST") * 4
        fetches = start_fetches(checker, *(server.url("/", host=name) for name in names))
        await asyncio.to_thread(gate.wait_for, 2)
        assert server.hits("/") == 2
        gate.open()
        await asyncio.gather(*fetches)

    assert server.hits("/") == 12
    assert server.most_at_once("localhost") == 2


def test_a_redirect_releases_one_hosts_slot_and_takes_the_others(server):
    other = server.url("/held", host="127.0.0.2")
    server.redirect("/to-other", other)
    server.answer("/held", body=b"a")
    gate = server.hold("/held")

    @with_checker(per_host=1)
    async def _(checker: HttpChecker) -> None:
        redirected = start_fetches(checker, server.url("/to-other"))
        await asyncio.to_thread(gate.wait_for)
        assert (await checker.fetch(server.url("/"))).body == b"a"
        waiting = start_fetches(checker, other)
        await checker.fetch(server.url("/"))
        assert server.hits("/held") == 1
        gate.open()
        await asyncio.gather(*redirected, *waiting)


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_for_a_pause_gets_no_request_at_all(status, server):
    times = []

    def note_time(_: Request) -> Reply:
        times.append(time.monotonic())
        return Reply(body=b"a")

    server.answer("/busy", status=status, headers={"Retry-After": "1"})
    server.answer_in_turn("/", note_time)

    @with_checker()
    async def _(checker: HttpChecker) -> None:
        started = time.monotonic()
        with pytest.raises(FetchError, match=rf"^answered {status} "):
            await checker.fetch(server.url("/busy"))
        await asyncio.gather(*start_fetches(checker, *[server.url("/")] * 5))
        assert len(times) == 5
        assert min(times) - started >= 1


@pytest.mark.usefixtures("no_backoff")
def test_a_request_is_retried_after_the_pause(server):
    server.answer_in_turn("/", Reply(503, headers={"Retry-After": "1"}), Reply(body=b"at last"))
    started = time.monotonic()
    assert fetch(server.url("/"), retries=1).body == b"at last"
    assert time.monotonic() - started >= 1


def test_a_pause_that_is_too_long_is_a_failure_and_the_host_gets_no_request(server):
    server.answer("/busy", status=429, headers={"Retry-After": "3600"})

    @with_checker(retries=2, max_retry_after=30)
    async def _(checker: HttpChecker) -> None:
        for path, status in {"/busy": 429, "/": None, "/?again": None}.items():
            with pytest.raises(FetchError, match=r"^asked us to wait 3[56]\d\d s$") as failure:
                await checker.fetch(server.url(path))
            assert failure.value.http_status == status
        await checker.fetch(server.url("/", host="127.0.0.2"))

    assert [request.host for request in server.requests] == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize("status", [404, 200])
def test_the_retry_after_of_another_status_is_ignored(status, server):
    server.answer("/", status=status, headers={"Retry-After": "3600"})

    @with_checker()
    async def _(checker: HttpChecker) -> None:
        for _ in range(2):
            await asyncio.gather(*start_fetches(checker, server.url("/")), return_exceptions=True)

    assert server.hits("/") == 2


def test_nothing_is_kept_of_hosts_that_are_not_in_use():
    async def run() -> None:
        slots = HostSlots(per_host=2, longest_wait=1)
        for number in range(1000):
            async with slots.slot(f"{number}.example"):
                assert len(slots._slots) == 1
        assert (len(slots._slots), len(slots._paused_until)) == (0, 0)

    asyncio.run(run())


def test_a_million_paused_hosts_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(hosts_module, "MAX_PAUSED_HOSTS", 100)
    slots = HostSlots(per_host=2, longest_wait=1)
    for number in range(1000):
        slots.pause(f"{number}.example", 3600)
    assert list(slots._paused_until) == [f"{number}.example" for number in range(900, 1000)]


def test_a_shorter_pause_does_not_end_a_longer_one():
    slots = HostSlots(per_host=2, longest_wait=1)
    slots.pause("a.example", 3600)
    slots.pause("a.example", 1)
    with pytest.raises(FetchError, match="3600"):
        asyncio.run(slots.slot("a.example").__aenter__())


def test_a_cancelled_check_leaves_no_slot_taken(server):
    gate = server.hold("/")

    @with_checker(per_host=1)
    async def _(checker: HttpChecker) -> None:
        fetches = start_fetches(checker, *[server.url("/")] * 4)
        await asyncio.to_thread(gate.wait_for)
        for started in fetches:
            started.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        gate.open()
        assert (await checker.fetch(server.url("/"))).body == b"a"


def test_unanswered_name_look_ups_do_not_hold_up_other_requests(monkeypatch, server):
    """Each holds a thread for seconds, but none of those that anything else runs in."""
    started = threading.Semaphore(0)
    go_on = threading.Event()

    def look_up_slowly(*_: object) -> None:
        started.release()
        go_on.wait(WAIT_SECONDS)
        raise OSError("nobody knows")

    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", look_up_slowly)

    @with_checker(timeout=WAIT_SECONDS)
    async def _(checker: HttpChecker) -> None:
        lookups = start_fetches(checker, *(f"http://{number}.example/" for number in range(20)))
        for _ in lookups:
            assert await asyncio.to_thread(started.acquire, timeout=WAIT_SECONDS)
        assert (await checker.fetch(server.url("/"))).body == b"a"
        assert not any(lookup.done() for lookup in lookups)
        go_on.set()
        await asyncio.gather(*lookups, return_exceptions=True)
