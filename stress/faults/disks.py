"""The database on a small disk of its own, which is full, or cannot be written."""

from __future__ import annotations

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

from .databases import LONGEST_RETRY_SECONDS, goes_on, in_the_middle, start_workers

#: Room for a PostgreSQL cluster and what is written on it; SQLite needs less.
DISK_MB = 256

#: Profiles of a batch for which a full disk has no room.
TOO_MANY = 5_000

CLEAR = re.compile(
    r"disk is full|No space left on device|readonly database|unable to open database file|read-only transaction"
)


def full(stage: Stage, count: int) -> None:
    with _small_disk(stage) as disk:
        if disk is None:
            return
        stage.watch(None)
        start_workers(stage)
        while stage.tried < count and not stage.is_hopeless:
            in_the_middle(stage)
            _truncate_log()
            with _ballast(disk):
                already_said = stage.house.log.stat().st_size
                _is_refused_clearly(stage)
                stage.wait(partial(_worker_complains, stage, already_said), "no worker says what is wrong")
            _revive(stage)
            goes_on(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)
        stage.drain()
        stage.settle()


def read_only(stage: Stage, count: int) -> None:
    """SQLite's disk cannot be written; PostgreSQL, which does not run on such a one, is a standby."""
    is_postgresql = isinstance(stage.house.database, PostgreSQL)
    with nullcontext(Path()) if is_postgresql else _small_disk(stage) as disk:
        if disk is None:
            return
        stage.watch(None)
        while stage.tried < count and not stage.is_hopeless:
            start_workers(stage)
            in_the_middle(stage)
            with _read_only(stage, disk):
                already_said = stage.house.log.stat().st_size
                _is_refused_clearly(stage)
                stage.wait(partial(_worker_complains, stage, already_said), "no worker says what is wrong")
            goes_on(stage, LONGEST_RETRY_SECONDS + TAKEOVER_SECONDS)
            stage.dismiss()
        stage.drain()
        stage.settle()


def _is_refused_clearly(stage: Stage) -> None:
    """Nothing of a batch that cannot be stored is there afterwards."""
    before = Batch.everything.count() if stage.house.database.vendor == "postgresql" else None
    try:
        stage.make_batch(TOO_MANY)
    except DatabaseError as error:
        if not CLEAR.search(str(error)):
            stage.breach(f"the error is not clear: {error}")
    else:
        stage.breach("a batch could be made without a disk to write it on")
    if before is not None and Batch.everything.count() != before:
        stage.breach("half a batch was written")
    connections.close_all()


def _worker_complains(stage: Stage, already_said: int) -> bool:
    said = stage.house.log.read_bytes()[already_said:].decode()
    return any("The database does not answer" in line and CLEAR.search(line) for line in said.splitlines())


# Disks


@contextmanager
def _small_disk(stage: Stage) -> Iterator[Path | None]:
    """The stage's database moves to a disk of its own. None where none can be mounted: then nothing is tried."""
    place = Path(tempfile.mkdtemp(prefix="batches-stress-disk-"))
    try:
        if not _mount(place):
            stage.not_tried = "a disk can be mounted by root only"
            yield None
            return
        with _moved(stage, place):
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
def _moved(stage: Stage, place: Path) -> Iterator[None]:
    database = stage.house.database
    connections.close_all()
    if isinstance(database, SQLite):
        stage.url = f"sqlite:///{databases.copy_of(database.path, place)}"
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
    """All room that is left is taken."""
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
        # A disk on which a file is open for writing does not become read-only.
        stage.dismiss()
        stage.stop_callers()
        stage.blink()
        connections.close_all()
        _remount(disk, "ro")
        start_workers(stage)
        try:
            yield
        finally:
            _remount(disk, "rw")
            stage.watch(None)


def _remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", disk], check=True, capture_output=True)


def _truncate_log() -> None:
    """SQLite writes over the log that it has: only one that has to grow finds the disk full."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _revive(stage: Stage) -> None:
    """PostgreSQL stops when it cannot write its log; somebody has to start it when there is room."""
    database = stage.house.database
    if isinstance(database, PostgreSQL) and not database.is_running():
        database.start()
