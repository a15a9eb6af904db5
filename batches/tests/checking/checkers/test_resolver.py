"""Names: looked up once for many, without threads, and with an end."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from batches.checking.checkers import resolver as resolver_module
from batches.checking.checkers.base import NO_ANSWER, NO_SUCH_HOST, FetchError, NoAnswer
from batches.checking.checkers.clock import Clock
from batches.checking.checkers.http import HttpChecker
from batches.checking.checkers.resolver import LOOPBACK, Resolver
from batches.tests.support.feedserver import WAIT_SECONDS
from batches.tests.support.nameserver import SILENT, NameServer
from batches.tests.support.processes import wait_until
from batches.tests.support.time import Time

from .conftest import quick_config, run_with, with_checker


@pytest.fixture
def names(names: NameServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    """The only name server that is asked."""
    names.use(monkeypatch)
    return names


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lookup times out during the test."""
    monkeypatch.setattr(resolver_module, "TRIES", 1000)
    monkeypatch.setattr(resolver_module, "MAX_SECONDS", 3600.0)


def with_resolver(work: Callable[[Resolver], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        resolver = Resolver()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await work(resolver)
        finally:
            await resolver.close()

    return asyncio.run(run())


def resolve(*names: str) -> list[Any]:
    """The addresses of each name, or the reason for the failure."""

    async def resolve_one(resolver: Resolver, name: str) -> Any:
        try:
            return list(await resolver.resolve(name))
        except FetchError as error:
            return str(error)

    async def all_of_them(resolver: Resolver) -> list[Any]:
        return [await resolve_one(resolver, name) for name in names]

    found: list[Any] = with_resolver(all_of_them)
    return found


def test_a_name_leads_to_its_addresses_of_both_families(names):
    names.answer("both.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"])
    [found] = resolve("both.example")
    assert sorted(found) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]


@pytest.mark.parametrize("name", ["localhost", "localhost.", "a.localhost", "a.b.localhost."])
def test_a_loopback_name_is_never_queried(name, names):
    assert resolve(name) == [list(LOOPBACK)]
    assert names.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("NXDOMAIN", NO_SUCH_HOST), ([], NO_SUCH_HOST), ("SERVFAIL", NO_ANSWER), ("REFUSED", NO_ANSWER)],
    ids=str,
)
def test_the_reason_for_a_name_without_addresses_is_remembered(answer, reason, names):
    names.answer("dead.example", answer)
    assert resolve("dead.example") == [reason]
    asked = len(names.asked)
    assert resolve(*["dead.example"] * 5) == [reason] * 5
    assert len(names.asked) == 2 * asked  # by the second resolver, once


@pytest.mark.parametrize("name", ["a" * 64 + ".example", ".".join(["a" * 60] * 5), "a..example"])
def test_a_text_that_is_not_a_name_is_not_looked_up(name, names):
    assert resolve(name) == [NO_SUCH_HOST]
    assert names.asked == []


def test_a_name_without_an_answer_times_out_and_is_not_queried_again(names, monkeypatch):
    monkeypatch.setattr(resolver_module, "MAX_SECONDS", 0.2)
    monkeypatch.setattr(resolver_module, "QUICK_SECONDS", 0.1)
    names.answer("silent.example", SILENT)
    assert resolve("silent.example", "silent.example") == [NO_ANSWER] * 2
    wait_until(lambda: names.asked)  # by the server, in its own thread
    assert len(names.asked) == 1


@pytest.mark.parametrize(("ttl", "seconds"), [(1, 1), (30, 30), (3600, 60)])
def test_an_answer_is_remembered_for_as_long_as_it_says_but_at_most_a_minute(ttl, seconds, names, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(resolver_module, "monotonic", lambda: now[0])
    names.ttl = ttl
    names.answer("a.example", ["192.0.2.1"])

    @with_resolver
    async def _(resolver: Resolver) -> None:
        await resolver.resolve("a.example")
        known = resolver._known["a.example"]
        now[0] += seconds - 0.5
        await resolver.resolve("a.example")
        assert resolver._known["a.example"] is known
        now[0] += 1
        await resolver.resolve("a.example")
        assert resolver._known["a.example"] is not known


def test_many_checks_wait_for_one_answer_about_a_name_and_a_cancelled_one_does_no_harm(names, monkeypatch):
    monkeypatch.setattr(resolver_module, "FIRST_SECONDS", 1.0)
    names.answer("a.example", SILENT, ["192.0.2.1"])

    @with_resolver
    async def _(resolver: Resolver) -> None:
        lookups = [asyncio.create_task(resolver.resolve("a.example")) for _ in range(20)]
        await asyncio.sleep(0)
        lookups.pop(0).cancel()
        assert await asyncio.gather(*lookups) == [["192.0.2.1"]] * 19
        assert 2 <= len(names.asked) < 10  # c-ares asks again, on a busy machine more than once


def test_the_number_of_lookups_at_once_is_limited_but_silent_ones_make_room(names, endless, monkeypatch):
    monkeypatch.setattr(resolver_module, "MAX_AT_ONCE", 3)

    @with_resolver
    async def _(resolver: Resolver) -> None:
        asked: list[str] = []

        def ask(name: str, flags: int) -> asyncio.Future[Any]:
            asked.append(name)
            return asyncio.get_running_loop().create_future()

        monkeypatch.setattr(resolver._dns, "getaddrinfo", ask)
        time = Time(asyncio.get_running_loop())
        lookups = [asyncio.create_task(resolver.resolve(f"{number}.example")) for number in range(9)]
        await time.pass_by()
        assert len(asked) == 3
        for expected in (3, 6, 6, 9):
            await time.pass_by(0.6 * resolver_module.QUICK_SECONDS)
            assert len(asked) == expected
        await resolver.close()
        await asyncio.gather(*lookups, return_exceptions=True)


def test_the_names_that_are_remembered_are_limited(names, monkeypatch):
    """Also by c-ares: those of a long run took all of the memory."""
    monkeypatch.setattr(resolver_module, "MAX_CACHED", 10)
    monkeypatch.setattr(resolver_module, "MAX_CACHED_BY_ARES", 10)
    names.ttl = 3600
    for number in range(30):
        names.answer(f"{number}.example", ["192.0.2.1"])

    @with_resolver
    async def _(resolver: Resolver) -> None:
        for number in range(30):
            await resolver.resolve(f"{number}.example")
        assert list(resolver._known) == [f"{number}.example" for number in range(20, 30)]
        while names.asked.count("0.example") == 1:  # it forgets in its own thread
            resolver._known.pop("0.example", None)
            await resolver.resolve("0.example")


def test_a_resolver_is_closed_at_once_whatever_it_waits_for(names, endless):
    names.answer("silent.example", SILENT)

    @with_resolver
    async def _(resolver: Resolver) -> None:
        lookup = asyncio.create_task(resolver.resolve("silent.example"))
        await asyncio.sleep(0)
        await resolver.close()
        with pytest.raises(NoAnswer, match=NO_ANSWER):
            await lookup


# With a checker


def test_a_check_keeps_its_place_if_the_name_is_found_at_once(names, server):
    """Otherwise, any number of checks could run after their lookups."""
    names.answer("good.example", ["127.0.0.1"])
    server.answer("/", body=b"a")
    waits: list[bool] = []

    async def check(checker: HttpChecker) -> None:
        with Clock(on_wait=waits.append):
            await checker.fetch(server.url("/", host="good.example"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resolver_module, "PATIENCE", 60.0)
        run_with(HttpChecker(quick_config()), check)
    assert waits == []


@pytest.mark.slow
def test_names_without_an_answer_delay_no_other_and_are_not_charged(names, endless, server):
    for number in range(200):
        names.answer(f"{number}.example", SILENT)
    names.answer("good.example", ["127.0.0.1"])
    server.answer("/", body=b"a")
    waits: list[bool] = []

    @with_checker()
    async def _(checker: HttpChecker) -> None:
        all_wait = asyncio.Event()

        def on_wait(begins: bool) -> None:
            waits.append(begins)
            if len(waits) == 200:
                all_wait.set()

        async def fetch_silent(number: int) -> None:
            with Clock(on_wait=on_wait):
                await checker.fetch(f"http://{number}.example/")

        silent = [asyncio.create_task(fetch_silent(number)) for number in range(200)]
        await all_wait.wait()
        for _ in range(50):
            assert (await checker.fetch(server.url("/", host="good.example"))).body == b"a"
        assert not any(task.done() for task in silent)
        assert waits == [True] * 200  # each has left its place to another
        for task in silent:
            task.cancel()
