"""The database is unavailable, or a client holds its locks."""

import os
import random
import signal
import time
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, connection, connections

from batches.batch_manager import BatchManager
from batches.models import BatchLog, BatchProfile, Queue, snapshot
from stress import site, worker
from stress.databases import IDLE_SECONDS, LOCK_SECONDS, PostgreSQL, use
from stress.environment import POLL_SECONDS, TOLERANCE
from stress.stage import TAKEOVER_SECONDS, Actor, Stage

from .workers import RETRY_SECONDS

#: Seconds that the database is down. A worker then retries every 15 s.
AWAY_SECONDS = (5.0, 30.0)
BRIEFLY_AWAY_SECONDS = (1.0, 3.0)
LONGEST_RETRY_SECONDS = 15.0

#: Parts of the errors for a lock that was held for too long.
LOCK_ERRORS = ("lock timeout", "database is locked")

#: Seconds for which another program has all connections, and for which a reader keeps its snapshot.
HOG_SECONDS = (2.0, 6.0)
READER_SECONDS, BRIEF_READER_SECONDS = 150.0, 5.0


def restart(stage: Stage, count: int) -> None:
    server = _server(stage)
    for _ in stage.strikes(count):
        wait_for_progress(stage)
        server.restart()
        measure_recovery(stage, TAKEOVER_SECONDS + 4 * RETRY_SECONDS)


def away(stage: Stage, count: int) -> None:
    server = _server(stage)
    shortest, longest = AWAY_SECONDS if count >= 20 else BRIEFLY_AWAY_SECONDS
    for _ in stage.strikes(count):
        wait_for_progress(stage)
        server.stop()
        time.sleep(random.uniform(shortest, longest))
        server.start()
        measure_recovery(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)


def terminate(stage: Stage, count: int) -> None:
    """End the session of a worker and of the web application, in turn, at any moment."""
    for _ in stage.strikes(count, TAKEOVER_SECONDS + RETRY_SECONDS):
        stage.keep_waiting()
        time.sleep(random.uniform(0, 0.2))
        task = (worker.work, site.serve)[stage.tried % 2]
        if backends := _find_backends(task.__name__):
            _query("SELECT pg_terminate_backend(%s)", random.choice(backends))
            measure_recovery(stage, TAKEOVER_SECONDS + 4 * RETRY_SECONDS)


def crash(stage: Stage, count: int) -> None:
    """Kill one process of the server. The server then ends all sessions, because their memory may be damaged."""
    for _ in stage.strikes(count):
        wait_for_progress(stage)
        if backends := _find_backends(worker.work.__name__):
            os.kill(random.choice(backends), signal.SIGKILL)
            stage.wait(_is_session_lost, "the server did not end the other sessions")
            measure_recovery(stage, TAKEOVER_SECONDS + 4 * RETRY_SECONDS)


def _find_backends(task: str) -> list[int]:
    """The processes of PostgreSQL that serve the processes with this task."""
    rows = _query("SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY backend_start", task)
    return [pid for (pid,) in rows]


def _query(sql: str, *parameters: Any) -> list[tuple[int]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _is_session_lost() -> bool:
    try:
        _query("SELECT 1")
    except OperationalError:
        connections.close_all()
        return True
    return False


def exhaust(stage: Stage, count: int) -> None:
    server = _server(stage)
    for _ in stage.strikes(count):
        wait_for_progress(stage)
        if not _hog_connections(server.url, random.uniform(*HOG_SECONDS)):
            stage.breach("the server always had another connection")
        measure_recovery(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)


def _hog_connections(url: str, seconds: float) -> bool:
    """Take every connection, end everybody else's and take those as well; keep all idle for the time.

    Returns whether there came a moment without a free connection.
    """
    over, was_full = time.monotonic() + seconds, False
    with ExitStack() as taken:
        while time.monotonic() < over:
            try:
                mine = taken.enter_context(psycopg.connect(url, application_name="hog", autocommit=True))
            except psycopg.OperationalError:
                was_full = True
                mine.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND application_name <> 'hog'"
                )
                time.sleep(0.02)
    return was_full


def reader(stage: Stage, count: int) -> None:
    """Hold a reader's snapshot. Nobody must wait for a reader, however long it reads: the watcher limits the stall."""
    seconds = READER_SECONDS if count > 1 else BRIEF_READER_SECONDS
    for _ in stage.strikes(count, TAKEOVER_SECONDS):
        wait_for_progress(stage)
        stage.url = stage.house.database.patient_url  # a longer snapshot than the project allows its own connections
        reading = stage.start(read)
        stage.url = ""
        stage.wait_for_event(reading, "reading")
        over = time.monotonic() + seconds
        while time.monotonic() < over and not stage.is_hopeless:
            measure_progress(stage, TAKEOVER_SECONDS)
        reading.send("stop")
        stage.wait_for_event(reading, "finished")
        stage.tried += 1


def read(link: Connection) -> None:
    """Read the same again and again in one snapshot, while others write."""
    with snapshot():
        seen = _read_all()
        link.send(("reading", time.monotonic()))
        while not link.poll(0.5):
            assert _read_all() == seen, "a snapshot has changed"
    assert _read_all() != seen, "nothing was written beside a reader"
    link.send(("finished", time.monotonic()))


def _read_all() -> tuple[int, int]:
    return BatchLog.objects.count(), BatchProfile.objects.exclude(status=BatchProfile.Status.PENDING).count()


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
    measure_progress(stage, limit)
    stage.tried += 1


def measure_progress(stage: Stage, limit: float) -> None:
    now = time.monotonic()
    if event := stage.wait_for_any("recorded", since=now, seconds=limit):
        stage.recoveries.append(event[1] - now)


def frozen_holder(stage: Stage, count: int) -> None:
    """PostgreSQL ends the session of a frozen client. SQLite cannot, but nobody waits longer than its timeout."""
    is_postgresql = stage.house.database.vendor == "postgresql"
    stage.url = stage.house.database.impatient_url
    use(stage.url)
    for _ in stage.strikes(count):
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
    """An operator gets a clear error within the timeout. After `freed`, the queue may be free again."""
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
