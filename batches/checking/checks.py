"""Checks the profiles that a run has read: fairly by host, within its limits, and each until it has a result."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from batches.checking.checkers.base import Checker, CheckResult, HostPaused, ProfileToCheck, require_result
from batches.checking.checkers.clock import Clock
from batches.conf import Config
from batches.limits import MAX_ERROR
from batches.log_context import log_context
from batches.queue.partitions import partition_of
from batches.text import clean_text

from .slowness import Pace
from .window import Turn, Window

logger = logging.getLogger(__name__)

#: One place in SLOW_SHARE is for slow checks. With half of the places, tarpits halved the speed of the others.
SLOW_SHARE = 4
#: Checks that wait for our own resources. More of them would only take memory.
MAX_WAITING = 1000
#: Pages of profiles that can only wait. Beyond that, reading on would only take memory.
MAX_PAGES = 10
#: Stories recorded in one transaction. A feed has at most 5,000; the stories of 500 feeds would fill the memory.
STORIES_AT_ONCE = 10_000
#: Seconds between two searches for checks that take long.
SECONDS_BETWEEN_LOOKS = 0.1
#: Seconds. A checker that reports a pause without an end must not be called constantly.
SHORTEST_PAUSE = 0.05


class End(Enum):
    TIMEOUT = auto()
    MAKES_ROOM = auto()  # it is slow, and others wait
    INTERRUPTED = auto()  # other workers may check its host


@dataclass(slots=True, eq=False)
class Check:
    """A running check. `end` is the reason if we have cancelled it."""

    turn: Turn
    clock: Clock
    task: asyncio.Task[Any]
    has_slowed: bool = False  # it did not begin as one of a slow host
    end: End | None = None


@dataclass(eq=False)
class Checks:
    """At most `concurrency` checks at once.

    A check that waits for our own resources releases its place. A quarter of the places is for slow checks: if a check
    becomes slow when these are taken, it makes room for a waiting profile, and starts again later. A profile of a
    paused host is postponed until the pause is over. If nothing else is left to do, it fails after
    `max_retry_after` seconds without any result.

    `on_progress` is called after each check, and whenever there may be room for more profiles. No check starts while
    `may_start` returns False. Call `interrupt` when that begins, and `start` when it is over. `on_result` gets each
    result with its host.
    """

    checker: Checker
    name: str
    config: Config
    on_progress: Callable[[], None]
    may_start: Callable[[], bool] = lambda: True
    on_result: Callable[[str, CheckResult], None] = lambda host, result: None

    def __post_init__(self) -> None:
        #: Those that are not recorded yet.
        self.results: deque[tuple[int, CheckResult]] = deque()
        self._stories = 0  # in these results
        #: A bug in this program; an error in the checker only fails that profile.
        self.fault: BaseException | None = None
        config = self.config
        slow_share = max(1, config.concurrency // SLOW_SHARE)
        self.window = Window(config.per_host, slow_share, MAX_PAGES * config.page_size)
        self._pace = Pace()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[Check, None] = {}  # the oldest first
        self._waiting = 0
        self._is_last = False
        self._stopping = False
        self._logged: set[type[BaseException]] = set()
        self._loop = asyncio.get_running_loop()
        self._last_result = self._loop.time()
        self._look: asyncio.TimerHandle | None = None
        self._end_of_pause: asyncio.TimerHandle | None = None

    @property
    def wants_more(self) -> bool:
        """Whether the next profiles should be read."""
        return self.window.supply <= self.config.page_size // 2 and not self.window.is_full

    @property
    def runs_low(self) -> bool:
        """Whether there will soon be fewer profiles than places."""
        return self.window.supply < self.config.concurrency

    @property
    def is_idle(self) -> bool:
        """Whether every profile that was added has its result, or was left pending when the run stopped."""
        return not self._tasks and not self.window

    def add(self, profiles: Iterable[ProfileToCheck]) -> None:
        for profile in profiles:
            self.window.add(profile)
        self.start()

    def drop(self, profile_ids: Iterable[int]) -> None:
        """Do not check these profiles, which wait: they stay pending."""
        self.window.remove(profile_ids)
        self.on_progress()

    def add_no_more(self) -> None:
        self._is_last = True
        self.window.add_no_more()
        self.start()
        self._give_up_pauses()

    @property
    def has_chunk(self) -> bool:
        """Whether there are enough results to record."""
        return len(self.results) >= self.config.record_size or self._stories >= STORIES_AT_ONCE

    def take_chunk(self) -> list[tuple[int, CheckResult]]:
        """The oldest results, at most `record_size`, and not many more stories than STORIES_AT_ONCE."""
        chunk: list[tuple[int, CheckResult]] = []
        stories = 0
        while self.results and len(chunk) < self.config.record_size and stories < STORIES_AT_ONCE:
            chunk.append(self.results.popleft())
            stories += len(chunk[-1][1].stories)
        self._stories -= stories
        return chunk

    def start(self) -> None:
        """Start a task for each profile that is ready, up to the limit. Each task continues while profiles are left."""
        is_open = self.may_start() and not self._is_full
        places = self.config.concurrency - (len(self._tasks) - self._waiting) if is_open else 0
        for _ in range(min(self.window.ready, places, MAX_WAITING - self._waiting)):
            task = self._loop.create_task(self._check_profiles())
            self._tasks.add(task)
            task.add_done_callback(self._on_task_ended)
        if self._tasks and self._look is None:
            self._look = self._loop.call_later(SECONDS_BETWEEN_LOOKS, self._look_at_checks)

    def interrupt(self) -> None:
        """Cancel the running checks, and let their profiles wait again."""
        for check in self._under_way:
            if not check.end:
                self._end(check, End.INTERRUPTED)

    async def wait_for_running(self, seconds: float) -> None:
        """Wait for the running checks, at most this long, while `may_start` returns False."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def stop(self) -> list[int]:
        """Start no more checks. Returns the profiles that waited: they stay pending."""
        self._stopping = True
        waited = self.window.clear()
        self.on_progress()
        return waited

    def cancel(self) -> None:
        """Cancel the running checks, too."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in (self._look, self._end_of_pause):
            if timer:
                timer.cancel()

    # Checking

    async def _check_profiles(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while turn := self._next_turn():
            result, is_slow = None, None
            try:
                result, is_slow = await self._check(turn, task)
            finally:
                self.window.release(turn, is_slow=is_slow)
            if result is None:
                self._put_back(turn)
            else:
                self._add_result(turn, result)

    def _next_turn(self) -> Turn | None:
        is_crowded = len(self._tasks) - self._waiting > self.config.concurrency
        turn = None if is_crowded or self._is_full or not self.may_start() else self.window.take()
        self.on_progress()
        return turn

    @property
    def _is_full(self) -> bool:
        return len(self.results) >= 4 * self.config.record_size or self._stories >= 4 * STORIES_AT_ONCE

    async def _check(self, turn: Turn, task: asyncio.Task[Any]) -> tuple[CheckResult | None, bool | None]:
        """The result and whether the check was slow. Without a result, the profile has to wait."""
        turn.pause = None
        check = Check(turn, Clock(on_wait=self._on_wait), task)
        self._under_way[check] = None
        try:
            with check.clock:
                result = require_result(await self.checker.check(turn.profile))
        except HostPaused as pause:
            turn.pause = pause.with_traceback(None)  # which would keep the frames of the check
            return None, None
        except (Exception, asyncio.CancelledError) as error:
            if self._stopping and isinstance(error, asyncio.CancelledError):
                raise  # cancelled by us; a checker that cancels itself has failed
            if check.end in (End.MAKES_ROOM, End.INTERRUPTED):
                return None, True if check.end is End.MAKES_ROOM else None
            result = self._explain(check, error)
        finally:
            del self._under_way[check]
            while check.end and task.uncancel():
                pass
        return result, self._pace.note(check.clock.charged)

    def _explain(self, check: Check, error: BaseException) -> CheckResult:
        if check.end is End.TIMEOUT:
            return CheckResult(False, f"The check did not finish within {self.config.check_timeout:g} s.")
        self._log_once(error, check.turn.profile)
        kind = type(error).__name__
        return CheckResult(False, f"The checker “{self.name}” failed: {kind}: {clean_text(error, MAX_ERROR)}")

    def _log_once(self, error: BaseException, profile: ProfileToCheck) -> None:
        """Only the first traceback of each type: a broken checker would fill the disk with a million of them."""
        if type(error) not in self._logged:
            self._logged.add(type(error))
            with log_context(partition=partition_of(profile.feed_url or profile.url)):
                logger.error("The checker “%s” failed on %s", self.name, profile.url, exc_info=error)

    def _on_task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()):
            self.fault = fault
            self.window.clear()
        self.start()
        self._give_up_pauses()
        self.on_progress()

    def _add_result(self, turn: Turn, result: CheckResult) -> None:
        self.results.append((turn.profile.profile_id, result))
        self.on_result(turn.host, result)
        self._stories += len(result.stories)
        self._last_result = self._loop.time()

    # Slow checks, and checks that wait for our resources

    def _on_wait(self, begins: bool) -> None:
        self._waiting += 1 if begins else -1
        if begins:
            self.start()

    def _look_at_checks(self) -> None:
        self._look = None
        for check in list(self._under_way):
            # A cancelled check may need a moment to tidy up.
            if check.clock.charged > self.config.check_timeout * (2 if check.end else 1):
                self._end(check, End.TIMEOUT)
            elif not check.turn.is_slow and check.clock.is_running and check.clock.charged > self._pace.slow_seconds:
                check.has_slowed = True
                self.window.mark_slow(check.turn)
        self._make_room()
        self.start()

    def _make_room(self) -> None:
        """End the latest checks that have become slow, even if others have come only since then."""
        ending = sum(check.end is not None and check.turn.is_slow for check in self._under_way)
        slowed = [check for check in self._under_way if check.has_slowed and check.clock.is_running and not check.end]
        staying = len(slowed) - max(0, self.window.surplus - ending)
        for check in slowed[max(0, staying) :]:
            self._end(check, End.MAKES_ROOM)

    def _end(self, check: Check, end: End) -> None:
        check.end = check.end or end
        check.task.cancel()

    # Paused hosts

    def _put_back(self, turn: Turn) -> None:
        if self._stopping:
            return
        if pause := turn.pause:
            turn.host = pause.host
            self.window.pause(pause, self._loop.time() + max(pause.seconds, SHORTEST_PAUSE))
            self._wait_for_pauses()
        self.window.put(turn)
        self.start()

    def _wait_for_pauses(self) -> None:
        if self._end_of_pause:
            self._end_of_pause.cancel()
        until = self.window.next_end_of_pause
        self._end_of_pause = None if until is None else self._loop.call_at(until, self._end_pauses)

    def _end_pauses(self) -> None:
        self.window.end_pauses(self._loop.time())
        self._wait_for_pauses()
        self.start()

    def _give_up_pauses(self) -> None:
        """Fail the profiles of paused hosts if nothing else is left, and the next pause ends too late."""
        until = self.window.next_end_of_pause
        if until is None or self._tasks or self.window.ready or not (self._is_last or not self.wants_more):
            return
        if until > self._last_result + self.config.max_retry_after:
            for turn, pause in self.window.take_paused():
                status = turn.pause.http_status if turn.pause else None
                self._add_result(turn, CheckResult(False, str(pause), status, host_paused=True))
            self.on_progress()
