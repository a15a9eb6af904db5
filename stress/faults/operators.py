"""People and programs that steer the queue in the worst moment."""

from __future__ import annotations

import random
import time

from django.db import transaction

from batches.models import Batch, BatchLog, BatchProfile
from stress import pairs as calls
from stress.environment import TOLERANCE
from stress.pairs import HEAD_START, PAIRS
from stress.stage import TAKEOVER_SECONDS, Stage, empty_tables

Status = Batch.Status


def pause(stage: Stage, count: int) -> None:
    """Pause the running batch while results are being recorded, look, wait for late ones, and start it again.

    It has the queue for itself: else the next one would run instead.
    """
    for _ in range(2):
        stage.start_worker()
    stage.watch(TAKEOVER_SECONDS)
    while stage.tried < count and not stage.is_hopeless:
        running = Batch.objects.running().first()
        if running is None:
            made = time.monotonic()
            stage.make_batch(200, delay_ms=5)
            stage.wait_for("claimed", since=made, refill=False)
            continue
        time.sleep(random.uniform(0, 0.03))
        if not stage.manager.pause_batch(running.pk):
            continue  # it was done just before
        before = _recorded(running)
        time.sleep(random.uniform(0, 0.03))
        late = _recorded(running) - before
        if late:
            stage.breach(f"{late} results were recorded after a pause had returned")
        _resume(stage, running)
        stage.tried += 1
    stage.drain()


def _recorded(batch: Batch) -> int:
    return batch.profiles.exclude(status=BatchProfile.Status.PENDING).count()


def _resume(stage: Stage, batch: Batch) -> None:
    resumed = time.monotonic()
    if not stage.manager.start_batch(batch.pk):
        stage.breach("a paused batch could not be started again")
    if told := stage.wait_for("claimed", since=resumed, refill=False):
        stage.recoveries.append(told[1] - resumed)


def pairs(stage: Stage, count: int) -> None:
    stage.watch(None)
    stage.url = stage.house.database.patient_url
    two = [stage.start(calls.take_orders) for _ in range(2)]
    names = list(PAIRS)
    while stage.tried < count and not stage.is_hopeless:
        name = names[stage.tried % len(names)]
        pair = PAIRS[name]
        orders = pair.prepare()
        last_line = BatchLog.objects.latest("pk").pk
        instant = time.monotonic() + HEAD_START
        for actor, (call, arguments) in zip(two, orders, strict=True):
            actor.send((call, arguments, instant))
        told = [stage.wait_to_hear(actor, "answered", seconds=TOLERANCE * 15) for actor in two]
        answers = sorted(event[2] for event in told if event)
        lines = BatchLog.objects.filter(pk__gt=last_line).count()
        if answers != sorted(pair.answers) or lines != pair.lines:
            stage.breach(f"{name}: {answers} and {lines} lines in the log")
        stage.tried += 1
        _start_over()
    for actor in two:
        actor.send("stop")


def _start_over() -> None:
    """The tables emptied in one transaction: the watcher looks on."""
    with transaction.atomic():
        empty_tables(close=False)
