"""The database is unavailable, or a client holds its locks."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.connection import Connection

from django.db import DatabaseError, InterfaceError, connections

from batches.batch_manager import BatchManager
from batches.models import Queue
from batches.web.outages import LOCK_ERRORS
from stress.databases import IDLE_SECONDS, LOCK_SECONDS, PostgreSQL, use
from stress.environment import POLL_SECONDS, TOLERANCE
from stress.stage import TAKEOVER_SECONDS, Actor, Stage

from .workers import RETRY_SECONDS

#: Seconds that the database is down. A worker then retries every 15 s.
AWAY_SECONDS = (5.0, 30.0)
BRIEFLY_AWAY_SECONDS = (1.0, 3.0)
LONGEST_RETRY_SECONDS = 15.0


def restart(stage: Stage, count: int) -> None:
    server = _server(stage)
    stage.watch(None)
    stage.start_workers()
    while stage.has_more_to_try(count):
        wait_for_progress(stage)
        server.restart()
        measure_recovery(stage, TAKEOVER_SECONDS + 4 * RETRY_SECONDS)
    stage.drain()


def away(stage: Stage, count: int) -> None:
    server = _server(stage)
    stage.watch(None)
    stage.start_workers()
    shortest, longest = AWAY_SECONDS if count >= 20 else BRIEFLY_AWAY_SECONDS
    while stage.has_more_to_try(count):
        wait_for_progress(stage)
        server.stop()
        time.sleep(random.uniform(shortest, longest))
        server.start()
        measure_recovery(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)
    stage.drain()


def _server(stage: Stage) -> PostgreSQL:
    assert isinstance(stage.house.database, PostgreSQL)
    return stage.house.database


def wait_for_progress(stage: Stage) -> Actor | None:
    """Wait until a worker is in the middle of a batch with others queued, and return it."""
    stage.keep_waiting()
    event = stage.wait_for_any("recorded")
    time.sleep(random.uniform(0, 0.05))
    connections.close_all()
    return event[0] if event else None


def measure_recovery(stage: Stage, limit: float) -> None:
    """After the fault, results must be recorded again within `limit` seconds."""
    over = time.monotonic()
    stage.keep_waiting()
    if event := stage.wait_for_any("recorded", since=over, seconds=limit):
        stage.recoveries.append(event[1] - over)
    stage.tried += 1


def frozen_holder(stage: Stage, count: int) -> None:
    """PostgreSQL ends the session of a frozen client. SQLite cannot, but nobody waits longer than its time-out."""
    is_postgresql = stage.house.database.vendor == "postgresql"
    stage.url = stage.house.database.impatient_url
    use(stage.url)
    stage.watch(None)
    stage.start_workers()
    while stage.has_more_to_try(count):
        wait_for_progress(stage)
        holder = stage.start(hold)
        stage.wait_for_event(holder, "holding")
        since = time.monotonic()
        _try_as_operator(stage, since + IDLE_SECONDS)
        if not is_postgresql:
            time.sleep(max(0.0, since + IDLE_SECONDS - time.monotonic()))
            holder.thaw()
        _check_recovery(stage, since + IDLE_SECONDS)
        if is_postgresql:
            holder.thaw()
        event = stage.wait_for_event(holder, "finished")
        if event and is_postgresql and not event[2]:
            stage.breach("a client that was frozen for too long could finish its transaction")
        stage.tried += 1
    stage.drain()


def hold(link: Connection) -> None:
    """Lock the queue and freeze. When resumed, report the error of the transaction, if any."""
    try:
        with Queue.objects.locked():
            link.send(("holding", time.monotonic()))
            os.kill(os.getpid(), signal.SIGSTOP)
            BatchManager().reorder_queue()
    except (DatabaseError, InterfaceError) as error:
        link.send(("finished", time.monotonic(), str(error)))
    else:
        link.send(("finished", time.monotonic(), ""))


def _try_as_operator(stage: Stage, freed: float) -> None:
    """An operator gets a clear error within the time-out. After `freed`, the queue may be free again."""
    operator = stage.start(try_once)
    event = stage.wait_for_event(operator, "finished", seconds=LOCK_SECONDS + 2 * TOLERANCE)
    is_clear = event and any(words in event[2] for words in LOCK_ERRORS)
    if event and not is_clear and event[1] < freed:
        stage.breach(f"an operator got {event[2]!r} while another client held the queue")


def try_once(link: Connection) -> None:
    try:
        result = str(BatchManager(actor="operator").reorder_queue())
    except (DatabaseError, InterfaceError) as error:
        result = f"{type(error).__name__}: {error}"
    link.send(("finished", time.monotonic(), result))


def _check_recovery(stage: Stage, over: float) -> None:
    time.sleep(max(0.0, over - time.monotonic()))
    stage.wait(lambda: _can_create_batches(stage), "creating a batch still fails after the queue is free")
    limit = 4 * RETRY_SECONDS + POLL_SECONDS + TOLERANCE + LOCK_SECONDS
    if event := stage.wait_for_any("claimed", since=over, seconds=limit):
        stage.recoveries.append(event[1] - over)


def _can_create_batches(stage: Stage) -> bool:
    try:
        stage.keep_waiting()
    except DatabaseError:
        return False
    return True
