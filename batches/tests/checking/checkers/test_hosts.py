"""Politeness: few requests at once to one host, and none while it asked to be left alone."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from batches.checking.checkers import hosts as hosts_module
from batches.checking.checkers.fetch import Fetcher, FetchError
from batches.checking.checkers.hosts import HostPaused, HostSlots
from batches.tests.support.feedserver import FeedServer, Gate, Reply, Request

from .conftest import quick_config


@pytest.fixture
def two_hosts() -> Iterator[FeedServer]:
    with FeedServer(hosts=["127.0.0.1", "127.0.0.2"]) as server:
        yield server


def run_with_fetcher(work: Callable[[Fetcher], Coroutine[Any, Any, Any]], **config: object) -> Any:
    async def run() -> Any:
        async with Fetcher(quick_config(**config)) as fetcher:
            return await work(fetcher)

    return asyncio.run(run())


async def arrived(gate: Gate, requests: int) -> None:
    await asyncio.to_thread(gate.wait_for, requests)


@pytest.mark.parametrize("per_host", [1, 2, 5])
def test_a_host_gets_so_many_requests_at_once(per_host, server):
    server.answer("/", body=b"a")
    gate = server.hold("/")

    async def work(fetcher: Fetcher) -> None:
        fetches = [asyncio.create_task(fetcher.fetch(server.url("/"))) for _ in range(12)]
        await arrived(gate, per_host)
        assert server.hits("/") == per_host
        gate.open()
        await asyncio.gather(*fetches)

    run_with_fetcher(work, per_host=per_host)
    assert server.hits("/") == 12
    assert server.most_at_once() == per_host


def test_hosts_do_not_wait_for_each_other(two_hosts):
    two_hosts.answer("/held", body=b"a")
    two_hosts.answer("/", body=b"b")
    gate = two_hosts.hold("/held")

    async def work(fetcher: Fetcher) -> None:
        held = asyncio.create_task(fetcher.fetch(two_hosts.url("/held")))
        await arrived(gate, 1)
        assert (await fetcher.fetch(two_hosts.url("/", host="127.0.0.2"))).body == b"b"
        gate.open()
        await held

    run_with_fetcher(work, per_host=1)


def test_a_redirect_gives_one_hosts_slot_back_and_takes_the_others(two_hosts):
    other = two_hosts.url("/held", host="127.0.0.2")
    two_hosts.redirect("/to-other", other)
    two_hosts.answer("/held", body=b"a")
    two_hosts.answer("/", body=b"b")
    gate = two_hosts.hold("/held")

    async def work(fetcher: Fetcher) -> None:
        redirected = asyncio.create_task(fetcher.fetch(two_hosts.url("/to-other")))
        await arrived(gate, 1)
        assert (await fetcher.fetch(two_hosts.url("/"))).body == b"b"
        waiting = asyncio.create_task(fetcher.fetch(other))
        await fetcher.fetch(two_hosts.url("/"))
        assert two_hosts.hits("/held") == 1
        gate.open()
        await asyncio.gather(redirected, waiting)

    run_with_fetcher(work, per_host=1)


def test_names_of_one_host_in_any_case_are_one_host(server):
    server.answer("/", body=b"a")
    gate = server.hold("/")

    async def work(fetcher: Fetcher) -> None:
        names = ["localhost", "LocalHost", "LOCALHOST"]
        fetches = [asyncio.create_task(fetcher.fetch(server.url("/", host=name))) for name in names]
        await arrived(gate, 1)
        gate.open()
        await asyncio.gather(*fetches)

    run_with_fetcher(work, per_host=1, allowed_networks=("127.0.0.0/8", "::1"))
    assert server.most_at_once("localhost") == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_for_a_wait_is_left_alone_altogether(status, server):
    times = []

    def note_time(_: Request) -> Reply:
        times.append(time.monotonic())
        return Reply(body=b"a")

    server.answer("/busy", status=status, headers={"Retry-After": "1"})
    server.answer_in_turn("/", note_time)

    async def work(fetcher: Fetcher) -> None:
        asked = time.monotonic()
        with pytest.raises(FetchError, match=str(status)):
            await fetcher.fetch(server.url("/busy"))
        await asyncio.gather(*(fetcher.fetch(server.url("/")) for _ in range(5)))
        assert len(times) == 5
        assert min(times) - asked >= 1

    run_with_fetcher(work)


@pytest.mark.usefixtures("no_backoff")
def test_the_request_that_was_told_to_wait_is_tried_again_after_that(server, fetch):
    server.answer_in_turn("/", Reply(503, headers={"Retry-After": "1"}), Reply(body=b"at last"))
    asked = time.monotonic()
    assert fetch(server.url("/"), retries=1).body == b"at last"
    assert time.monotonic() - asked >= 1


def test_a_wait_that_is_too_long_is_a_failure_and_nobody_asks_that_host(two_hosts):
    two_hosts.answer("/", status=429, headers={"Retry-After": "3600"})
    two_hosts.answer("/other", body=b"a")

    async def work(fetcher: Fetcher) -> list[FetchError]:
        errors = []
        for path in ("/", "/other", "/other"):
            with pytest.raises(FetchError) as failed:
                await fetcher.fetch(two_hosts.url(path))
            errors.append(failed.value)
        await fetcher.fetch(two_hosts.url("/other", host="127.0.0.2"))
        return errors

    first, second, third = run_with_fetcher(work, retries=2, max_retry_after=30)
    assert str(first) == "asked us to wait 3600 s"
    assert first.http_status == 429
    assert str(second) in {"asked us to wait 3600 s", "asked us to wait 3599 s"}
    assert str(third) in {"asked us to wait 3600 s", "asked us to wait 3599 s"}
    assert [request.host for request in two_hosts.requests] == ["127.0.0.1", "127.0.0.2"]


def test_a_wait_without_further_tries_is_the_failure_it_came_with(server, fetch):
    server.answer("/", status=503, headers={"Retry-After": "1"})
    with pytest.raises(FetchError, match=r"^answered 503 Service Unavailable$"):
        fetch(server.url("/"))


def test_a_retry_after_of_another_answer_is_no_wait(server):
    server.answer("/", status=404, headers={"Retry-After": "3600"})
    server.answer("/ok", body=b"a", headers={"Retry-After": "3600"})

    async def work(fetcher: Fetcher) -> None:
        with pytest.raises(FetchError, match="404"):
            await fetcher.fetch(server.url("/"))
        await fetcher.fetch(server.url("/ok"))
        await fetcher.fetch(server.url("/ok"))

    run_with_fetcher(work)


def test_nothing_is_kept_of_hosts_that_are_not_in_use():
    async def run() -> HostSlots:
        slots = HostSlots(per_host=2, longest_wait=1)
        for number in range(1000):
            await slots.acquire(f"{number}.example")
            slots.release(f"{number}.example")
        return slots

    slots = asyncio.run(run())
    assert (len(slots._in_use), len(slots._paused_until)) == (0, 0)


def test_a_million_hosts_that_ask_for_a_wait_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(hosts_module, "MAX_PAUSED_HOSTS", 100)
    slots = HostSlots(per_host=2, longest_wait=1)
    for number in range(1000):
        slots.pause(f"{number}.example", 3600)
    assert list(slots._paused_until) == [f"{number}.example" for number in range(900, 1000)]


def test_a_shorter_wait_does_not_end_a_longer_one():
    slots = HostSlots(per_host=2, longest_wait=1)
    slots.pause("a.example", 3600)
    slots.pause("a.example", 1)
    with pytest.raises(HostPaused, match="3600"):
        asyncio.run(slots.acquire("a.example"))


def test_a_check_that_is_given_up_leaves_no_slot_taken(server):
    server.answer("/", body=b"a")
    gate = server.hold("/")

    async def work(fetcher: Fetcher) -> None:
        fetches = [asyncio.create_task(fetcher.fetch(server.url("/"))) for _ in range(4)]
        await arrived(gate, 1)
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        gate.open()
        assert (await fetcher.fetch(server.url("/"))).body == b"a"
        assert not fetcher._hosts._in_use

    run_with_fetcher(work, per_host=1)


def test_names_that_nobody_answers_for_do_not_hold_up_others(monkeypatch, server):
    """Each takes a thread, and for seconds; not one of those that anything else runs in."""
    server.answer("/", body=b"a")
    begun = threading.Semaphore(0)
    go_on = threading.Event()

    def slow(*_: object) -> None:
        begun.release()
        go_on.wait(5)
        begun.release()
        raise OSError("nobody knows")

    monkeypatch.setattr("batches.checking.checkers.fetch.socket.getaddrinfo", slow)

    async def work(fetcher: Fetcher) -> None:
        lookups = [asyncio.create_task(fetcher.fetch(f"http://{number}.example/")) for number in range(20)]
        async with asyncio.timeout(3):
            for _ in lookups:
                await asyncio.to_thread(begun.acquire)
            assert (await fetcher.fetch(server.url("/"))).body == b"a"
        go_on.set()
        await asyncio.gather(*lookups, return_exceptions=True)

    run_with_fetcher(work)
