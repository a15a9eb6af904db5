"""Names: looked up once for many, without threads, and with an end."""

import asyncio
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest

from batches.checking.checkers import resolver as resolver_module
from batches.checking.checkers.base import NO_ANSWER, NO_SUCH_HOST, FetchError, NoAnswer
from batches.checking.checkers.clock import Clock
from batches.checking.checkers.resolver import LOOPBACK, Resolver
from batches.tests.support.feedserver import WAIT_SECONDS
from batches.tests.support.nameserver import SILENT
from batches.tests.support.processes import wait_until
from batches.tests.support.time import Time, with_opened

from .conftest import with_checker


@pytest.fixture
def names(names, monkeypatch):
    """The only name server that is asked."""
    names.use(monkeypatch)
    return names


@pytest.fixture
def endless(monkeypatch):
    """No lookup times out during the test."""
    monkeypatch.setattr(resolver_module, "TRIES", 1000)
    monkeypatch.setattr(resolver_module, "MAX_SECONDS", 3600.0)


@with_opened
@asynccontextmanager
async def with_resolver():
    resolver = Resolver()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            yield resolver
    finally:
        await resolver.close()


async def resolve(resolver, name):
    """The addresses, or the reason for the failure."""
    try:
        return list(await resolver.resolve(name))
    except FetchError as error:
        return str(error)


@with_resolver
async def test_a_name_leads_to_its_addresses_of_both_families(resolver, names):
    names.answer("both.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"])
    assert sorted(await resolver.resolve("both.example")) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]


@pytest.mark.parametrize("name", ["localhost", "localhost.", "a.localhost", "a.b.localhost."])
@with_resolver
async def test_a_loopback_name_is_never_queried(resolver, name, names):
    assert await resolver.resolve(name) == LOOPBACK
    assert names.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("NXDOMAIN", NO_SUCH_HOST), ([], NO_SUCH_HOST), ("SERVFAIL", NO_ANSWER), ("REFUSED", NO_ANSWER)],
    ids=str,
)
@with_resolver
async def test_the_reason_for_a_name_without_addresses_is_remembered(resolver, answer, reason, names):
    names.answer("dead.example", answer)
    assert await resolve(resolver, "dead.example") == reason
    asked = len(names.asked)
    assert [await resolve(resolver, "dead.example") for _ in range(5)] == [reason] * 5
    assert len(names.asked) == asked


@pytest.mark.parametrize("name", ["a" * 64 + ".example", ".".join(["a" * 60] * 5), "a..example"])
@with_resolver
async def test_a_text_that_is_not_a_name_is_not_looked_up(resolver, name, names):
    assert await resolve(resolver, name) == NO_SUCH_HOST
    assert names.asked == []


@with_resolver
async def test_a_name_without_an_answer_times_out_and_is_not_queried_again(resolver, names, monkeypatch):
    monkeypatch.setattr(resolver_module, "MAX_SECONDS", 0.2)
    monkeypatch.setattr(resolver_module, "QUICK_SECONDS", 0.1)
    names.answer("silent.example", SILENT)
    assert [await resolve(resolver, "silent.example") for _ in range(2)] == [NO_ANSWER] * 2
    wait_until(lambda: names.asked)  # by the server, in its own thread
    assert len(names.asked) == 1


@pytest.mark.parametrize(("ttl", "seconds"), [(1, 1), (30, 30), (3600, 60)])
@with_resolver
async def test_an_answer_is_remembered_for_as_long_as_it_says_but_at_most_a_minute(
    resolver, ttl, seconds, names, clock
):
    names.ttl = ttl
    names.answer("a.example", ["192.0.2.1"])
    await resolver.resolve("a.example")
    known = resolver._known["a.example"]
    clock.now += seconds - 0.5
    await resolver.resolve("a.example")
    assert resolver._known["a.example"] is known
    clock.now += 1
    await resolver.resolve("a.example")
    assert resolver._known["a.example"] is not known


@patch("batches.checking.checkers.resolver.FIRST_SECONDS", 1.0)
@with_resolver
async def test_many_checks_wait_for_one_answer_about_a_name_and_a_cancelled_one_does_no_harm(resolver, names):
    names.answer("a.example", SILENT, ["192.0.2.1"])
    lookups = [asyncio.create_task(resolver.resolve("a.example")) for _ in range(20)]
    await asyncio.sleep(0)
    lookups.pop(0).cancel()
    assert await asyncio.gather(*lookups) == [["192.0.2.1"]] * 19
    assert 2 <= len(names.asked) < 10  # c-ares asks again, on a busy machine more than once


@patch("batches.checking.checkers.resolver.MAX_AT_ONCE", 3)
@with_resolver
async def test_the_number_of_lookups_at_once_is_limited_but_silent_ones_make_room(resolver, names, endless):
    asked = []

    def ask(name, flags):
        asked.append(name)
        return asyncio.get_running_loop().create_future()

    resolver._dns.getaddrinfo = ask
    time = Time(asyncio.get_running_loop())
    lookups = [asyncio.create_task(resolver.resolve(f"{number}.example")) for number in range(9)]
    await time.pass_by()
    assert len(asked) == 3
    for expected in (3, 6, 6, 9):
        await time.pass_by(0.6 * resolver_module.QUICK_SECONDS)
        assert len(asked) == expected
    await resolver.close()
    await asyncio.gather(*lookups, return_exceptions=True)


@with_resolver
async def test_the_names_that_are_remembered_are_limited(resolver, names, monkeypatch):
    """Also by c-ares: those of a long run took all of the memory."""
    monkeypatch.setattr(resolver_module, "MAX_CACHED", 10)
    monkeypatch.setattr(resolver_module, "MAX_CACHED_BY_ARES", 10)
    names.ttl = 3600
    for number in range(30):
        names.answer(f"{number}.example", ["192.0.2.1"])
    for number in range(30):
        await resolver.resolve(f"{number}.example")
    assert list(resolver._known) == [f"{number}.example" for number in range(20, 30)]
    while names.asked.count("0.example") == 1:  # it forgets in its own thread
        resolver._known.pop("0.example", None)
        await resolver.resolve("0.example")


@with_resolver
async def test_a_resolver_is_closed_at_once_whatever_it_waits_for(resolver, names, endless):
    names.answer("silent.example", SILENT)
    lookup = asyncio.create_task(resolver.resolve("silent.example"))
    await asyncio.sleep(0)
    await resolver.close()
    with pytest.raises(NoAnswer, match=NO_ANSWER):
        await lookup


# With a checker


@patch("batches.checking.checkers.resolver.PATIENCE", 60.0)
@with_checker()
async def test_a_check_keeps_its_place_if_the_name_is_found_at_once(checker, names, server):
    """Otherwise, any number of checks could run after their lookups."""
    names.answer("good.example", ["127.0.0.1"])
    waits = []
    with Clock(on_wait=waits.append):
        await checker.fetch(server.url("/", host="good.example"))
    assert waits == []


@pytest.mark.slow
@with_checker()
async def test_names_without_an_answer_delay_no_other_and_are_not_charged(checker, names, endless, server):
    for number in range(200):
        names.answer(f"{number}.example", SILENT)
    names.answer("good.example", ["127.0.0.1"])
    waits = []
    all_wait = asyncio.Event()

    def on_wait(begins):
        waits.append(begins)
        if len(waits) == 200:
            all_wait.set()

    async def fetch_silent(number):
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
