"""One run: checks the pending profiles of a batch and records the results, until none is pending or the run is over."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import Checker, CheckResult
from batches.conf import Config
from batches.metrics import RECORDING, RESULTS
from batches.models import Database
from batches.queue.hosts import hear_of_hosts, recall_hosts, remember_hosts
from batches.queue.leases import ClaimedRun
from batches.queue.loans import are_slots_wanted
from batches.queue.partitions import are_wanted, partition_of_domain
from batches.queue.refusals import Refusal

from . import queries
from .checks import Checks
from .heartbeat import Heartbeat
from .outage import Prober, Watch, end, unless
from .partitions import Scan
from .sharing import Sharing

#: Seconds of the grace period that are left to record the last results and to release the run.
RESERVE_SECONDS = 2.0


class RunOver(Exception):
    """The fence has refused a call: the batch was paused, finished or taken over. Unrecorded results are dropped."""


@dataclass(eq=False)
class Run:
    """Reads rows in pages, checks profiles and records results in chunks, all at the same time.

    It reads its share of the batch, then leases free partitions. While another worker needs some, it releases half
    of those with profiles whose checks have not started.

    Each step waits for the next step, so memory does not grow with the batch: a page is read when half of the
    previous page is checked or being checked, and no check starts while four chunks wait to be recorded.
    """

    claimed: ClaimedRun
    claimed_at: float
    manager: BatchManager
    checker: Checker
    config: Config
    database: Database
    processes: int = 1

    def __post_init__(self) -> None:
        self._batch = self.claimed.batch
        self._token = self.claimed.run_token
        config, checker = self.config, self.checker
        self._loop = asyncio.get_running_loop()
        self._refusal: Refusal | None = None
        self._heartbeat = Heartbeat(
            beat=self._beat,
            renewed=self.claimed_at,
            lease=config.lease_seconds,
            patience=max(config.lease_seconds, config.check_timeout),
            on_refused=self._on_refused,
            on_lapsed=lambda: self._checks.interrupt(),
            on_renewed=lambda: self._checks.start(),
        )
        share = partial(self._call_as_owner, self.manager.share_run)
        self._sharing = Sharing(self.claimed, checker.hosts.slots, share, self.processes, self._on_stuck)
        self.partitions = self._sharing.partitions
        self._watch, self._prober = Watch(config), Prober(config, self.database)
        self._checks = Checks(
            checker, self._batch.checker, config, self._on_progress, self._may_check, self._watch.note
        )
        self._all_read = False
        self._stopping = False
        self._interrupted = asyncio.Event()  # by a signal, or because the run is over, not at the end of a task
        self._is_pausing = False
        self._room = asyncio.Event()
        self._chunk_ready = asyncio.Event()
        self._settled = asyncio.Event()  # every profile that was read is checked or cancelled

    async def work(self) -> None:
        """Check and record until nothing is pending or, after `stop`, until the running checks have ended.

        Raises RunOver when the run has ended, Offline when this machine is offline, and errors of the database or of
        the checker's set-up.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._heartbeat)
            await self._enter_checker(stack)
            self.checker.hosts.recall(await self.database(recall_hosts))
            self.checker.send_while(lambda: self._heartbeat.is_valid)
            await self._sharing.begin()
            works = self._record, self._read, self._sharing.keep_exchanging
            tasks = [asyncio.create_task(work()) for work in works]
            try:
                await asyncio.gather(*tasks)
            finally:
                self._stopping = True
                await asyncio.gather(end(*tasks), self._checks.close())

    def stop(self, seconds: float | None = None) -> None:
        """Start no new checks. Running checks have `seconds` to finish (default: the grace period), and their results
        are recorded. Other workers can check the rest.
        """
        self._start_no_more()
        if seconds is None:
            self._interrupted.set()
        left = self.config.grace_seconds if seconds is None else seconds
        self._loop.call_later(left - min(RESERVE_SECONDS, left / 3), self.stop_immediately)

    def stop_immediately(self) -> None:
        """Cancel the running checks too. Their profiles stay pending."""
        self._start_no_more()
        self._interrupted.set()
        self._checks.cancel()

    def _start_no_more(self) -> None:
        if not self._stopping:
            self._stopping = True
            self.partitions.leave(self._checks.stop())
            self._room.set()
            self._chunk_ready.set()

    def _beat(self) -> object:
        """In the thread of the heartbeat."""
        answer = self.manager.renew_lease(self._batch.pk, self._token)
        if answer:
            self._loop.call_soon_threadsafe(self.checker.hosts.recall, hear_of_hosts())
            if are_slots_wanted(self._token):
                self._loop.call_soon_threadsafe(self._sharing.exchange_soon)
            if are_wanted(self._batch):
                self._loop.call_soon_threadsafe(self._give_half_away)
        return answer

    def _give_half_away(self) -> None:
        self._checks.drop(self.partitions.give_half_away(self._checks.window.waiting))

    def _may_check(self) -> bool:
        return self._heartbeat.is_valid and not self._is_pausing

    def _on_refused(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._chunk_ready.set()
        self._interrupted.set()

    def _on_stuck(self) -> None:
        """End the run, so that this worker claims again, and takes over from the dead one.

        All workers may be waiting for it: then nobody else would claim.
        """
        if not self._stopping:
            self.stop(self.config.check_timeout)
        self.checker.hosts.slots.cancel_waiting()

    async def _enter_checker(self, stack: AsyncExitStack) -> None:
        """Enter the checker, with a timeout, so that a worker never waits for ever."""
        seconds = self.config.lease_seconds
        try:
            async with asyncio.timeout(seconds):
                await stack.enter_async_context(self.checker)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"The checker was not ready within {seconds:g} s.") from error

    async def _read(self) -> None:
        while not self._stopping and (scan := self.partitions.scan or await self._lease_more()):
            size = self.config.page_size
            page = await self.database(queries.fetch_pending, self._batch, set(scan.partitions), scan.last_id, size)
            if not self._stopping:
                self._checks.add(self.partitions.add(scan, page, size))
                self.partitions.put_off(partition_of_domain(host) for host in self._checks.window.take_crowded())
                await self._wait_until(lambda: self._checks.wants_more)
        self._all_read = True
        self._checks.add_no_more()
        self._on_progress()

    async def _lease_more(self) -> Scan | None:
        """Lease free partitions, and return what to read of them.

        Leasing late leaves a share to processes that start later.
        """
        await self._wait_until(lambda: self._checks.wants_more and self._checks.runs_low)
        await self._sharing.lease_more()
        return self.partitions.scan

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Looks at the condition whenever there is room for more profiles."""
        while not condition() and not self._stopping:
            self._room.clear()
            await self._room.wait()

    def _on_progress(self) -> None:
        if self._checks.wants_more:
            self._room.set()
        is_settled = self._all_read and self._checks.is_idle
        if is_settled:
            self._settled.set()
            self._sharing.end()
        if is_settled or self._checks.fault or self._checks.has_chunk:
            self._chunk_ready.set()

    async def _record(self) -> None:
        while not (self._settled.is_set() and not self._checks.results):
            await self._wait_for_chunk()
            if notes := self.checker.hosts.take_notes():
                await self.database(remember_hosts, notes)
            if self._checks.fault is not None:
                raise self._checks.fault
            if self._refusal is not None:
                raise RunOver(str(self._refusal))
            await self._require_online()
            if chunk := self._checks.take_chunk():
                began = time.monotonic()
                await self._call_as_owner(self.manager.record_results, chunk)
                self._heartbeat.note_renewal(began)
                note_recorded(chunk, time.monotonic() - began)
                self.partitions.note_recorded(profile_id for profile_id, _ in chunk)
                self._checks.start()
            if self.partitions.released:
                await self._sharing.release()
        await self._require_online()

    async def _require_online(self) -> None:
        """Raises Offline if too many of the latest checks could not connect because this machine is offline."""
        if self._watch.has_failures:
            await self._prober.remember()
        if not self._watch.suspects_outage(has_ended=self._settled.is_set()):
            return
        is_online = await unless(self._interrupted, self._is_online())
        if is_online:
            self._watch.forget()
            return
        await self._record_answers()  # and leave the others pending
        if is_online is False:
            raise self._watch.describe()

    async def _is_online(self) -> bool:
        if await self._prober.is_online():
            return True
        # Probe again while no check is running: many at once may be too much for our own network.
        self._is_pausing = True
        self._checks.interrupt()
        await self._checks.wait_for_running(self.config.timeout)
        is_online = await self._prober.is_online()
        self._is_pausing = False
        if is_online:
            self._checks.start()
        return is_online

    async def _record_answers(self) -> None:
        while chunk := self._checks.take_chunk():
            answers = [(pk, result) for pk, result in chunk if result.ok or result.http_status is not None]
            await self._call_as_owner(self.manager.record_results, answers)

    async def _wait_for_chunk(self) -> None:
        """Until a chunk is full, everything is settled, or the first result has waited long enough for others."""
        if not self._checks.has_chunk and not self._settled.is_set():
            self._chunk_ready.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.config.record_seconds):
                    await self._chunk_ready.wait()

    async def _call_as_owner(self, call: Callable[..., Any], *arguments: Any) -> Any:
        answer = await self.database(call, self._batch.pk, self._token, *arguments)
        if isinstance(answer, Refusal):
            raise RunOver(str(answer))
        return answer


def note_recorded(chunk: Sequence[tuple[int, CheckResult]], seconds: float) -> None:
    RECORDING.observe(seconds)
    successful = sum(result.ok for _, result in chunk)
    RESULTS.labels("ok").inc(successful)
    RESULTS.labels("failed").inc(len(chunk) - successful)
