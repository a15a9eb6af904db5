"""Politeness: few requests at once to one host, and none while it asks for a pause."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from batches.checking.checkers import clock as charging
from batches.checking.checkers import politeness
from batches.checking.checkers.base import ProfileToCheck
from batches.checking.checkers.politeness import HostNote, HostPaused, HostSlots, parse_retry_after
from batches.tests.support.time import asynchronous, put_forward

from .conftest import short, with_checker


def start_fetches(checker, *urls):
    return [asyncio.create_task(checker.fetch(url)) for url in urls]


@with_checker(per_host=2, allowed_networks=("127.0.0.0/8", "::1"))
async def test_a_host_gets_at_most_per_host_requests_at_once_whatever_the_case_of_its_name(checker, server):
    gate = server.hold("/")
    names = ("localhost", "LocalHost", "LOCALHOST") * 4
    fetches = start_fetches(checker, *(server.url("/", host=name) for name in names))
    await asyncio.to_thread(gate.wait_for, 2)
    assert server.hits("/") == 2
    gate.open()
    await asyncio.gather(*fetches)
    assert server.hits("/") == 12
    assert server.most_at_once("localhost") == 2


@with_checker(per_host=1)
async def test_a_redirect_releases_one_hosts_slot_and_takes_the_others(checker, server):
    other = server.url("/held", host="127.0.0.2")
    server.redirect("/to-other", other)
    server.answer("/held", body=b"a")
    gate = server.hold("/held")
    redirected = start_fetches(checker, server.url("/to-other"))
    await asyncio.to_thread(gate.wait_for)
    assert (await checker.fetch(server.url("/"))).body == b"a"
    waiting = start_fetches(checker, other)
    await checker.fetch(server.url("/"))
    assert server.hits("/held") == 1
    gate.open()
    await asyncio.gather(*redirected, *waiting)


REFUSALS = [
    (429, {}, 5.0, "answered 429 Too Many Requests"),
    (429, {"Retry-After": "40"}, 40.0, "asked us to wait 40 s"),
    (503, {"Retry-After": "3600"}, 3600.0, "asked us to wait 3600 s"),
    (429, {"Retry-After": "9" * 30}, 7 * 24 * 3600.0, "asked us to wait 999999999 s"),
]


@pytest.mark.parametrize(("status", "headers", "seconds", "reason"), REFUSALS)
@with_checker(retries=2)
async def test_a_host_that_wants_a_pause_gets_no_request_and_the_others_do(
    checker, status, headers, seconds, reason, server
):
    server.answer("/busy", status=status, headers=headers)
    for path, http_status in {"/busy": status, "/": None, "/?again": None}.items():
        with pytest.raises(HostPaused) as pause:
            await checker.check(ProfileToCheck(1, server.url(path)))
        assert (pause.value.host, str(pause.value), pause.value.http_status) == ("127.0.0.1", reason, http_status)
        assert pause.value.seconds == pytest.approx(seconds, abs=60)
    await checker.fetch(server.url("/", host="127.0.0.2"))
    assert [request.host for request in server.requests] == ["127.0.0.1", "127.0.0.2"]


@with_checker()
async def test_a_profile_that_redirects_to_a_paused_host_waits_for_that_one(checker, server):
    server.redirect("/moved", server.url("/hub", host="127.0.0.2"))
    server.answer("/hub", status=429)
    for _ in range(2):
        with pytest.raises(HostPaused) as pause:
            await checker.check(ProfileToCheck(1, server.url("/moved")))
        assert pause.value.host == "127.0.0.2"
    assert (server.hits("/moved"), server.hits("/hub")) == (2, 1)


@with_checker(per_host=1)
async def test_waiting_for_a_slot_is_not_charged_to_the_check(checker, server):
    gate = server.hold("/")

    async def check():
        with charging.Clock():  # as every run has one around each check
            return await checker.check(ProfileToCheck(1, server.url("/")))

    checks = [asyncio.create_task(check()) for _ in range(3)]
    await asyncio.to_thread(gate.wait_for)
    put_forward(100.0)
    gate.open()
    # The server has held the first one for that long. The others have waited for it even longer.
    durations = sorted([(await check).duration for check in checks])
    assert durations[2] > 100.0
    assert durations[1] < 50.0


@pytest.mark.parametrize("status", [404, 200])
@with_checker()
async def test_the_retry_after_of_another_status_is_ignored(checker, status, server):
    server.answer("/", status=status, headers={"Retry-After": "3600"})
    for _ in range(2):
        await asyncio.gather(*start_fetches(checker, server.url("/")), return_exceptions=True)
    assert server.hits("/") == 2


# The manners of hosts


def refuse(slots, name="a.example", status=429, retry_after=0.0):
    """The seconds of the pause."""
    with pytest.raises(HostPaused) as pause:
        slots.note_refusal(name, status, retry_after)
    return pause.value.seconds


async def request(slots, name="a.example", status=200):
    await slots.take_slot(name)
    slots.note_answer(name, status)
    slots.release(name)


def test_a_host_that_refuses_again_and_again_is_asked_less_and_less_often(clock):
    slots, pauses = HostSlots(2), []
    for _ in range(10):
        pauses.append(refuse(slots))
        clock.now += pauses[-1]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    slots.note_answer("a.example", 200)
    assert refuse(slots) == 5


def test_two_refusals_of_requests_at_once_count_once(clock):
    slots = HostSlots(2)
    assert [refuse(slots), refuse(slots)] == [5, 5]
    clock.now += 5
    assert refuse(slots) == 10


@asynchronous
async def test_a_host_that_has_refused_gets_requests_at_an_interval_until_it_has_answered_often(clock, monkeypatch):
    monkeypatch.setattr(politeness.asyncio, "sleep", clock.sleep)
    slots, times = HostSlots(2), []
    clock.now += refuse(slots)
    for _ in range(12):
        await request(slots)
        times.append(clock.now)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps[:3] == pytest.approx([1.0, 0.9, 0.81])
    assert gaps[-3:] == [0, 0, 0]
    assert slots._manners == {}


def test_the_interval_grows_up_to_ten_seconds(clock):
    slots, intervals = HostSlots(2), []
    for _ in range(6):
        clock.now += refuse(slots)
        intervals.append(slots.take_notes()[0].interval)
    assert intervals == [1, 2, 4, 8, 10, 10]


def test_a_shorter_pause_does_not_end_a_longer_one(clock):
    slots = HostSlots(2)
    assert refuse(slots, retry_after=3600.0) == 3600
    assert refuse(slots, retry_after=1.0) == 3600


def test_the_limits_of_hosts_are_noted_once_and_recalled_in_the_next_run(clock):
    slots = HostSlots(2)
    assert slots.take_notes() == []
    refuse(slots, "a.example", 429, 40.0)
    refuse(slots, "b.example", 503, 60.0)
    clock.now += 10
    notes = slots.take_notes()
    assert sorted(notes) == [HostNote("a.example", 30, 1, 1, 429), HostNote("b.example", 50, 1, 1, 503)]
    assert slots.take_notes() == []
    later = HostSlots(2)
    later.recall(notes)
    assert later.take_notes() == []
    with pytest.raises(HostPaused, match=r"^asked us earlier to wait, for 30 s more$") as pause:
        asyncio.run(request(later))
    assert pause.value.seconds == 30


def test_a_limit_that_another_worker_noted_counts_if_it_is_stricter(clock):
    slots = HostSlots(2)
    refuse(slots, "a.example", 429, 40.0)
    clock.now += 30
    slots.recall([HostNote("a.example", 10.0, 5, 9.0, 503)])  # our own note comes back
    assert slots.take_notes() == [HostNote("a.example", 10, 1, 1, 429)]
    slots.recall([HostNote("a.example", 60.0, 2, 2.0, 503)])
    with pytest.raises(HostPaused, match=r"^asked us earlier to wait, for 60 s more$"):
        asyncio.run(request(slots))


def test_a_host_that_is_well_again_is_noted_too(clock):
    slots = HostSlots(2)
    clock.now += refuse(slots)
    slots.take_notes()
    for _ in range(10):
        slots.note_answer("a.example", 200)
    assert slots.take_notes() == [HostNote("a.example")]


@asynchronous
async def test_nothing_is_kept_of_hosts_that_are_not_in_use():
    slots = HostSlots(per_host=2)
    for number in range(1000):
        await slots.take_slot(f"{number}.example")
        slots.note_answer(f"{number}.example", 200)
        assert len(slots.slots._taken) == 1
        slots.release(f"{number}.example")
    used = len(slots.slots._taken), len(slots.slots._waiting)
    assert (*used, len(slots._manners), slots.take_notes()) == (0, 0, 0, [])


@asynchronous
async def test_a_slot_that_is_given_to_a_check_as_it_is_cancelled_goes_to_the_next_one():
    slots = HostSlots(per_host=1)
    await slots.take_slot("a.example")
    waiting = [asyncio.create_task(slots.take_slot("a.example")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    slots.release("a.example")
    waiting[1].cancel()
    await waiting[2]
    slots.release("a.example")
    assert (slots.slots._taken, len(slots.slots._waiting)) == ({}, 0)


def test_a_million_paused_hosts_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(politeness, "MAX_HOSTS", 100)
    slots = HostSlots(per_host=2)
    for number in range(1000):
        refuse(slots, f"{number}.example")
    slots.recall([HostNote("recalled.example", 5.0)])
    assert list(slots._manners) == [*(f"{number}.example" for number in range(901, 1000)), "recalled.example"]
    assert len(slots.take_notes()) == 99


@with_checker(per_host=1)
async def test_a_cancelled_check_leaves_no_slot_taken(checker, server):
    gate = server.hold("/")
    fetches = start_fetches(checker, *[server.url("/")] * 4)
    await asyncio.to_thread(gate.wait_for)
    for started in fetches:
        started.cancel()
    await asyncio.gather(*fetches, return_exceptions=True)
    gate.open()
    assert (await checker.fetch(server.url("/"))).body == b"a"


# Retry-After


SECONDS = {"5": 5, " 120 ": 120, "0": 0, "": 0, "-5": 0, "5.5": 0, "soon": 0, "٥": 0, "9" * 400: 999_999_999}


@pytest.mark.parametrize(("value", "seconds"), SECONDS.items(), ids=short)
def test_retry_after_is_read_as_seconds(value, seconds):
    assert parse_retry_after(value) == seconds


def test_retry_after_is_read_as_a_date():
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    for written in (format_datetime(in_an_hour, usegmt=True), in_an_hour.strftime("%A, %d-%b-%y %H:%M:%S GMT")):
        assert 3000 < parse_retry_after(written) <= 3600
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert parse_retry_after("Thu, 99 Foo 9999 00:00:00 GMT") == 0
    assert parse_retry_after("Fri, 31 Dec 9999 23:59:59 -2359") >= 0
