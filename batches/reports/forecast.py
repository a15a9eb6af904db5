"""Forecasts the queue: whether a worker is alive, the start of each waiting batch, and the effect of moves.

The estimates use the speed of the running batch and of the latest finished ones. Reads only; the number of queries does
not grow with the queue.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Count, F, Sum
from django.db.models.functions import Now
from django.utils import timezone

from batches.conf import get_config
from batches.models import Batch, Lease, Queue, Worker, public_fields

from .workers import list_workers

#: The number of latest finished batches that determine the speed.
RECENT = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """The expected start and end of a waiting batch, and its duration in seconds. None if unknown."""

    start: datetime | None = None
    end: datetime | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The effect of a move from `position` to `target`.

    The batches `first`..`last` start `others_later` seconds later and the moved one `later` seconds later; negative
    means earlier, None unknown.
    """

    position: int
    target: int
    first: int
    last: int
    later: float | None
    others_later: float | None

    @property
    def is_up(self) -> bool:
        return self.target < self.position

    @property
    def distance(self) -> int:
        return self.target - self.position

    @property
    def others(self) -> int:
        return abs(self.distance)


@dataclass(frozen=True)
class Outlook:
    """The queue at one moment (`now`, by the database's clock), and its forecast.

    `durations` are the expected seconds of the first waiting batches, in queue order, and `all_take` those of all.
    `free_in` are the seconds until the next one is promoted: None if unknown, while the queue is held without an end,
    or while no worker sends a heartbeat.
    """

    now: datetime
    queue: Queue
    running: Batch | None
    #: The leases of the workers on the running batch, and the latest heartbeat of them.
    leases: Sequence[Lease]
    heartbeat_at: datetime | None
    #: The worker with the latest heartbeat, idle or busy.
    last_worker: Worker | None
    #: Profiles per second by checker, in the latest batches.
    rates: Mapping[str, float]
    waiting: int
    waiting_profiles: int
    durations: Sequence[float | None]
    all_take: float | None
    #: The seconds until the running batch ends, None if unknown. It continues while the queue is held.
    run_ends_in: float | None
    free_in: float | None

    @property
    def workers(self) -> Sequence[str]:
        return [lease.worker for lease in self.leases]

    @property
    def worker_seen_at(self) -> datetime | None:
        return self.last_worker.seen_at if self.last_worker else None

    @property
    def versions(self) -> set[str]:
        """The versions of the workers on the running batch, or of the last worker."""
        workers = self.leases or filter(None, [self.last_worker])
        return {worker.version for worker in workers}

    @property
    def worker_is_alive(self) -> bool:
        return is_recent(self.worker_seen_at, self.now)

    @property
    def run_is_alive(self) -> bool:
        return is_recent(self.heartbeat_at, self.now)

    @property
    def run_end(self) -> datetime | None:
        return self._after(self.run_ends_in) if self.running else None

    @property
    def all_done(self) -> datetime | None:
        return self._after(self.all_done_in)

    @property
    def all_done_in(self) -> float | None:
        return None if self.free_in is None or self.all_take is None else self.free_in + self.all_take

    def turn(self, position: int) -> Turn:
        """The turn of the batch at `position` (1..n)."""
        if not 1 <= position <= len(self.durations):  # queued after the forecast was made
            return Turn()
        start, end = self._starts[position - 1 : position + 1]
        return Turn(self._after(start), self._after(end), self.durations[position - 1])

    def start_at(self, position: int) -> datetime | None:
        """When a batch queued now at `position` (1..n+1) would start."""
        return self._after(self._starts[position - 1]) if 1 <= position <= len(self._starts) else None

    def move(self, position: int, target: int) -> Move:
        """The effect of moving the batch at `position` to `target`, clamped to 1..n as in `move_batch`."""
        target = max(1, min(target, len(self.durations)))
        first, last, sign = (target, position - 1, -1) if target < position else (position + 1, target, 1)
        later, others_later = _total(self.durations[first - 1 : last]), self.turn(position).seconds
        return Move(position, target, first, last, _times(sign, later), _times(-sign, others_later))

    @cached_property
    def _starts(self) -> Sequence[float | None]:
        """Seconds until each batch of `durations` starts, and finally until the last one ends."""
        starts = [self.free_in]
        for seconds in self.durations:
            before = starts[-1]
            starts.append(None if before is None or seconds is None else before + seconds)
        return starts

    def _after(self, seconds: float | None) -> datetime | None:
        """The moment to the second, since an estimate is not more precise."""
        return None if seconds is None else (self.now + timedelta(seconds=seconds)).replace(microsecond=0)


def forecast_queue(turns: int | None = None) -> Outlook:
    """With the turns of all waiting batches, or of the first ones, which takes half as long."""
    # Read the version before the order: if the order changes in between, a move decided from it is refused as stale.
    # The other way round, the move would be applied to an order that nobody has seen.
    row = Queue.objects.annotate(now=Now()).first()
    queue, now = (row, row.now) if row else (Queue(), timezone.now())
    running = Batch.objects.running().first()
    leases = list(running.leases.order_by("worker")) if running else []
    heartbeat_at = max((lease.lease_at for lease in leases), default=None)
    last_worker = Worker.objects.last_seen()
    sums = sum_up_waiting()
    waiting = Batch.objects.queued().order_by("position")
    first = waiting.values_list("checker", "total_profiles", "completed_profiles")[:turns]
    rates = _rates(running)
    # A hold with an end delays the next start; one without leaves it unknown.
    hold = max(0.0, (queue.held_until - now).total_seconds()) if queue.held and queue.held_until else 0.0
    is_stopped = queue.held and not queue.held_until
    is_alive = last_worker is not None and is_recent(last_worker.seen_at, now)
    run_ends_in = _seconds_left(running, heartbeat_at, now, rates) if is_alive else None
    return Outlook(
        now=now,
        queue=queue,
        running=running,
        leases=leases,
        heartbeat_at=heartbeat_at,
        last_worker=last_worker,
        rates=rates,
        waiting=sum(batches for _, batches, _ in sums),
        waiting_profiles=sum(profiles for _, _, profiles in sums),
        durations=_durations(first, rates),
        all_take=_total(_seconds(profiles, rates.get(checker)) for checker, _, profiles in sums) if sums else None,
        run_ends_in=run_ends_in,
        free_in=None if run_ends_in is None or is_stopped else max(run_ends_in, hold),
    )


def queue_as_dict(
    outlook: Outlook, limit: int, batch_as_dict: Callable[[Batch], dict[str, Any]] = public_fields.batch_as_dict
) -> dict[str, Any]:
    """The queue with the field names of `models.public_fields`, with at most `limit` waiting batches and workers."""
    queue, last = outlook.queue, outlook.last_worker
    waiting = Batch.objects.queued().order_by("position")[:limit]
    work = [(batch.checker, batch.total_profiles, batch.completed_profiles) for batch in waiting]
    outlook = replace(outlook, durations=_durations(work, outlook.rates))
    workers, workers_total = list_workers(limit)
    turns = [(batch, outlook.turn(batch.position or 0)) for batch in waiting]
    return {
        **public_fields.as_dict(queue, public_fields.QUEUE),
        "worker": ", ".join(outlook.workers) if outlook.running else str(last or ""),
        "worker_version": ", ".join(sorted(outlook.versions)),
        "worker_seen_at": outlook.worker_seen_at,
        "worker_alive": outlook.worker_is_alive,
        "workers": [public_fields.as_dict(worker, public_fields.WORKER) for worker in workers],
        "workers_total": workers_total,
        "running": batch_as_dict(outlook.running) if outlook.running else None,
        "waiting": [
            batch_as_dict(batch) | {"expected_start": turn.start, "expected_end": turn.end} for batch, turn in turns
        ],
        "waiting_total": outlook.waiting,
        "waiting_profiles": outlook.waiting_profiles,
        "all_done": outlook.all_done,
    }


def sum_up_waiting() -> list[tuple[str, int, int]]:
    """The queued batches by checker: (checker, batches, profiles to check)."""
    left = Sum(F("total_profiles") - F("completed_profiles"))
    return list(Batch.objects.queued().values_list("checker").annotate(batches=Count("*"), left=left))


def is_recent(moment: datetime | None, now: datetime) -> bool:
    """Whether a heartbeat is within the lease. A heartbeat too far in the future is not, since a clock was set back."""
    return moment is not None and abs(now - moment) <= timedelta(seconds=get_config().lease_seconds)


def _rates(running: Batch | None) -> Mapping[str, float]:
    """Profiles per second by checker, without checkers that lack a recent batch."""
    finished = Batch.objects.filter(
        status=Batch.Status.DONE, completed_profiles__gt=F("skipped_profiles"), run_seconds__gt=0
    )
    samples = list(finished.order_by("-completed_at")[:RECENT])
    if running is not None:
        samples.append(running)
    checked: defaultdict[str, int] = defaultdict(int)
    seconds: defaultdict[str, float] = defaultdict(float)
    for batch in samples:
        checked[batch.checker] += batch.completed_profiles - batch.skipped_profiles
        seconds[batch.checker] += batch.run_seconds
    return {checker: checked[checker] / took for checker, took in seconds.items() if took > 0}


def _seconds_left(
    running: Batch | None, heartbeat_at: datetime | None, now: datetime, rates: Mapping[str, float]
) -> float | None:
    """Seconds until the next batch can be promoted; None if unknown."""
    if running is None:
        return 0.0
    if heartbeat_at is not None and not is_recent(heartbeat_at, now):
        return None
    left = running.seconds_left
    return _seconds(running.total_profiles, rates.get(running.checker)) if left is None else left


def _durations(work: Iterable[tuple[str, int, int]], rates: Mapping[str, float]) -> list[float | None]:
    """Of batches with these checkers, total and completed profiles."""
    return [_seconds(total - completed, rates.get(checker)) for checker, total, completed in work]


def _seconds(profiles: int, rate: float | None) -> float | None:
    if not profiles:
        return 0.0
    return profiles / rate if rate else None


def _total(durations: Iterable[float | None]) -> float | None:
    known = list(durations)
    return None if None in known else sum(seconds for seconds in known if seconds is not None)


def _times(factor: int, seconds: float | None) -> float | None:
    return None if seconds is None else factor * seconds
