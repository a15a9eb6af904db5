"""One run: checks the pending profiles of a batch and records the results, until none is pending or the run is over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import Checker, CheckResult, ProfileToCheck, require_result
from batches.checking.checkers.clock import Clock
from batches.conf import Config
from batches.limits import MAX_ERROR
from batches.models import Database
from batches.queue.runs import ClaimedRun
from batches.reports import queries
from batches.text import clean_text

from .window import Window

logger = logging.getLogger(__name__)


class RunOver(Exception):
    """The fence refused: the batch was paused, finished or taken over. Unrecorded results are dropped."""


class Run:
    """Reads rows in pages, checks profiles and records results in chunks, all at the same time.

    Each step waits for the next one, so memory does not grow with the batch: a page is read when half of the previous
    page is checked or being checked, and no check starts while four chunks wait to be recorded.
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
        self._fault: BaseException | None = None  # a bug of ours; an error of the checker only fails that profile
        self._logged: set[type[BaseException]] = set()
        self._checks: set[asyncio.Task[None]] = set()
        self._results: list[tuple[int, CheckResult]] = []
        self._all_read = False
        self._stopping = False
        self._room = asyncio.Event()
        self._chunk_ready = asyncio.Event()
        self._settled = asyncio.Event()  # every profile that was read is checked or cancelled

    async def work(self) -> None:
        """Check and record until nothing is pending or, after `stop`, until the running checks have ended.

        Raises RunOver when the run was taken away, and errors of the database or of the checker's set-up.
        """
        async with AsyncExitStack() as stack:
            await self._enter_checker(stack)
            tasks = [asyncio.create_task(self._record()), asyncio.create_task(self._read())]
            try:
                await asyncio.gather(*tasks)
            finally:
                await self._cancel(tasks)

    def stop(self) -> None:
        """Start no new checks. Running checks have the grace period to finish, and their results are recorded."""
        if not self._stopping:
            self._stopping = True
            self._window.clear()
            self._room.set()
            self._settle()
            asyncio.get_running_loop().call_later(self._config.grace_seconds, self.stop_immediately)

    def stop_immediately(self) -> None:
        """Cancel the running checks too. Their profiles stay pending."""
        self.stop()
        for check in self._checks:
            check.cancel()

    async def _enter_checker(self, stack: AsyncExitStack) -> None:
        """Within the lease, because nothing renews it here, and a worker must not hang forever."""
        seconds = self._config.lease_seconds
        try:
            async with asyncio.timeout(seconds):
                await stack.enter_async_context(self._checker)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"The checker was not ready within {seconds:g} s.") from error

    async def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping = True
        self._window.clear()
        unfinished = [*tasks, *self._checks]
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    async def _read(self) -> None:
        last_id = 0
        while not self._stopping:
            page = await self._database(queries.fetch_pending, self._batch, last_id, self._config.page_size)
            if not page or self._stopping:
                break
            for _, profile in page:
                self._window.add(profile)
            last_id = page[-1][0]
            self._start_checks()
            await self._wait_for_room()
        self._all_read = True
        self._settle()

    async def _wait_for_room(self) -> None:
        while len(self._window) > self._config.page_size // 2 and not self._stopping:
            self._room.clear()
            await self._room.wait()

    def _start_checks(self) -> None:
        """One task for each profile that is ready, up to the limit. Each task continues while profiles are left."""
        for _ in range(min(self._window.ready, self._config.concurrency - len(self._checks))):
            check = asyncio.create_task(self._check_profiles())
            self._checks.add(check)
            check.add_done_callback(self._on_check_ended)

    async def _check_profiles(self) -> None:
        while profile := self._next_profile():
            try:
                result = await self._check(profile)
            finally:
                self._window.release(profile)
            self._results.append((profile.profile_id, result))
            if len(self._results) >= self._config.record_size:
                self._chunk_ready.set()

    def _next_profile(self) -> ProfileToCheck | None:
        profile = None if self._is_full else self._window.take()
        if len(self._window) <= self._config.page_size // 2:
            self._room.set()
        return profile

    @property
    def _is_full(self) -> bool:
        return len(self._results) >= 4 * self._config.record_size

    async def _check(self, profile: ProfileToCheck) -> CheckResult:
        clock = Clock(self._config.check_timeout)
        try:
            async with clock:
                return require_result(await self._checker.check(profile))
        except (Exception, asyncio.CancelledError) as error:
            if self._stopping and isinstance(error, asyncio.CancelledError):
                raise  # we cancelled it; a checker that cancels itself has failed
            if clock.is_over:
                return CheckResult(False, f"The check did not finish within {self._config.check_timeout:g} s.")
            self._log_once(error, profile)
            name, kind = self._batch.checker, type(error).__name__
            return CheckResult(False, f"The checker “{name}” failed: {kind}: {clean_text(error, MAX_ERROR)}")

    def _log_once(self, error: BaseException, profile: ProfileToCheck) -> None:
        """Only the first traceback of each type: a broken checker would fill the disk with a million of them."""
        if type(error) not in self._logged:
            self._logged.add(type(error))
            logger.error("The checker “%s” failed on %s", self._batch.checker, profile.url, exc_info=error)

    def _on_check_ended(self, check: asyncio.Task[None]) -> None:
        self._checks.discard(check)
        if not check.cancelled() and (fault := check.exception()):
            self._fault = fault
            self._window.clear()
        if not self._is_full:
            self._start_checks()
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
                await self._call_as_owner(self._manager.record_results, chunk)
                renewed = time.monotonic()
                self._start_checks()
            elif time.monotonic() - renewed > self._seconds_between_renewals:
                await self._call_as_owner(self._manager.renew_lease)
                renewed = time.monotonic()

    async def _wait_for_chunk(self) -> None:
        """Until a chunk is full, everything is settled, or the first result has waited long enough for others."""
        if len(self._results) < self._config.record_size and not self._settled.is_set():
            self._chunk_ready.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._config.record_seconds):
                    await self._chunk_ready.wait()

    @property
    def _seconds_between_renewals(self) -> float:
        """Well within the lease, and often enough that a pause soon stops the checks, not only their recording."""
        return min(self._config.lease_seconds / 3, 2.0)

    async def _call_as_owner(self, call: Callable[..., Any], *arguments: Any) -> None:
        accepted = await self._database(call, self._batch.pk, self._token, *arguments)
        if not accepted:
            raise RunOver(str(accepted))
