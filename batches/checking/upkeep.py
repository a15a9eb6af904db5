"""Prepares messages, queues due lists, and prunes, while checks run."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from threading import Event

from django.db import close_old_connections, connections

from batches.batch_manager import BatchManager
from batches.models import discard_connections, is_database_fault
from batches.notifications.alerts import write_alerts
from batches.notifications.message_data import prepare_messages

from .pruning import Pruner

logger = logging.getLogger(__name__)

PRUNER = Pruner()


@asynccontextmanager
async def doing_upkeep(manager: BatchManager, poll_seconds: float) -> AsyncIterator[None]:
    """Look for messages and due lists in the background of the `async with` block.

    This uses a thread with its own connection: the rows of a long list must not delay results and heartbeats.
    """
    ended, thread = Event(), ThreadPoolExecutor(max_workers=1, thread_name_prefix="upkeep")
    work = asyncio.create_task(_poll(manager, poll_seconds, ended, thread))
    try:
        yield
    finally:
        ended.set()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        thread.submit(connections.close_all)
        thread.shutdown()


async def _poll(manager: BatchManager, poll_seconds: float, ended: Event, thread: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await loop.run_in_executor(thread, do_upkeep, manager, ended.is_set)
        await asyncio.sleep(poll_seconds)


def do_upkeep(manager: BatchManager, should_stop: Callable[[], bool]) -> None:
    """Prepare messages first: they read current data, and long lists take time.

    Without a database, the rest waits, too.
    """
    steps: dict[str, Callable[[], object]] = {
        "Alerts could not be written": write_alerts,
        "Messages could not be prepared": prepare_messages,
        "Due lists could not be queued": partial(_queue_due_lists, manager, should_stop),
        "Old rows could not be pruned": partial(PRUNER.prune, manager, should_stop),
    }
    all(_attempt(failed, call) for failed, call in steps.items())


def report_return() -> None:
    """Report late that no worker was running, when a worker starts and before it looks for work."""
    _attempt("Alerts could not be written", partial(write_alerts, is_back=True))


def _queue_due_lists(manager: BatchManager, should_stop: Callable[[], bool]) -> None:
    if queued := manager.queue_due_lists(should_stop=should_stop):
        logger.info("Due lists queued: %s", len(queued))


def _attempt(failed: str, call: Callable[[], object]) -> bool:
    """Make the call, and return whether the database responded.

    An error is logged, and the call repeated in the next round.
    """
    close_old_connections()
    try:
        call()
    except Exception as error:
        discard_connections()
        if is_database_fault(error):
            logger.warning("Database error, schedules and messages wait: %s", str(error).strip())
            return False
        logger.exception(failed)
    return True
