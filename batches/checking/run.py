"""One run: checks a batch's pending profiles and records what it found, until nothing is pending or the run is over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import Checker, CheckResult, ProfileToCheck
from batches.conf import Config
from batches.limits import MAX_ERROR
from batches.models import Database
from batches.queue.runs import ClaimedRun
from batches.reports import queries
from batches.text import clean_text

from .window import Window

logger = logging.getLogger(__name__)


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
        self._logged: set[type[BaseException]] = set()
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
        async with AsyncExitStack() as stack:
            await self._set_up(stack)
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

    async def _set_up(self, stack: AsyncExitStack) -> None:
        """Enter the checker, within the lease: nothing renews it meanwhile, and a worker must not hang for ever."""
        seconds = self._config.lease_seconds
        try:
            async with asyncio.timeout(seconds):
                await stack.enter_async_context(self._checker)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"The checker was not ready within {seconds:g} s.") from error

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
        while profile := self._take():
            try:
                result = await self._check(profile)
            finally:
                self._window.release(profile)
            self._results.append((profile.profile_id, result))
            if len(self._results) >= self._config.record_size:
                self._chunk_ready.set()

    def _take(self) -> ProfileToCheck | None:
        profile = None if self._is_full else self._window.take()
        if len(self._window) <= self._config.page_size // 2:
            self._room.set()
        return profile

    @property
    def _is_full(self) -> bool:
        return len(self._results) >= 4 * self._config.record_size

    async def _check(self, profile: ProfileToCheck) -> CheckResult:
        try:
            async with asyncio.timeout(self._config.check_timeout) as limit:
                return _require_result(await self._checker.check(profile))
        except (Exception, asyncio.CancelledError) as error:
            if self._stopping and isinstance(error, asyncio.CancelledError):
                raise  # given up by us; what a checker cancels by itself is its failure
            if limit.expired():
                return CheckResult(False, f"The check was not finished within {self._config.check_timeout:g} s.")
            self._log_once(error, profile)
            return CheckResult(False, f"The checker failed: {type(error).__name__}: {clean_text(error, MAX_ERROR)}")

    def _log_once(self, error: BaseException, profile: ProfileToCheck) -> None:
        """The first error of each kind with its traceback: a broken checker would fill the disk with a million."""
        if type(error) not in self._logged:
            self._logged.add(type(error))
            logger.error("The checker “%s” failed on %s", self._batch.checker, profile.url, exc_info=error)

    def _after_checks(self, check: asyncio.Task[None]) -> None:
        self._checks.discard(check)
        if not check.cancelled() and (fault := check.exception()):
            self._fault = fault
            self._window.clear()
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


def _require_result(result: object) -> CheckResult:
    if not isinstance(result, CheckResult):
        raise TypeError(f"it returned {type(result).__name__}, not a CheckResult")
    return result
