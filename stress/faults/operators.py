"""Operators and programs that change the queue at the worst moment."""

import random
import time
from itertools import cycle

from batches.models import Batch, BatchLog, BatchProfile
from stress import pairs as calls
from stress.environment import TOLERANCE
from stress.pairs import HEAD_START, PAIRS
from stress.stage import TAKEOVER_SECONDS, Stage, empty_tables

#: Delays of responses, in turn: checks are running at the time of the pause, or results arrive constantly.
DELAYS_MS = (250, 5)

Status = Batch.Status


def pause(stage: Stage, count: int) -> None:
    """Pause the running batch while results are recorded, check that no late ones arrive, and start it again.

    It is the only batch in the queue, since otherwise the next one would run instead.
    """
    delays = cycle(DELAYS_MS)
    for _ in range(stage.workers):
        stage.start_worker()
    stage.watch(TAKEOVER_SECONDS)
    while stage.has_more_to_try(count):
        running = Batch.objects.running().first()
        if running is None:
            created = time.monotonic()
            stage.make_batch(200, delay_ms=next(delays))
            stage.wait_for_any("claimed", since=created, refill=False)
            continue
        time.sleep(random.uniform(0, 0.1))
        if not stage.manager.pause_batch(running.pk):
            continue  # it finished just before
        before = _count_results(running)
        time.sleep(random.uniform(0, 0.03))
        late = _count_results(running) - before
        if late:
            stage.breach(f"results recorded after a pause had returned: {late}")
        _resume(stage, running)
        stage.tried += 1
    stage.drain()


def _count_results(batch: Batch) -> int:
    return batch.profiles.exclude(status=BatchProfile.Status.PENDING).count()


def _resume(stage: Stage, batch: Batch) -> None:
    resumed = time.monotonic()
    if not stage.manager.start_batch(batch.pk):
        stage.breach("a paused batch could not be started again")
    if event := stage.wait_for_any("claimed", since=resumed, refill=False):
        stage.recoveries.append(event[1] - resumed)


def pairs(stage: Stage, count: int) -> None:
    stage.watch(None)
    stage.url = stage.house.database.patient_url
    two = [stage.start(calls.make_calls) for _ in range(2)]
    names = list(PAIRS)
    while stage.has_more_to_try(count):
        name = names[stage.tried % len(names)]
        pair = PAIRS[name]
        orders = pair.prepare()
        last_line = BatchLog.objects.latest("pk").pk
        instant = time.monotonic() + HEAD_START
        for actor, call in zip(two, orders, strict=True):
            actor.send((*call, instant))
        events = [stage.wait_for_event(actor, "returned", seconds=TOLERANCE * 15) for actor in two]
        results = sorted(event[2] for event in events if event)
        lines = BatchLog.objects.filter(pk__gt=last_line).count()
        if results != sorted(pair.results) or lines != pair.lines:
            stage.breach(f"{name}: {results} and {lines} lines in the audit log")
        stage.tried += 1
        empty_tables(close=False)
    for actor in two:
        actor.send("stop")
