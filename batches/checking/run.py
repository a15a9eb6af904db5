"""One run: checks the pending profiles of a batch and records the results, until none is pending or the run is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import Checker
from batches.conf import Config
from batches.models import Database
from batches.queue.hosts import recall_hosts, remember_hosts
from batches.queue.runs import ClaimedRun
from batches.reports import queries

from .checks import Checks


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
        self._checks = Checks(checker, claimed.batch.checker, config, self._on_progress)
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
            self._checker.recall_hosts(await self._database(recall_hosts))
            tasks = [asyncio.create_task(self._record()), asyncio.create_task(self._read())]
            try:
                await asyncio.gather(*tasks)
            finally:
                await self._cancel(tasks)

    def stop(self) -> None:
        """Start no new checks. Running checks have the grace period to finish, and their results are recorded."""
        if not self._stopping:
            self._stopping = True
            self._checks.stop()
            self._room.set()
            asyncio.get_running_loop().call_later(self._config.grace_seconds, self.stop_immediately)

    def stop_immediately(self) -> None:
        """Cancel the running checks too. Their profiles stay pending."""
        self.stop()
        self._checks.cancel()

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
        for task in tasks:
            task.cancel()
        await self._checks.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        last_id = 0
        while not self._stopping:
            page = await self._database(queries.fetch_pending, self._batch, last_id, self._config.page_size)
            if not page or self._stopping:
                break
            self._checks.add(profile for _, profile in page)
            last_id = page[-1][0]
            await self._wait_for_room()
        self._all_read = True
        self._checks.add_no_more()
        self._on_progress()

    async def _wait_for_room(self) -> None:
        while not self._checks.wants_more and not self._stopping:
            self._room.clear()
            await self._room.wait()

    def _on_progress(self) -> None:
        if self._checks.wants_more:
            self._room.set()
        is_settled = self._all_read and self._checks.is_idle
        if is_settled:
            self._settled.set()
        if is_settled or self._checks.fault or self._checks.has_chunk:
            self._chunk_ready.set()

    async def _record(self) -> None:
        renewed = time.monotonic()
        while not (self._settled.is_set() and not self._checks.has_results):
            await self._wait_for_chunk()
            await self._remember_hosts()
            if self._checks.fault is not None:
                raise self._checks.fault
            if chunk := self._checks.take_chunk():
                await self._call_as_owner(self._manager.record_results, chunk)
                renewed = time.monotonic()
                self._checks.start()
            elif time.monotonic() - renewed > self._seconds_between_renewals:
                await self._call_as_owner(self._manager.renew_lease)
                renewed = time.monotonic()

    async def _remember_hosts(self) -> None:
        if notes := self._checker.take_host_notes():
            await self._database(remember_hosts, notes)

    async def _wait_for_chunk(self) -> None:
        """Until a chunk is full, everything is settled, or the first result has waited long enough for others."""
        if not self._checks.has_chunk and not self._settled.is_set():
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
