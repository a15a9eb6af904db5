"""Workers that are killed, frozen and stopped."""

import random
import signal
import time
from itertools import count as numbers

from batches.models import Batch, Lease
from stress.databases import use
from stress.environment import GRACE_SECONDS, LEASE_SECONDS, POLL_SECONDS, TOLERANCE
from stress.stage import TAKEOVER_SECONDS, Actor, Stage
from stress.worker import AFTER_COMMIT, ANYWHERE, BEFORE_COMMIT, BEFORE_RECORDING, Plan, plan_death

#: Too long for a takeover: a worker that continues earlier does so because the lease was released.
LONG_LEASE = 300.0

#: Takeovers without progress after which a batch fails, in the fault that tries this.
MAX_TAKEOVERS = 3

#: Seconds before a worker retries after a database error.
RETRY_SECONDS = 0.5

Status = Batch.Status


def kill(stage: Stage, count: int) -> None:
    deaths = numbers()
    stage.start_workers(lambda: plan_death(next(deaths)))
    stage.watch(TAKEOVER_SECONDS)
    died = None
    while stage.has_more_to_try(count):
        stage.keep_waiting()
        for _, (kind, at, *values) in stage.listen():
            if kind == "claimed" and died is not None:
                stage.recoveries.append(at - died)
                died = None
            elif kind == "ended" and values == [-signal.SIGKILL]:
                stage.tried += 1
                died = died or at
                stage.start_worker(plan_death(next(deaths)))
            elif kind == "ended":
                stage.breach(f"a worker ended with {values[0]}")
                stage.start_worker(plan_death(next(deaths)))
    stage.dismiss()
    stage.drain()


def lose(stage: Stage, count: int) -> None:
    """A worker loses the response to every third COMMIT. It has to retry and learn that the COMMIT succeeded."""
    stage.start_workers(lambda: Plan("lose", AFTER_COMMIT, number=3))
    stage.watch(TAKEOVER_SECONDS + RETRY_SECONDS)
    lost = None
    while stage.has_more_to_try(count):
        stage.keep_waiting()
        for _, (kind, at, *_) in stage.listen():
            if kind == "lost":
                stage.tried += 1
                lost = lost or at
            elif kind in {"claimed", "recorded"} and lost is not None:
                stage.recoveries.append(at - lost)
                lost = None
    stage.dismiss()
    stage.drain()


def freeze(stage: Stage, count: int) -> None:
    """Freeze a worker, in turn, before recording, inside a transaction, and anywhere; resume it after a takeover."""
    # A frozen worker may hold a lock. It must not block the harness, which has to resume it.
    use(stage.house.database.impatient_url)
    for _ in stage.strikes(count, 2 * TAKEOVER_SECONDS):
        stage.keep_waiting()
        where = (BEFORE_RECORDING, BEFORE_COMMIT, ANYWHERE)[stage.tried % 3]
        if owner := stage.wait_for_any("claimed", "recorded"):
            owner[0].send(Plan("freeze", where, seconds=random.uniform(0, 0.05)))
            if frozen := stage.wait_for_any("freezing", since=owner[1]):
                _thaw_after_takeover(stage, *frozen, where)
        stage.tried += 1


def _thaw_after_takeover(stage: Stage, frozen: Actor, since: float, where: str) -> None:
    """A worker that is frozen inside an SQLite transaction blocks everybody until it is resumed."""
    may_hold_the_file = where != BEFORE_RECORDING and stage.house.database.vendor == "sqlite"
    is_taken_over = False
    limit = 2 * LEASE_SECONDS if may_hold_the_file else TAKEOVER_SECONDS
    while not is_taken_over and time.monotonic() < since + limit:
        stage.listen(0.05)
        # Another claim would not be enough, since others have a share in the run, too.
        if not Lease.objects.filter(worker__endswith=f":{frozen.process.pid}").exists():
            stage.recoveries.append(time.monotonic() - since)
            is_taken_over = True
    frozen.thaw()
    if where == BEFORE_RECORDING:
        late = stage.wait_for_event(frozen, "late")
        if late and late[2]:
            stage.breach("a frozen worker's late results were recorded")
    if not is_taken_over and not may_hold_the_file:
        stage.breach(f"nobody took over from a worker that froze {where}")


def share(stage: Stage, count: int) -> None:
    """Batch after batch; a worker is killed or leaves, and another comes, so that partitions change hands."""
    for _ in range(stage.workers):
        stage.start_worker()
    stage.watch(TAKEOVER_SECONDS)
    while stage.has_more_to_try(count):
        stage.keep_waiting()
        if event := stage.wait_for_any("claimed", "recorded"):
            event[0].signal(signal.SIGTERM if stage.tried % 2 else signal.SIGKILL)
            stage.start_worker()
        stage.tried += 1
    stage.dismiss(signal.SIGTERM)
    stage.drain()


def sigterm(stage: Stage, count: int) -> None:
    stage.start_workers()
    stage.watch(GRACE_SECONDS + POLL_SECONDS + TOLERANCE)
    while stage.has_more_to_try(count):
        stage.keep_waiting()
        if not (event := stage.wait_for_any("claimed", "recorded")):
            break
        owner = event[0]
        time.sleep(random.uniform(0, 0.1))
        stage.start_worker()
        sent = time.monotonic()
        owner.signal(signal.SIGTERM)
        ended = _wait_for_end_and_successor(stage, owner)
        if ended is None:
            stage.breach("a worker did not end after SIGTERM")
        elif ended[1] != 0:
            stage.breach(f"a worker ended with {ended[1]} after SIGTERM")
        elif ended[0] - sent > GRACE_SECONDS + TOLERANCE:
            stage.breach(f"a worker took {ended[0] - sent:.1f} s to end")
        stage.tried += 1
    stage.dismiss(signal.SIGTERM)
    stage.drain()


def _wait_for_end_and_successor(stage: Stage, leaving: Actor) -> tuple[float, int] | None:
    """Its end and exit status, after another worker has continued."""
    ended, followed = None, None
    began = time.monotonic()
    while (ended is None or followed is None) and time.monotonic() < began + GRACE_SECONDS + 2 * TOLERANCE:
        stage.refill()
        for actor, (kind, at, *values) in stage.listen(0.05):
            if actor is leaving and kind == "ended":
                ended = at, values[0]
            elif actor is not leaving and kind == "claimed" and at > began:
                followed = at
    if followed is None:
        stage.breach("nobody continued after SIGTERM")
    elif ended:
        stage.recoveries.append(max(0.0, followed - ended[0]))
    return ended


def poison(stage: Stage, count: int) -> None:
    """After the last takeover, the next worker fails the batch and works on the next one."""
    stage.watch(TAKEOVER_SECONDS)
    while stage.has_more_to_try(count):
        deadly = stage.make_batch(4, checker="deadly")
        harmless = stage.make_batch(4)
        began = time.monotonic()
        deaths = 0
        worker = stage.start_worker()
        while not Batch.objects.filter(pk=harmless.pk, status=Status.DONE).exists() and not stage.is_hopeless:
            if time.monotonic() - began > (MAX_TAKEOVERS + 2) * TAKEOVER_SECONDS:
                stage.breach("the batch behind a deadly one is not done")
                break
            for actor, (kind, *_) in stage.listen(0.05):
                if actor is worker and kind == "ended":
                    deaths += 1
                    worker = stage.start_worker()
        deadly.refresh_from_db()
        if deaths != MAX_TAKEOVERS + 1 or deadly.status != Status.ERROR or "no heartbeat" not in deadly.error:
            stage.breach(f"after {deaths} deaths the batch is {deadly.status}: {deadly.error!r}")
        stage.recoveries.append(time.monotonic() - began)
        stage.tried += 1
        worker.kill()
        stage.manager.delete_batch(deadly.pk)
    stage.drain()
