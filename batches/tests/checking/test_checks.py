"""The order of checks: slow checks, checks that wait for our resources, and paused hosts do not delay others."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from batches.checking.checkers.base import Checker, CheckResult, HostPaused, ProfileToCheck, Story
from batches.checking.checkers.clock import not_charged
from batches.checking.checks import SECONDS_BETWEEN_LOOKS, Checks
from batches.checking.slowness import Pace
from batches.conf import Config
from batches.tests.support.time import Time, in_time

Script = Callable[[str], Awaitable[CheckResult | None]]
ONE_LOOK = SECONDS_BETWEEN_LOOKS + 0.01
SLOW = Pace().slow_seconds + ONE_LOOK


class Scripted(Checker):
    """Runs a script with the host of each profile, and notes the hosts."""

    def __init__(self, script: Script) -> None:
        super().__init__(Config())
        self._script = script
        self.checked: list[str] = []

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        host = profile.url.split("/")[2]
        self.checked.append(host)
        return await self._script(host) or CheckResult(True)


class World:
    """Checks of a scripted checker, of profiles that are named by their hosts."""

    def __init__(self, time: Time, script: Script, **config: object) -> None:
        self.time = time
        self.checker = Scripted(script)
        self.checks = Checks(self.checker, "scripted", Config(**config), lambda: None)  # type: ignore[arg-type]
        self.hosts: list[str] = []

    @property
    def checked(self) -> list[str]:
        return self.checker.checked

    def add(self, *hosts: str) -> None:
        start = len(self.hosts)
        self.hosts += hosts
        self.checks.add(ProfileToCheck(start + number, f"http://{host}/{number}") for number, host in enumerate(hosts))

    @property
    def results(self) -> list[tuple[int, CheckResult]]:
        return list(self.checks._results)

    @property
    def errors(self) -> dict[str, str]:
        """By host; the last result of each counts."""
        return {self.hosts[number]: result.error for number, result in self.results}


def in_world(script: Script, work: Callable[[World], Awaitable[None]], **config: object) -> None:
    async def run(time: Time) -> None:
        world = World(time, script, **config)
        try:
            await work(world)
        finally:
            await world.checks.close()

    in_time(run)


async def nothing(host: str) -> None:
    pass


# Results


def test_results_are_taken_in_chunks_that_have_not_too_many_stories(monkeypatch):
    monkeypatch.setattr("batches.checking.checks.STORIES_AT_ONCE", 10)

    async def work(world: World) -> None:
        world.add(*(f"{number}" for number in range(9)))
        await world.time.pass_by()
        chunks = []
        while world.checks.has_results:
            chunks.append((len(world.checks.take_chunk()), world.checks.has_chunk))
        assert chunks == [(3, True), (3, True), (2, False), (1, False)]
        assert world.checks._stories == 0

    async def answer(host: str) -> CheckResult:
        return CheckResult(True, stories=[Story(f"{number}") for number in range(5 if int(host) in {6, 7} else 4)])

    in_world(answer, work, record_size=3)


def test_no_check_starts_while_many_stories_wait_to_be_recorded(monkeypatch):
    monkeypatch.setattr("batches.checking.checks.STORIES_AT_ONCE", 2)

    async def work(world: World) -> None:
        world.add(*(f"{number}" for number in range(20)))
        await world.time.pass_by()
        assert len(world.checked) == 8
        world.checks.take_chunk()
        world.checks.start()
        await world.time.pass_by()
        assert len(world.checked) == 10

    async def answer(host: str) -> CheckResult:
        return CheckResult(True, stories=[Story("1")])

    in_world(answer, work, concurrency=1)


# Waiting for something of ours


def test_a_check_that_waits_for_us_leaves_its_place_to_others_and_its_clock_stops():
    ours = asyncio.Event()

    async def wait(host: str) -> None:
        if "waits" in host:
            with not_charged():
                await ours.wait()

    async def work(world: World) -> None:
        world.add("waits1", "waits2", "a", "b")
        world.checks.add_no_more()
        await world.time.pass_by(1000.0)
        assert world.errors == {"a": "", "b": ""}
        ours.set()
        await world.time.pass_by(1.0)
        assert world.errors == dict.fromkeys(["a", "b", "waits1", "waits2"], "")
        assert world.checks.is_idle

    in_world(wait, work, concurrency=1, check_timeout=5.0)


def test_a_check_that_waits_with_an_open_connection_keeps_its_place():
    async def wait(host: str) -> None:
        with not_charged(keeps_place=True):
            await asyncio.Event().wait()

    async def work(world: World) -> None:
        world.add("a", "b", "c")
        await world.time.pass_by(1000.0)
        assert world.checked == ["a", "b"]

    in_world(wait, work, concurrency=2, check_timeout=5.0)


def test_checks_that_continue_after_a_wait_get_places_before_new_ones():
    ours, running = asyncio.Event(), []
    theirs = {host: asyncio.Event() for host in "abcd"}

    async def wait(host: str) -> None:
        with not_charged():
            await ours.wait()
        running.append(host)
        await theirs[host].wait()
        running.remove(host)

    async def work(world: World) -> None:
        world.add("a", "b", "c")
        await world.time.pass_by()
        ours.set()
        await world.time.pass_by()
        world.add("d")
        for host, others in {"a": ["b", "c"], "b": ["c"], "c": ["d"], "d": []}.items():
            theirs[host].set()
            await world.time.pass_by()
            assert running == others
        assert len(world.errors) == 4

    in_world(wait, work, concurrency=1)


def test_no_more_checks_wait_than_memory_allows(monkeypatch):
    monkeypatch.setattr("batches.checking.checks.MAX_WAITING", 3)

    async def wait(host: str) -> None:
        with not_charged():
            await asyncio.Event().wait()

    async def work(world: World) -> None:
        world.add(*(f"host{number}" for number in range(10)))
        await world.time.pass_by()
        assert len(world.checked) == 3

    in_world(wait, work, concurrency=1)


def test_the_time_of_a_check_is_the_time_that_its_site_takes():
    async def wait(host: str) -> None:
        with not_charged():
            await asyncio.sleep(100.0)
        await asyncio.Event().wait()

    async def work(world: World) -> None:
        world.add("a")
        for _ in range(102):
            await world.time.pass_by(1.0)
        assert world.errors == {}
        await world.time.pass_by(4.5)
        assert world.errors == {"a": "The check did not finish within 5 s."}

    in_world(wait, work, check_timeout=5.0)


def test_a_check_that_was_ended_leaves_nothing_behind_for_the_next_one():
    """Libraries would take it for their own cancellation."""
    cancellations = []

    async def check(host: str) -> None:
        if host == "a":
            await asyncio.Event().wait()
        task = asyncio.current_task()
        cancellations.append(task.cancelling() if task else None)

    async def work(world: World) -> None:
        world.add("a", "b")
        await world.time.pass_by()
        await world.time.pass_by(6.0)
        assert world.errors == {"a": "The check did not finish within 5 s.", "b": ""}
        assert cancellations == [0]

    in_world(check, work, concurrency=1, check_timeout=5.0)


# Slow hosts


def tarpits(*hosts: str) -> Script:
    async def wait(host: str) -> None:
        if host in hosts:
            await asyncio.sleep(50.0)

    return wait


def test_slow_hosts_get_a_quarter_of_the_places_and_the_others_the_rest():
    """Of the four tarpits that have the four places, three make room and are checked later."""
    slow = ["s1", "s2", "s3", "s4"]

    async def work(world: World) -> None:
        world.add(*slow, "a", "b", "c")
        await world.time.pass_by()
        assert world.checked == slow
        await world.time.pass_by(SLOW)
        assert world.errors == dict.fromkeys("abc", "")
        world.add("d", "e")
        await world.time.pass_by()
        assert world.errors == dict.fromkeys("abcde", "")
        for _ in range(5):
            await world.time.pass_by(50.0)
        assert world.errors == dict.fromkeys([*"abcde", *slow], "")
        assert sorted(world.checked) == sorted([*"abcde", *slow, *slow[1:]])

    in_world(tarpits(*slow), work, concurrency=4)


def test_slow_hosts_make_room_also_when_everything_was_read():
    slow = ["s1", "s2", "s3", "s4"]

    async def work(world: World) -> None:
        world.add(*slow, "a", "b", "c")
        world.checks.add_no_more()
        await world.time.pass_by()
        await world.time.pass_by(SLOW)
        assert world.errors == dict.fromkeys("abc", "")
        assert world.checked == [*slow, "a", "b", "c", "s2", "s3", "s4"]

    in_world(tarpits(*slow), work, concurrency=4)


def test_no_check_makes_room_if_nobody_waits():
    async def work(world: World) -> None:
        world.add("s1", "s2", "a")
        await world.time.pass_by()
        await world.time.pass_by(SLOW)
        await world.time.pass_by(50.0)
        assert sorted(world.checked) == ["a", "s1", "s2"]
        assert len(world.errors) == 3

    in_world(tarpits("s1", "s2"), work, concurrency=3)


def test_a_check_makes_room_only_once():
    async def work(world: World) -> None:
        world.add("s1", "s2", "a")
        await world.time.pass_by()
        await world.time.pass_by(SLOW)
        assert world.checked == ["s1", "s2", "a"]
        await world.time.pass_by(50.0)
        world.add("b", "c")
        for _ in range(600):
            await world.time.pass_by(ONE_LOOK)
        assert world.checked == ["s1", "s2", "a", "s2", "b", "c"]
        assert len(world.errors) == 5

    in_world(tarpits("s1", "s2"), work, concurrency=2)


def test_a_host_that_was_slow_has_no_place_of_the_others():
    async def work(world: World) -> None:
        world.add("s1", "s2")
        await world.time.pass_by()
        await world.time.pass_by(51.0)
        world.add("s1", "s2", "s1", "s2", "a")
        await world.time.pass_by()
        assert world.checked == ["s1", "s2", "a", "s1"]

    in_world(tarpits("s1", "s2"), work, concurrency=2)


def test_where_all_checks_take_long_none_of_them_is_slow():
    async def wait(host: str) -> None:
        await asyncio.sleep(5.0)

    async def work(world: World) -> None:
        for number in range(100):
            world.add(*(f"{number}-{other}" for other in range(4)))
            for _ in range(20):
                await world.time.pass_by(0.25)
        before = len(world.checked)
        world.add(*(f"more-{number}" for number in range(40)))
        for _ in range(10 * 20):
            await world.time.pass_by(0.25)
        assert len(world.checked) - before == 40

    in_world(wait, work, concurrency=4)


def test_a_few_endless_checks_do_not_change_the_usual_duration():
    pace = Pace()
    for number in range(1000):
        assert pace.note(20.0 if number % 20 == 0 else 0.1) == (number % 20 == 0)
    assert pace.slow_seconds < 1.5


@pytest.mark.parametrize(("usual", "slow"), [(0.001, 0.125), (0.02, 0.125), (0.2, 0.8), (5.0, 20.0)])
def test_the_limit_of_slow_checks_depends_on_the_usual_duration(usual: float, slow: float) -> None:
    pace = Pace()
    for _ in range(1000):
        pace.note(usual)
    assert pace.slow_seconds == pytest.approx(slow, rel=0.06)


# Paused hosts


def pauses(host: str, *seconds: float) -> Script:
    """Checks of this host meet these pauses, one after the other."""
    left = list(seconds)

    async def check(checked: str) -> None:
        if checked == host and left:
            raise HostPaused(host, left.pop(0), "answered 429 Too Many Requests", 429)

    return check


def test_the_profiles_of_a_paused_host_are_put_off_and_checked_when_its_pause_is_over():
    async def work(world: World) -> None:
        world.add("a", "b", "a", "a", "c")
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

    in_world(pauses("a", 40.0), work, per_host=1)


def test_profiles_of_a_paused_host_do_not_fail_while_others_are_checked():
    theirs = asyncio.Event()
    pause = pauses("a", *[3600.0] * 9)

    async def check(host: str) -> None:
        await pause(host)
        if host == "b":
            await theirs.wait()

    async def work(world: World) -> None:
        world.add("a", "a", "b")
        world.checks.add_no_more()
        await world.time.pass_by(1000.0)
        assert world.errors == {}
        theirs.set()
        await world.time.pass_by()
        assert world.errors == {"b": "", "a": "answered 429 Too Many Requests"}
        assert [result.http_status for _, result in world.results] == [None, None, 429]
        assert world.checks.is_idle

    in_world(check, work, check_timeout=1e6)


def test_profiles_of_a_paused_host_do_not_fail_while_others_may_be_read():
    async def work(world: World) -> None:
        world.add("a")
        await world.time.pass_by(1000.0)
        assert world.errors == {}
        world.checks.add_no_more()
        assert world.errors == {"a": "answered 429 Too Many Requests"}

    in_world(pauses("a", 3600.0), work)


def test_a_batch_waits_for_its_last_hosts_as_long_as_they_answer_now_and_then():
    async def work(world: World) -> None:
        world.add(*["a"] * 4)
        world.checks.add_no_more()
        for _ in range(30):
            await world.time.pass_by(10.0)
        assert [result.ok for _, result in world.results] == [True] * 4
        assert len(world.checked) == 4 + 4

    async def check(host: str) -> None:
        checked.append(host)
        if len(checked) % 2:
            raise HostPaused(host, 60.0, "asked us to wait 60 s", 503)

    checked: list[str] = []
    in_world(check, work, per_host=1, max_retry_after=100.0)


def test_a_batch_waits_only_so_long_for_hosts_that_do_not():
    async def work(world: World) -> None:
        world.add("b", "a", "a")
        world.checks.add_no_more()
        await world.time.pass_by(1.0)
        assert world.errors == {"b": ""}
        for _ in range(20):
            await world.time.pass_by(5.0)
        assert world.checked.count("a") == 4
        assert world.errors == {"b": "", "a": "answered 429 Too Many Requests"}
        assert world.time.now <= 100.0 + 101.0

    in_world(pauses("a", 5.0, 10.0, 20.0, 70.0), work, per_host=1, max_retry_after=100.0)


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_a_pause_of_no_length_does_not_keep_the_event_loop_busy(seconds):
    async def work(world: World) -> None:
        world.add("a")
        await world.time.pass_by()
        assert world.checked == ["a"]
        await world.time.pass_by(0.1)
        assert world.checked == ["a", "a"]

    in_world(pauses("a", seconds), work)


def test_when_the_run_stops_nothing_is_recorded_of_profiles_that_were_put_off():
    async def work(world: World) -> None:
        world.add("a")
        await world.time.pass_by()
        world.checks.stop()
        await world.time.pass_by(1000.0)
        assert (world.checks.is_idle, world.errors, world.checked) == (True, {}, ["a"])

    in_world(pauses("a", 10.0), work)


def test_a_check_that_meets_a_pause_while_the_run_stops_is_not_waited_for():
    theirs = asyncio.Event()

    async def check(host: str) -> None:
        await theirs.wait()
        raise HostPaused(host, 10.0, "asked us to wait 10 s")

    async def work(world: World) -> None:
        world.add("a")
        await world.time.pass_by()
        world.checks.stop()
        theirs.set()
        await world.time.pass_by()
        assert (world.checks.is_idle, world.errors) == (True, {})

    in_world(check, work)
