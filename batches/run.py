"""One run: checks a batch's pending profiles and records what it found, until nothing is pending or the run is over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from . import queries
from .batch_manager import BatchManager, ClaimedRun
from .checkers.base import Checker, CheckResult, ProfileToCheck
from .conf import Config
from .window import Window

logger = logging.getLogger(__name__)

#: Runs a call of the database in the thread that owns the connection: `await database(function, *arguments)`.
Database = Callable[..., Awaitable[Any]]


class RunOver(Exception):
    """The fence refused: the batch was paused, finished or taken over. What is not recorded is dropped."""


class Run:
    """Three things go on at once: rows are read in pages, profiles are checked, results are recorded in chunks.

    Each waits for the next one, so that memory does not grow with the batch: a page is read when half of the last one
    is handed out, and no check begins while four chunks wait to be recorded.
    """

    def __init__(
        self, claimed: ClaimedRun, manager: BatchManager, checker: Checker, config: Config, database: Database
    ) -> None:
        self._batch = claimed.batch
        self._token = claimed.run_token
        self._manager = manager
        self._checker = checker
        self._config = config
        self._database = database
        self._window = Window(config.per_host)
        self._fault: BaseException | None = None  # of the run itself: one of a checker is that profile's result
        self._checks: set[asyncio.Task[None]] = set()
        self._results: list[tuple[int, CheckResult]] = []
        self._all_read = False
        self._stopping = False
        self._room = asyncio.Event()
        self._chunk_ready = asyncio.Event()
        self._settled = asyncio.Event()  # all that was read is checked, or given up

    async def work(self) -> None:
        """Check and record until nothing is pending, or nothing is under way any more after `stop`.

        Raises RunOver when the run was taken away, and whatever the database or the checker's set-up raises.
        """
        async with self._checker:
            tasks = [asyncio.create_task(self._record()), asyncio.create_task(self._read())]
            try:
                await asyncio.gather(*tasks)
            finally:
                await self._give_up(tasks)

    def stop(self) -> None:
        """Begin no new checks; those under way get the grace period, and what they find is recorded."""
        if not self._stopping:
            self._stopping = True
            self._window.clear()
            self._room.set()
            self._settle()
            asyncio.get_running_loop().call_later(self._config.grace_seconds, self.stop_at_once)

    def stop_at_once(self) -> None:
        """Give up the checks under way too; what is not recorded stays pending."""
        self.stop()
        for check in self._checks:
            check.cancel()

    async def _give_up(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping = True
        self._window.clear()
        unfinished = [*tasks, *self._checks]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    async def _read(self) -> None:
        last_id = 0
        while not self._stopping:
            page = await self._database(queries.pending_after, self._batch, last_id, self._config.page_size)
            if not page or self._stopping:
                break
            for _, profile in page:
                self._window.add(profile)
            last_id = page[-1][0]
            self._begin_checks()
            await self._wait_for_room()
        self._all_read = True
        self._settle()

    async def _wait_for_room(self) -> None:
        while len(self._window) > self._config.page_size // 2 and not self._stopping:
            self._room.clear()
            await self._room.wait()

    def _begin_checks(self) -> None:
        """Have as many checkers at work as there are profiles to hand out. Each goes on while there are more."""
        for _ in range(min(self._window.ready, self._config.concurrency - len(self._checks))):
            check = asyncio.create_task(self._check_profiles())
            self._checks.add(check)
            check.add_done_callback(self._after_checks)

    async def _check_profiles(self) -> None:
        while not self._is_full and (profile := self._window.take()):
            try:
                result = await self._check(profile)
            finally:
                self._window.release(profile)
            self._results.append((profile.profile_id, result))
            if len(self._results) >= self._config.record_size:
                self._chunk_ready.set()

    @property
    def _is_full(self) -> bool:
        return len(self._results) >= 4 * self._config.record_size

    async def _check(self, profile: ProfileToCheck) -> CheckResult:
        try:
            async with asyncio.timeout(self._config.check_timeout):
                return await self._checker.check(profile)
        except TimeoutError:
            return CheckResult(False, f"The check was not finished within {self._config.check_timeout:g} s.")
        except Exception as error:
            logger.exception("The checker “%s” failed on %s", self._batch.checker, profile.url)
            return CheckResult(False, f"The checker failed: {type(error).__name__}: {error}")

    def _after_checks(self, check: asyncio.Task[None]) -> None:
        self._checks.discard(check)
        if not check.cancelled() and (fault := check.exception()):
            self._fault = fault
            self._window.clear()
        if len(self._window) <= self._config.page_size // 2:
            self._room.set()
        if not self._is_full:
            self._begin_checks()
        self._settle()

    def _settle(self) -> None:
        if self._all_read and not self._checks and not self._window:
            self._settled.set()
            self._chunk_ready.set()

    async def _record(self) -> None:
        size = self._config.record_size
        renewed = time.monotonic()
        while not (self._settled.is_set() and not self._results):
            await self._wait_for_chunk()
            if self._fault is not None:
                raise self._fault
            if chunk := self._results[:size]:
                del self._results[:size]
                await self._own(self._manager.record_results, chunk)
                renewed = time.monotonic()
                self._begin_checks()
            elif time.monotonic() - renewed > self._seconds_between_renewals:
                await self._own(self._manager.renew_lease)
                renewed = time.monotonic()

    async def _wait_for_chunk(self) -> None:
        """Until a chunk is full, everything is settled, or the first result has waited long enough for others."""
        if len(self._results) < self._config.record_size and not self._settled.is_set():
            self._chunk_ready.clear()
            try:
                async with asyncio.timeout(self._config.record_seconds):
                    await self._chunk_ready.wait()
            except TimeoutError:
                pass

    @property
    def _seconds_between_renewals(self) -> float:
        """Well within the lease; and often enough that a pause stops the checks soon, not only their recording."""
        return min(self._config.lease_seconds / 3, 2.0)

    async def _own(self, call: Callable[..., Any], *arguments: Any) -> None:
        """A call that only the owner of this run can make."""
        answer = await self._database(call, self._batch.pk, self._token, *arguments)
        if not answer:
            raise RunOver(str(answer))
