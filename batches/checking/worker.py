"""The worker: claims a run, works on it, and polls for the next one. All its state is in the database."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from django.db import Error, OperationalError, close_old_connections, connections

from batches.batch_manager import BatchManager
from batches.conf import get_config
from batches.limits import GARBAGE_THRESHOLDS, MAX_ERROR
from batches.log_context import log_context
from batches.models import DATABASE_FAULTS, OUTDATED, Batch, Channel, Queue, discard_connections, is_outdated
from batches.notifications.courier import delivering
from batches.notifications.pings import Ping, pinging
from batches.queue.leases import ClaimedRun, is_looked_after
from batches.queue.outages import have_others_continued, take_probe
from batches.text import clean_text

from . import queries
from .checkers import load_checker
from .lag import measuring_lag
from .open_files import fit_concurrency
from .outage import Offline, Prober, unless
from .run import Run, RunOver
from .upkeep import do_upkeep, doing_upkeep, report_return

logger = logging.getLogger(__name__)

T = TypeVar("T")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Backoff in seconds while the database does not answer: the first wait and the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
#: How often an idle worker checks, in each poll, whether the queue has changed: a batch that is started begins at once.
LOOKS_PER_POLL = 5
#: Seconds within which a repeated signal does not count as a second one: systemd sends it to a supervisor and to its
#: workers, and then the supervisor sends it, too.
ECHO_SECONDS = 1.0
#: Seconds after which the event loop must let the thread of the database continue. While that thread waits, most calls
#: into libcurl, and its callbacks, wake it up in vain.
SWITCH_SECONDS = 0.0005


@dataclass(eq=False)
class Worker:
    """Works on one batch at a time until a signal arrives or `finished` returns True.

    `finished` is called before each claim, in the database thread. It delivers webhooks and queues due lists only if it
    `delivers`: the settings of somebody's shell may not allow their addresses. `processes` is the number of workers
    that were started together: each leaves a fair share of a batch to the others. SIGTERM, SIGINT and SIGHUP stop the
    worker: running checks have the grace period to finish, their results are recorded, and the lease is released. A
    second signal stops it immediately.

    With `seconds` it is a task that is started again and again: it ends when it finds nothing to do, and starts no
    checks after that time. Its running checks may then take as long as any check.
    """

    finished: Callable[[], bool] = lambda: False
    _: KW_ONLY
    delivers: bool = True
    processes: int = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._manager = BatchManager(actor=self.name, channel=Channel.WORKER)
        config = get_config()
        self._config = replace(config, concurrency=fit_concurrency(config.concurrency))
        self._is_task = self.seconds is not None
        self._is_over = False
        self._run: Run | None = None
        self._prober = Prober(self._config, self._database)
        self._is_offline, self._next_probe = False, 0.0
        #: The signal that stopped the worker, if any.
        self.stopped_by: int | None = None
        self._stopped_at = 0.0
        # One thread owns the only connection: it records while the event loop checks.
        self._database_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    def work(self) -> None:
        """Blocks until stopped. Must be called in the main thread, where signals arrive."""
        with tuning_python():
            self._block_on(self._work)

    def tend(self) -> None:
        """Do a worker's other tasks once, besides checking. Must be called in the main thread."""
        self._block_on(self._tend)

    def _block_on(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = asyncio.new_event_loop()
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            loop.run_until_complete(self._listen_and(work))
        except asyncio.CancelledError:
            if self.stopped_by is None:
                raise
            logger.info("Stopped immediately")
        finally:
            _close(loop)
            for number, handler in handlers.items():
                signal.signal(number, handler or signal.SIG_DFL)
            self._database_thread.submit(connections.close_all)
            self._database_thread.shutdown()

    async def _listen_and(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._stop = asyncio.Event()
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under `nohup`
                loop.add_signal_handler(number, self._on_signal, number)
        if self.seconds is not None:
            loop.call_later(self.seconds, self._end)
        await work()

    async def _work(self) -> None:
        await self._database(self._manager.purge_deleted)
        if self.delivers:
            await self._database(report_return)
        await self._database(self._manager.start_worker, self.name)
        delivers = delivering(self._config, self._database, self._stop) if self.delivers else nullcontext()
        upkeep = doing_upkeep(self._manager, self._config.poll_seconds) if self.delivers else nullcontext()
        async with measuring_lag(), delivers, upkeep, pinging(self._config) as self._pinger:
            try:
                await self._work_until_stopped()
            finally:  # even when stopped immediately
                with suppress(*DATABASE_FAULTS):  # while we are stopping: its heartbeats end anyway
                    await self._database(self._manager.end_worker, self.name)

    async def _work_until_stopped(self) -> None:
        while not (self._stop.is_set() or self._is_over) and not await self._database(self.finished):
            version = await self._database(Queue.objects.read_version)
            claimed_at = time.monotonic()  # the lease counts from before the claim: it may be frozen right after it
            claimed = await self._claim()
            if claimed is not None:
                with log_context(batch_id=str(claimed.batch.pk), run_id=str(claimed.run_token)):
                    await self._work_on(claimed, claimed_at)
                continue
            await self._tidy()
            if self._is_task:
                break
            await self._wait_for_change(version)

    async def _tend(self) -> None:
        async with delivering(self._config, self._database, self._stop):
            await self._tidy()
            await self._database(do_upkeep, self._manager, self._stop.is_set)

    async def _tidy(self) -> None:
        await self._database(self._manager.purge_deleted)
        await self._database(self._manager.finish_resets)
        await self._recover()

    def _end(self) -> None:
        self._is_over = True
        if self._run is not None:
            self._run.stop(self._config.check_timeout)

    def _on_signal(self, number: int) -> None:
        if number == self.stopped_by and time.monotonic() - self._stopped_at < ECHO_SECONDS:
            return
        self._stopped_at = time.monotonic()
        self.stopped_by = self.stopped_by or number
        if self._stop.is_set() and self._task is not None:
            self._task.cancel()  # whatever the worker waits for
        elif self._run is not None:
            logger.info("Stopping: running checks have %g s to finish", self._config.grace_seconds)
            self._run.stop()
        self._stop.set()

    async def _wait_for_change(self, version: int) -> None:
        """Wait until the next claim is due, or until the queue has changed.

        Checking that is one short query without a lock.
        """
        poll = self._config.poll_seconds
        while True:
            for _ in range(LOOKS_PER_POLL):
                await self._wait(poll / LOOKS_PER_POLL)
                if self._stop.is_set() or await self._database(Queue.objects.read_version) != version:
                    return
            await self._database(self._manager.note_worker, self.name)
            if self._is_offline or not await self._database(is_looked_after, poll):
                return

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _claim(self) -> ClaimedRun | None:
        if self._is_offline and await self._database(have_others_continued):
            return None  # only this machine is offline
        claimed = await self._database(self._manager.claim_run, self.name, self.processes, self._is_task)
        self._is_offline = self._is_offline and claimed is None
        return claimed

    async def _recover(self) -> None:
        """During an outage, probe hosts repeatedly, and release the queue when one answers."""
        if await self._is_probe_due() and await unless(self._stop, self._prober.is_online()):
            self._is_offline = False
            await self._database(self._manager.end_outage)

    async def _is_probe_due(self) -> bool:
        seconds = self._config.outage_seconds
        if not self._is_offline:
            return await self._database(take_probe, seconds)
        is_due = time.monotonic() >= self._next_probe
        self._next_probe = time.monotonic() + seconds if is_due else self._next_probe
        return is_due

    async def _stop_for_outage(self, batch: Batch, token: uuid.UUID, offline: Offline) -> None:
        logger.error("“%s”: %s", batch, offline)
        self._is_offline = True
        self._next_probe = time.monotonic() + self._config.outage_seconds
        since = await self._database(queries.find_start_of_outage, batch, offline.since)
        await self._database(self._manager.report_outage, batch.pk, token, str(offline), since)

    async def _work_on(self, claimed: ClaimedRun, claimed_at: float) -> None:
        batch, token = claimed.batch, claimed.run_token
        done, total = f"{batch.completed_profiles:,}", f"{batch.total_profiles:,}"
        logger.info("Checking “%s”: %s of %s profiles done", batch, done, total)
        if claimed.is_first:
            self._pinger.ping(Ping.START, batch.pk)
        try:
            checker = load_checker(batch.checker, self._config)
            self._run = Run(claimed, claimed_at, self._manager, checker, self._config, self._database, self.processes)
            if self._stop.is_set() or self._is_over:
                self._run.stop()
            await self._run.work()
            partitions = self._run.partitions
            if not partitions.has_checked_all or not await self._database(self._manager.finish_run, batch.pk, token):
                await self._database(self._manager.release_run, batch.pk, token, partitions.checked, self._is_task)
            else:
                ended = await self._database(Batch.everything.filter(pk=batch.pk).first) or batch
                _log_outcome(ended)
                self._pinger.ping(Ping.FAIL if ended.error else Ping.SUCCESS, batch.pk)
        except RunOver as over:
            logger.info("“%s”: %s", batch, over)
        except Offline as offline:
            await self._stop_for_outage(batch, token, offline)
        except asyncio.CancelledError:
            await self._database(self._manager.release_run, batch.pk, token)
            raise
        except DATABASE_FAULTS:
            raise  # we are stopping without the database: the lease will expire
        except Exception as error:
            logger.exception("“%s” stopped with an error", batch)
            message = f"{type(error).__name__}: {clean_text(error, MAX_ERROR)}"
            if await self._database(self._manager.handle_error, batch.pk, message, token):
                self._pinger.ping(Ping.FAIL, batch.pk)
        finally:
            self._run = None

    async def _database(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call in the database thread. Retry while the database does not respond: every call is safe to repeat."""
        loop, wait = asyncio.get_running_loop(), FIRST_WAIT
        call_once = partial(copy_context().run, _with_fresh_connection, call, *arguments)  # the context is for the log
        while True:
            try:
                return await loop.run_in_executor(self._database_thread, call_once)
            except DATABASE_FAULTS as error:
                if self._stop.is_set() or self._is_over:
                    raise
                logger.error("Database error, next attempt in %g s: %s", wait, str(error).strip())
                await self._wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)


@contextmanager
def tuning_python() -> Iterator[None]:
    """Switch threads sooner, and exclude all existing objects from garbage collection: most of them belong to modules,
    which are never freed.
    """
    interval, thresholds, is_frozen = sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count() > 0
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    if not is_frozen:
        gc.freeze()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        if not is_frozen:
            gc.unfreeze()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop like `asyncio.run`, but without waiting for threads that hang, such as in a checker's lookup of a
    name.
    """
    if tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())
    signal.set_wakeup_fd(-1)  # close() closes its socket before it removes the handlers of signals that still arrive
    loop.close()


def _with_fresh_connection(call: Callable[..., T], *arguments: Any) -> T:
    close_old_connections()  # an earlier call may have broken it
    try:
        return call(*arguments)
    except Error as error:
        if is_outdated(error):  # not a fault of the connection; on PostgreSQL it is a ProgrammingError
            raise OperationalError(f"{OUTDATED} ({str(error).strip()})") from error
        if isinstance(error, DATABASE_FAULTS):
            discard_connections()
        raise


def _log_outcome(batch: Batch) -> None:
    if batch.error:
        logger.error("“%s” failed: %s", batch, batch.error)
    else:
        skipped = f", {batch.skipped_profiles:,} skipped (resting)" if batch.skipped_profiles else ""
        ok, failed = f"{batch.successful_checks:,}", f"{batch.failed_checks:,}"
        logger.info("Finished “%s”: %s ok, %s failed%s", batch, ok, failed, skipped)
