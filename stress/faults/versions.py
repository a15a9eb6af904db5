"""A migration while workers run, and then workers of both versions at once.

The newer version is this one with a further additive migration: a nullable column in each table that a worker writes.
SQLite adds it in place. Any other change rebuilds the table, which the audit's trigger would not survive.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from typing import Any

from django.db import OperationalError, connection, connections, models

from batches.models import OUTDATED, Batch, BatchLog, BatchProfile, Profile, Queue, StoryResult
from stress import worker
from stress.stage import TAKEOVER_SECONDS, Actor, Stage

from .databases import wait_for_progress
from .workers import RETRY_SECONDS

WRITTEN_BY_WORKERS: tuple[type[models.Model], ...] = (Batch, BatchLog, BatchProfile, Profile, Queue, StoryResult)
COLUMN = "added_by_stress"

#: A worker of the newer version may still wait for its next attempt.
LIMIT = TAKEOVER_SECONDS + 4 * RETRY_SECONDS


def upgrade(stage: Stage, count: int) -> None:
    """A newer worker waits until the database is migrated. It then takes over from the older one, and an older one from
    it. Undo the migration."""
    stage.watch(None)
    stage.start_callers()
    while stage.has_more_to_try(count):
        older = stage.start_worker()
        wait_for_progress(stage)
        newer = _start_waiting_worker(stage)
        stage.wait(lambda: _migrate(add=True), "the migration failed again and again")
        stage.watch(LIMIT)
        _kill_in_the_middle(stage, older)
        stage.start_worker()
        _kill_in_the_middle(stage, newer)
        stage.watch(None)
        stage.dismiss()
        stage.wait(lambda: _migrate(add=False), "undoing the migration failed again and again")
        stage.tried += 1
    stage.drain()


def _start_waiting_worker(stage: Stage) -> Actor:
    size = stage.house.log.stat().st_size
    newer = stage.start(work)
    stage.wait(
        lambda: OUTDATED.encode() in stage.house.log.read_bytes()[size:],
        "a worker of the newer version did not wait for its migration",
    )
    return newer


def _migrate(*, add: bool) -> bool:
    """As `manage.py migrate` does it: in one transaction. False if others blocked it and it was rolled back.

    PostgreSQL sees a deadlock if the migration and a worker lock two tables in opposite order. PostgreSQL
    cancels one of them, which tries again: the worker automatically, the operator with `migrate`.
    """
    try:
        with connection.schema_editor() as editor:
            for model in WRITTEN_BY_WORKERS:
                (editor.add_field if add else editor.remove_field)(model, _make_column(model))
    except OperationalError:
        return False
    finally:
        connections.close_all()
    return True


def _make_column(model: type[models.Model]) -> models.IntegerField[Any, Any]:
    column: models.IntegerField[Any, Any] = models.IntegerField(null=True)
    column.model = model
    column.set_attributes_from_name(COLUMN)
    return column


def work(link: Connection) -> None:
    """A worker of the newer version, which reads and writes the new columns."""
    for model in WRITTEN_BY_WORKERS:
        models.IntegerField(null=True, default=1).contribute_to_class(model, COLUMN)
    worker.work(link)


def _kill_in_the_middle(stage: Stage, owner: Actor) -> None:
    """Kill a worker during the run, so that only the worker of the other version can continue it."""
    stage.wait(lambda: wait_for_progress(stage) is owner, "a worker did not work beside one of another version")
    owner.kill()
    killed = time.monotonic()
    if event := stage.wait_for_any("claimed", since=killed, seconds=LIMIT):
        stage.recoveries.append(event[1] - killed)
