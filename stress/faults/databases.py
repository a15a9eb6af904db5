"""The database goes away, or somebody sits on its locks."""

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

#: How long the database stays away; a worker then looks every 15 s.
AWAY_SECONDS = (5.0, 30.0)
BRIEFLY_AWAY_SECONDS = (1.0, 3.0)
LONGEST_RETRY_SECONDS = 15.0


def restart(stage: Stage, count: int) -> None:
    server = _server(stage)
    stage.watch(None)
    start_workers(stage)
    while stage.tried < count and not stage.is_hopeless:
        in_the_middle(stage)
        server.restart()
        goes_on(stage, TAKEOVER_SECONDS + 4 * RETRY_SECONDS)
    stage.drain()


def away(stage: Stage, count: int) -> None:
    server = _server(stage)
    stage.watch(None)
    start_workers(stage)
    shortest, longest = AWAY_SECONDS if count >= 20 else BRIEFLY_AWAY_SECONDS
    while stage.tried < count and not stage.is_hopeless:
        in_the_middle(stage)
        server.stop()
        time.sleep(random.uniform(shortest, longest))
        server.start()
        goes_on(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)
    stage.drain()


def _server(stage: Stage) -> PostgreSQL:
    assert isinstance(stage.house.database, PostgreSQL)
    return stage.house.database


def start_workers(stage: Stage) -> None:
    """And those who steer the queue meanwhile."""
    for _ in range(2):
        stage.start_worker()
    stage.start_callers()


def in_the_middle(stage: Stage) -> Actor | None:
    """Of a batch, with another one behind it. Gives the worker that is at work on it."""
    stage.keep_waiting()
    told = stage.wait_for("recorded")
    time.sleep(random.uniform(0, 0.05))
    connections.close_all()
    return told[0] if told else None


def goes_on(stage: Stage, limit: float) -> None:
    """Now that the fault is over, results are recorded again by themselves, within so many seconds."""
    over = time.monotonic()
    stage.keep_waiting()
    if told := stage.wait_for("recorded", since=over, seconds=limit):
        stage.recoveries.append(told[1] - over)
    stage.tried += 1


def frozen_holder(stage: Stage, count: int) -> None:
    """PostgreSQL ends the frozen client's session. SQLite cannot, but nobody waits for longer than its time-out."""
    is_postgresql = stage.house.database.vendor == "postgresql"
    stage.url = stage.house.database.impatient_url
    use(stage.url)
    stage.watch(None)
    start_workers(stage)
    while stage.tried < count and not stage.is_hopeless:
        in_the_middle(stage)
        holder = stage.start(hold)
        stage.wait_to_hear(holder, "holding")
        since = time.monotonic()
        _ask_meanwhile(stage, since + IDLE_SECONDS)
        if not is_postgresql:
            time.sleep(max(0.0, since + IDLE_SECONDS - time.monotonic()))
            holder.let_go()
        _waits_no_more(stage, since + IDLE_SECONDS)
        if is_postgresql:
            holder.let_go()
        told = stage.wait_to_hear(holder, "told")
        if told and is_postgresql and not told[2]:
            stage.breach("a client that was frozen for too long could go on with its transaction")
        stage.tried += 1
    stage.drain()


def hold(link: Connection) -> None:
    """Hold the queue, frozen; tell what became of the transaction once let go."""
    try:
        with Queue.objects.locked():
            link.send(("holding", time.monotonic()))
            os.kill(os.getpid(), signal.SIGSTOP)
            BatchManager().reorder_queue()
    except (DatabaseError, InterfaceError) as error:
        link.send(("told", time.monotonic(), str(error)))
    else:
        link.send(("told", time.monotonic(), ""))


def _ask_meanwhile(stage: Stage, freed: float) -> None:
    """An operator gets a clear answer in the time that is set. Asked too late, he finds the queue free again."""
    operator = stage.start(try_once)
    told = stage.wait_to_hear(operator, "answered", seconds=LOCK_SECONDS + 2 * TOLERANCE)
    is_clear = told and any(words in told[2] for words in LOCK_ERRORS)
    if told and not is_clear and told[1] < freed:
        stage.breach(f"an operator was told {told[2]!r} while another client held the queue")


def try_once(link: Connection) -> None:
    try:
        answer = str(BatchManager(actor="operator").reorder_queue())
    except (DatabaseError, InterfaceError) as error:
        answer = f"{type(error).__name__}: {error}"
    link.send(("answered", time.monotonic(), answer))


def _waits_no_more(stage: Stage, over: float) -> None:
    time.sleep(max(0.0, over - time.monotonic()))
    stage.wait(lambda: _can_make_batches(stage), "nobody can make a batch, although nobody holds the queue any more")
    limit = 4 * RETRY_SECONDS + POLL_SECONDS + TOLERANCE + LOCK_SECONDS
    if told := stage.wait_for("claimed", since=over, seconds=limit):
        stage.recoveries.append(told[1] - over)


def _can_make_batches(stage: Stage) -> bool:
    try:
        stage.keep_waiting()
    except DatabaseError:
        return False
    return True
