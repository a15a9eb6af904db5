"""The order of checks: slow checks, checks that wait for our resources, and paused hosts do not delay others."""

import asyncio
import weakref
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest

from batches.checking.checkers.base import Checker, CheckResult, HostPaused, ProfileToCheck, Story
from batches.checking.checkers.clock import not_charged
from batches.checking.checks import SECONDS_BETWEEN_LOOKS, Checks
from batches.checking.slowness import Pace
from batches.conf import Config
from batches.tests.support.time import Time, with_opened

ONE_LOOK = SECONDS_BETWEEN_LOOKS + 0.01
SLOW = Pace().slow_seconds + ONE_LOOK


class World(Checker):
    """Checks of profiles that are named by their hosts, by a script that gets the host. Notes the hosts."""

    def __init__(self, time, script, **config):
        super().__init__(Config(**config))
        self.time, self.script = time, script
        self.checks = Checks(self, "scripted", self.config, lambda: None)
        self.added = []
        self.checked = []

    async def check(self, profile):
        host = profile.url.split("/")[2]
        self.checked.append(host)
        return await self.script(host) or CheckResult(True)

    def scripted(self, script):
        """Check by this script from now on."""
        self.script = script

    async def add(self, *hosts):
        """Add a profile of each, and let the checks that can start do so."""
        start = len(self.added)
        self.added += hosts
        self.checks.add(ProfileToCheck(start + number, f"http://{host}/{number}") for number, host in enumerate(hosts))
        await self.time.pass_by()

    @property
    def results(self):
        return list(self.checks.results)

    @property
    def errors(self):
        """By host; the last result of each counts."""
        return {self.added[number]: result.error for number, result in self.results}


async def nothing(host):
    pass


def in_world(script=nothing, **config):
    """Runs a test in a world with this script, which it can replace."""

    @asynccontextmanager
    async def open_world():
        world = World(Time(asyncio.get_running_loop()), script, **config)
        yield world
        await world.checks.close()

    return with_opened(open_world)


# Results


@in_world(record_size=3)
@patch("batches.checking.checks.STORIES_AT_ONCE", 10)
async def test_results_are_taken_in_chunks_that_have_not_too_many_stories(world):
    @world.scripted
    async def answer(host):
        return CheckResult(True, stories=[Story(f"{number}") for number in range(5 if int(host) in {6, 7} else 4)])

    await world.add(*(f"{number}" for number in range(9)))
    chunks = []
    while world.checks.results:
        chunks.append((len(world.checks.take_chunk()), world.checks.has_chunk))
    assert chunks == [(3, True), (3, True), (2, False), (1, False)]
    assert world.checks._stories == 0


@pytest.mark.parametrize(("record_size", "stories"), [(2, 0), (500, 1)])
def test_no_check_starts_while_many_results_or_stories_wait_to_be_recorded(record_size, stories):
    async def answer(host):
        return CheckResult(True, stories=[Story("1")] * stories)

    @in_world(answer, concurrency=1, record_size=record_size)
    @patch("batches.checking.checks.STORIES_AT_ONCE", 2)
    async def run(world):
        await world.add(*(f"{number}" for number in range(20)))
        assert (len(world.checked), world.checks._tasks) == (8, set())
        world.checks.take_chunk()
        world.checks.start()
        await world.time.pass_by()
        assert len(world.checked) == 10

    run()


# Waiting for something of ours


@in_world(concurrency=1, check_timeout=5.0)
async def test_a_check_that_waits_for_us_leaves_its_place_to_others_and_its_clock_stops(world):
    ours = asyncio.Event()

    @world.scripted
    async def wait(host):
        if "waits" in host:
            with not_charged():
                await ours.wait()

    await world.add("waits1", "waits2", "a", "b")
    world.checks.add_no_more()
    await world.time.pass_by(1000.0)
    assert world.errors == {"a": "", "b": ""}
    ours.set()
    await world.time.pass_by(1.0)
    assert world.errors == dict.fromkeys(["a", "b", "waits1", "waits2"], "")
    assert world.checks.is_idle


@in_world(concurrency=2, check_timeout=5.0)
async def test_a_check_that_waits_with_an_open_connection_keeps_its_place(world):
    @world.scripted
    async def wait(host):
        with not_charged(keeps_place=True):
            await asyncio.Event().wait()

    await world.add("a", "b", "c")
    await world.time.pass_by(1000.0)
    assert world.checked == ["a", "b"]


@in_world(concurrency=1)
async def test_checks_that_continue_after_a_wait_get_places_before_new_ones(world):
    ours, running = asyncio.Event(), []
    theirs = {host: asyncio.Event() for host in "abcd"}

    @world.scripted
    async def wait(host):
        with not_charged():
            await ours.wait()
        running.append(host)
        await theirs[host].wait()
        running.remove(host)

    await world.add("a", "b", "c")
    ours.set()
    await world.time.pass_by()
    await world.add("d")
    for host, others in {"a": ["b", "c"], "b": ["c"], "c": ["d"], "d": []}.items():
        theirs[host].set()
        await world.time.pass_by()
        assert running == others
    assert len(world.errors) == 4


@in_world(concurrency=1)
@patch("batches.checking.checks.MAX_WAITING", 3)
async def test_no_more_checks_wait_than_memory_allows(world):
    @world.scripted
    async def wait(host):
        with not_charged():
            await asyncio.Event().wait()

    await world.add(*(f"host{number}" for number in range(10)))
    assert len(world.checked) == 3


@in_world(concurrency=1, check_timeout=5.0)
async def test_a_check_that_was_ended_leaves_nothing_behind_for_the_next_one(world):
    """Libraries would take it for their own cancellation."""
    cancellations, tidied = [], []

    @world.scripted
    async def check(host):
        if host == "a":
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(3 * ONE_LOOK)
                tidied.append(host)
        task = asyncio.current_task()
        cancellations.append(task.cancelling() if task else None)

    await world.add("a", "b")
    await world.time.pass_by(6.0)
    world.checks.interrupt()
    for _ in range(4):
        await world.time.pass_by(ONE_LOOK)
    assert world.errors == {"a": "The check did not finish within 5 s.", "b": ""}
    assert (tidied, cancellations) == (["a"], [0])


@in_world(concurrency=1, check_timeout=5.0)
async def test_a_check_that_does_not_end_when_it_is_cancelled_is_cancelled_again(world):
    @world.scripted
    async def check(host):
        while host == "a" and len(cancelled) < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(world.time.now)
        task = asyncio.current_task()
        cancellations.append(task.cancelling() if task else None)

    cancelled = []
    cancellations = []
    await world.add("a", "b")
    for _ in range(120):
        await world.time.pass_by(ONE_LOOK)
    assert world.errors == {"a": "", "b": ""}
    assert cancellations[1:] == [0]
    assert cancelled[1] - cancelled[0] == pytest.approx(5.0, abs=0.3)


# Slow hosts


def tarpits(*hosts):
    async def wait(host):
        if host in hosts:
            await asyncio.sleep(50.0)

    return wait


@in_world(tarpits("s1", "s2", "s3", "s4"), concurrency=4)
async def test_slow_hosts_get_a_quarter_of_the_places_and_the_others_the_rest(world):
    """Of the four tarpits that have the four places, three make room and are checked later."""
    slow = ["s1", "s2", "s3", "s4"]
    await world.add(*slow, "a", "b", "c")
    assert world.checked == slow
    await world.time.pass_by(SLOW)
    assert world.errors == dict.fromkeys("abc", "")
    await world.add("d", "e")
    assert world.errors == dict.fromkeys("abcde", "")
    for _ in range(5):
        await world.time.pass_by(50.0)
    assert world.errors == dict.fromkeys([*"abcde", *slow], "")
    assert sorted(world.checked) == sorted([*"abcde", *slow, *slow[1:]])


@in_world(tarpits("s1", "s2", "s3", "s4"), concurrency=4)
async def test_slow_hosts_make_room_for_profiles_that_are_read_only_then(world):
    """If the next page comes late, nobody waits yet when they become slow."""
    await world.add("s1", "s2", "s3", "s4")
    await world.time.pass_by(SLOW)
    await world.add("a", "b")
    await world.time.pass_by(ONE_LOOK)
    assert world.errors == {"a": "", "b": ""}
    await world.add("c", "d", "e")
    await world.time.pass_by(ONE_LOOK)
    assert world.errors == dict.fromkeys("abcde", "")
    assert world.checked == ["s1", "s2", "s3", "s4", *"abcde"]


@in_world(tarpits("s1", "s2", "s3", "s4"), concurrency=4)
async def test_slow_hosts_make_room_also_when_everything_was_read(world):
    await world.add("s1", "s2", "s3", "s4", "a", "b", "c")
    world.checks.add_no_more()
    await world.time.pass_by()
    await world.time.pass_by(SLOW)
    assert world.errors == dict.fromkeys("abc", "")
    assert world.checked == ["s1", "s2", "s3", "s4", "a", "b", "c", "s2", "s3", "s4"]


@in_world(tarpits("s1", "s2"), concurrency=2)
async def test_a_check_makes_room_only_once(world):
    await world.add("s1", "s2", "a")
    await world.time.pass_by(SLOW)
    assert world.checked == ["s1", "s2", "a"]
    await world.time.pass_by(50.0)
    await world.add("b", "c")
    for _ in range(600):
        await world.time.pass_by(ONE_LOOK)
    assert world.checked == ["s1", "s2", "a", "s2", "b", "c"]
    assert len(world.errors) == 5


@in_world(tarpits("s1", "s2"), concurrency=2)
async def test_a_host_that_was_slow_has_no_place_of_the_others(world):
    await world.add("s1", "s2")
    await world.time.pass_by(51.0)
    await world.add("s1", "s2", "s1", "s2", "a")
    assert world.checked == ["s1", "s2", "a", "s1"]


@in_world(tarpits("s"), concurrency=10, per_host=2)
async def test_a_host_gets_no_more_checks_at_once_than_allowed(world):
    await world.add(*["s"] * 5, "a")
    assert world.checked == ["s", "s", "a"]


@in_world(lambda host: asyncio.sleep(5.0), concurrency=4)
async def test_where_all_checks_take_long_none_of_them_is_slow(world):
    for number in range(100):
        await world.add(*(f"{number}-{other}" for other in range(4)))
        for _ in range(20):
            await world.time.pass_by(0.25)
    before = len(world.checked)
    await world.add(*(f"more-{number}" for number in range(40)))
    for _ in range(10 * 20):
        await world.time.pass_by(0.25)
    assert len(world.checked) - before == 40


def test_a_few_endless_checks_do_not_change_the_usual_duration():
    pace = Pace()
    for number in range(1000):
        assert pace.note(20.0 if number % 20 == 0 else 0.1) == (number % 20 == 0)
    assert pace.slow_seconds < 1.5


@pytest.mark.parametrize(("usual", "slow"), [(0.001, 0.125), (0.02, 0.125), (0.2, 0.8), (5.0, 20.0)])
def test_the_limit_of_slow_checks_depends_on_the_usual_duration(usual, slow):
    pace = Pace()
    for _ in range(1000):
        pace.note(usual)
    assert pace.slow_seconds == pytest.approx(slow, rel=0.06)


# Paused hosts


BUSY = "answered 429 Too Many Requests"


def pauses(host, *seconds):
    """Checks of this host meet these pauses, one after the other."""
    left = list(seconds)

    async def check(checked):
        if checked == host and left:
            raise HostPaused(host, left.pop(0), BUSY, 429)

    return check


@in_world(per_host=1)
async def test_the_profiles_of_a_paused_host_are_put_off_and_checked_when_its_pause_is_over(world):
    world.script = pauses("a", 40.0)
    await world.add("a", "b", "a", "a", "c")
    world.checks.add_no_more()
    await world.time.pass_by()
    assert world.checked == ["a", "b", "c"]
    await world.time.pass_by(39.0)
    assert world.checked == ["a", "b", "c"]
    assert not world.checks.is_idle
    await world.time.pass_by(2.0)
    assert world.checked == ["a", "b", "c", "a", "a", "a"]
    assert [result.ok for _, result in world.results] == [True] * 5
    assert world.checks.is_idle


@in_world()
async def test_a_profile_that_waits_for_the_end_of_a_pause_keeps_nothing_of_its_check_in_memory(world):
    """If a list redirects to a paused host, 10,000 wait: they took 53 MB."""
    responses = weakref.WeakSet()

    @world.scripted
    async def check(host):
        response = asyncio.Event()
        responses.add(response)
        raise HostPaused(host, 10.0, BUSY)

    await world.add("a")
    assert (world.checked, len(world.checks.window), len(responses)) == (["a"], 1, 0)


@in_world(check_timeout=1e6)
async def test_profiles_of_a_paused_host_do_not_fail_while_others_are_checked(world):
    theirs = asyncio.Event()
    pause = pauses("a", *[3600.0] * 9)

    @world.scripted
    async def check(host):
        await pause(host)
        if host == "b":
            await theirs.wait()

    await world.add("a", "a", "b")
    world.checks.add_no_more()
    await world.time.pass_by(1000.0)
    assert world.errors == {}
    theirs.set()
    await world.time.pass_by()
    assert world.errors == {"b": "", "a": BUSY}
    assert [result.http_status for _, result in world.results] == [None, None, 429]
    assert world.checks.is_idle


@in_world()
async def test_profiles_of_a_paused_host_do_not_fail_while_others_may_be_read(world):
    world.script = pauses("a", 3600.0)
    await world.add("a")
    await world.time.pass_by(1000.0)
    assert world.errors == {}
    world.checks.add_no_more()
    assert world.errors == {"a": BUSY}


@in_world(per_host=1, max_retry_after=100.0)
async def test_a_batch_waits_for_its_last_hosts_as_long_as_they_answer_now_and_then(world):
    @world.scripted
    async def check(host):
        if len(world.checked) % 2:
            raise HostPaused(host, 60.0, BUSY, 503)

    await world.add(*["a"] * 4)
    world.checks.add_no_more()
    for _ in range(30):
        await world.time.pass_by(10.0)
    assert [result.ok for _, result in world.results] == [True] * 4
    assert len(world.checked) == 4 + 4


@in_world(per_host=1, max_retry_after=100.0)
async def test_a_batch_waits_only_so_long_for_hosts_that_do_not(world):
    world.script = pauses("a", 5.0, 10.0, 20.0, 70.0)
    await world.add("b", "a", "a")
    world.checks.add_no_more()
    await world.time.pass_by(1.0)
    assert world.errors == {"b": ""}
    for _ in range(20):
        await world.time.pass_by(5.0)
    assert world.checked.count("a") == 4
    assert world.errors == {"b": "", "a": BUSY}
    assert world.time.now <= 100.0 + 101.0


@in_world()
async def test_a_pause_of_no_length_does_not_keep_the_event_loop_busy(world):
    world.script = pauses("a", -5.0, 0.0)
    await world.add("a")
    for checks in range(1, 4):
        assert world.checked == ["a"] * checks
        await world.time.pass_by(0.1)


@in_world()
async def test_a_pause_that_is_over_does_not_begin_again_when_the_next_check_is_interrupted(world):
    meet_pause = pauses("a", 40.0)

    @world.scripted
    async def check(host):
        await meet_pause(host)
        if len(world.checked) == 2:
            await asyncio.Event().wait()

    await world.add("a")
    await world.time.pass_by(41.0)
    world.checks.interrupt()
    await world.time.pass_by()
    assert world.checked == ["a"] * 3


@in_world()
async def test_when_the_run_stops_nothing_is_recorded_of_profiles_that_were_put_off(world):
    world.script = pauses("a", 10.0)
    await world.add("a")
    world.checks.stop()
    await world.time.pass_by(1000.0)
    assert (world.checks.is_idle, world.errors, world.checked) == (True, {}, ["a"])


@in_world()
async def test_a_check_that_meets_a_pause_while_the_run_stops_is_not_waited_for(world):
    theirs = asyncio.Event()

    @world.scripted
    async def check(host):
        await theirs.wait()
        raise HostPaused(host, 10.0, BUSY)

    await world.add("a")
    world.checks.stop()
    theirs.set()
    await world.time.pass_by()
    assert (world.checks.is_idle, world.errors) == (True, {})
