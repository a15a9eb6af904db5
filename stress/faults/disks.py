"""The database on a small disk that is full or read-only."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

from django.db import DatabaseError, connection, connections

from batches.models import Batch
from stress import databases
from stress.databases import PostgreSQL, SQLite
from stress.stage import TAKEOVER_SECONDS, Stage

from .databases import LONGEST_RETRY_SECONDS, measure_recovery, wait_for_progress

#: Enough for a PostgreSQL cluster and its changes; SQLite needs less.
DISK_MB = 256

#: Profiles of a batch that does not fit on a full disk.
TOO_MANY = 5_000

CLEAR = re.compile(
    r"disk is full|No space left on device|readonly database|unable to open database file|read-only transaction"
)


def full(stage: Stage, count: int) -> None:
    with _small_disk(stage) as disk:
        if disk is None:
            return
        for _ in stage.strikes(count):
            wait_for_progress(stage)
            _truncate_log()
            with _ballast(disk):
                log_size = stage.house.log.stat().st_size
                _check_refusal(stage)
                stage.wait(partial(_has_worker_reported, stage, log_size), "no worker reported the problem")
            _revive(stage)
            measure_recovery(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)
        stage.settle()


def read_only(stage: Stage, count: int) -> None:
    """SQLite's disk is read-only. PostgreSQL does not run on a read-only disk, so it becomes a standby."""
    is_postgresql = isinstance(stage.house.database, PostgreSQL)
    with nullcontext(Path()) if is_postgresql else _small_disk(stage) as disk:
        if disk is None:
            return
        stage.watch(None)
        while stage.has_more_to_try(count):
            stage.start_workers()
            wait_for_progress(stage)
            with _read_only(stage, disk):
                log_size = stage.house.log.stat().st_size
                _check_refusal(stage)
                stage.wait(partial(_has_worker_reported, stage, log_size), "no worker reported the problem")
            measure_recovery(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)
            stage.dismiss()
        stage.drain()
        stage.settle()


def _check_refusal(stage: Stage) -> None:
    """A batch that cannot be stored is refused with a clear error and leaves nothing behind."""
    before = Batch.everything.count() if stage.house.database.vendor == "postgresql" else None
    try:
        stage.make_batch(TOO_MANY)
    except DatabaseError as error:
        if not CLEAR.search(str(error)):
            stage.breach(f"the error is not clear: {error}")
    else:
        stage.breach("a batch was created although the disk cannot be written")
    if before is not None and Batch.everything.count() != before:
        stage.breach("half a batch was written")
    connections.close_all()


def _has_worker_reported(stage: Stage, log_size: int) -> bool:
    text = stage.house.log.read_bytes()[log_size:].decode()
    return any("Database error" in line and CLEAR.search(line) for line in text.splitlines())


# Disks


@contextmanager
def _small_disk(stage: Stage) -> Iterator[Path | None]:
    """Move the database to a small disk. None if it cannot be mounted; the fault is then not tried."""
    place = Path(tempfile.mkdtemp(prefix="batches-stress-disk-"))
    try:
        if not _mount(place):
            stage.not_tried = "only root can mount a disk"
            yield None
            return
        with _move_database(stage, place):
            yield place
    finally:
        for actor in stage.actors:
            actor.kill()
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
        place.rmdir()


def _mount(place: Path) -> bool:
    if os.geteuid() != 0 or not shutil.which("mount"):
        return False
    options = f"size={DISK_MB}m,mode=0755"
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True).returncode == 0


@contextmanager
def _move_database(stage: Stage, place: Path) -> Iterator[None]:
    database = stage.house.database
    connections.close_all()
    if isinstance(database, SQLite):
        stage.url = f"sqlite:///{databases.copy_sqlite(database.path, place)}"
        databases.use(stage.url)
        try:
            yield
        finally:
            databases.use(database.url)
    else:
        assert isinstance(database, PostgreSQL)
        with database.on_disk(place):
            yield


@contextmanager
def _ballast(disk: Path) -> Iterator[None]:
    """Fill the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        size, step = 0, DISK_MB << 20
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), size, step)
                size += step
            except OSError:
                step //= 2
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def _read_only(stage: Stage, disk: Path) -> Iterator[None]:
    database = stage.house.database
    if isinstance(database, PostgreSQL):
        database.demote()
        try:
            yield
        finally:
            database.promote()
    else:
        # A disk cannot become read-only while a file is open for writing.
        stage.dismiss()
        stage.stop_callers()
        stage.pause_watcher()
        connections.close_all()
        _remount(disk, "ro")
        stage.start_workers()
        try:
            yield
        finally:
            _remount(disk, "rw")
            stage.watch(None)


def _remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True, capture_output=True)


def _truncate_log() -> None:
    """SQLite reuses its log; only a log that has to grow runs into the full disk."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _revive(stage: Stage) -> None:
    """PostgreSQL stops when it cannot write its log. Start it again when there is space."""
    database = stage.house.database
    if isinstance(database, PostgreSQL) and not database.is_running():
        database.start()
