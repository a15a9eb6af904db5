"""A thousand workers in virtual time: the real calls of the manager, on a real PostgreSQL, one after the other.

Only checks are simulated, in virtual time. Each worker claims, reads pages, records, renews its lease, releases
partitions, and polls like a real one; some are killed. So the figures show the number of calls, their cost for the
database, and the time of a batch. Workers never wait for each other's locks here: the share of time in which the
database is busy shows when they would.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar
from unittest.mock import patch

from django.db import connection
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking import queries
from batches.checking.checkers.base import CheckResult, ProfileToCheck
from batches.checking.partitions import Partitions
from batches.checking.worker import LOOKS_PER_POLL
from batches.conf import Config, get_config
from batches.models import Batch, Channel, Queue
from batches.queue.leases import ClaimedRun, is_looked_after
from batches.queue.partitions import are_wanted
from batches.queue.workers import note_worker
from batches.reports.doctor import diagnose

T = TypeVar("T")
BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
PER_DOMAIN = 20
#: The name of the function that PostgreSQL's own hides, unless the search path says otherwise.
CLOCK = """
CREATE SCHEMA IF NOT EXISTS virtual;
CREATE OR REPLACE FUNCTION virtual.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS $$ SELECT pg_catalog.current_setting('virtual.now')::timestamptz $$;
SET search_path = virtual, pg_catalog, public;
"""


def measure(
    profiles: int, workers: int, per_machine: int = 8, latency: float = 0.5, killed: float = 0.02, seed: int = 1
) -> dict[str, Any]:
    """`latency` is the seconds of a check. `killed` is the share of workers that are killed, at random times."""
    random.seed(seed)
    urls = (f"https://host{number // PER_DOMAIN}.example/{number}" for number in range(profiles))
    batch = BatchManager(actor="benchmark").create_batch("Virtual", urls)
    assert isinstance(batch, Batch), batch
    world = World(get_config(), latency, per_machine)
    ideal = profiles / (workers * world.speed)
    with world:
        for number in range(workers):
            doom = random.uniform(0, ideal) if random.random() < killed else None
            # A machine's processes start together, and the machines within five seconds.
            world.add(world.live(f"worker {number}"), random.uniform(0, 5), doom)
        world.run(lambda: Batch.objects.filter(pk=batch.pk, status=Batch.Status.DONE).exists())
    batch.refresh_from_db()
    assert batch.successful_checks == profiles, batch.successful_checks
    assert not list(diagnose()), [str(finding) for finding in diagnose()]
    return world.describe(profiles, ideal)


def take_turns(profiles: list[ProfileToCheck]) -> list[tuple[str, int]]:
    """(domain, profile ID), one of each domain after the other, as a worker is fair to its hosts."""
    seen: Counter[str] = Counter()
    turns = []
    for profile in profiles:
        domain = profile.url.split("/", 3)[2]
        turns.append((seen[domain], domain, profile.profile_id))
        seen[domain] += 1
    return [(domain, profile_id) for _, domain, profile_id in sorted(turns)]


class World:
    """Virtual time, and the database that believes in it."""

    def __init__(self, config: Config, latency: float, per_machine: int) -> None:
        self.config = config
        self.per_machine = per_machine
        self.latency = latency
        #: Checks in a second of one process that never runs out of hosts.
        self.speed = config.concurrency / latency
        self.now = 0.0
        self.calls: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.most_at_work = 0
        self._order = count()
        self._events: list[tuple[float, int, Iterator[float], float | None]] = []
        self._at_work: set[str] = set()
        self._clock = patch.object(timezone, "now", self._read_clock)

    def __enter__(self) -> World:
        self._clock.start()
        with connection.cursor() as cursor:
            cursor.execute(CLOCK)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._clock.stop()
        with connection.cursor() as cursor:
            cursor.execute("RESET search_path")

    def _read_clock(self) -> datetime:
        return BEGINNING + timedelta(seconds=self.now)

    def add(self, life: Iterator[float], at: float, doom: float | None) -> None:
        heapq.heappush(self._events, (at, next(self._order), life, doom))

    def run(self, is_over: Callable[[], bool]) -> None:
        """Continue each worker at its time, until the batch is done."""
        looked = 0.0
        while self._events:
            self.now, _, life, doom = heapq.heappop(self._events)
            if self.now > looked + 0.2:
                looked = self.now
                if is_over():
                    return
            if doom is not None and self.now > doom:
                continue  # killed: its lease will expire
            pause = next(life, None)
            if pause is not None:
                self.add(life, self.now + pause, doom)

    def call(self, name: str, function: Callable[..., T], *arguments: Any) -> T:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('virtual.now', %s, false)", [self._read_clock().isoformat()])
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.calls[name] += 1
            self.seconds[name] += time.perf_counter() - began

    def live(self, name: str) -> Iterator[float]:
        """A worker. Yields how long it does something that needs no database."""
        manager = BatchManager(actor=name, channel=Channel.WORKER)
        while True:
            version = self.call("look for changes", Queue.objects.read_version)
            claimed = self.call("claim", manager.claim_run, name, self.per_machine)
            if claimed is not None:
                self._at_work.add(name)
                self.most_at_work = max(self.most_at_work, len(self._at_work))
                yield from self._work_on(claimed, manager)
                self._at_work.discard(name)
                yield 0.01  # the calls take time, too
                continue
            yield from self._wait_for_change(name, version)

    def _wait_for_change(self, name: str, version: int) -> Iterator[float]:
        poll = self.config.poll_seconds
        while True:
            for _ in range(LOOKS_PER_POLL):
                yield poll / LOOKS_PER_POLL
                if self.call("look for changes", Queue.objects.read_version) != version:
                    return
            self.call("send a heartbeat", note_worker, name)
            if not self.call("see whether another worker looks", is_looked_after, poll):
                return

    def _work_on(self, claimed: ClaimedRun, manager: BatchManager) -> Iterator[float]:
        batch, token, partitions = claimed.batch, claimed.run_token, Partitions(claimed.partitions)
        interval, size = min(self.config.lease_seconds / 3, 2.0), self.config.page_size
        next_beat = self.now + interval

        def lease(released: list[int]) -> bool:
            processes = 0 if released else self.per_machine
            shared = self.call(
                "lease", manager.share_run, batch.pk, token, (), (), partitions.checked, released, processes
            )
            if shared:
                partitions.lease(shared.partitions)
            return bool(shared)

        while True:
            if partitions.scan is None and not (lease([]) and partitions.scan):
                break
            scan = partitions.scan
            page = self.call("read a page", queries.fetch_pending, batch, set(scan.partitions), scan.last_id, size)
            waiting = take_turns(partitions.add(scan, page, size))
            while waiting:
                speed = min(self.speed, len({domain for domain, _ in waiting}) * self.config.per_host / self.latency)
                most = max(1, min(self.config.record_size, int(speed * self.config.record_seconds)))
                chunk = [profile_id for _, profile_id in waiting[:most]]
                del waiting[:most]
                yield len(chunk) / speed
                results = [(profile_id, CheckResult(ok=True, http_status=200)) for profile_id in chunk]
                if not self.call("record", manager.record_results, batch.pk, token, results):
                    return
                partitions.note_recorded(chunk)
                if self.now >= next_beat:
                    next_beat = self.now + interval
                    if not self.call("renew", manager.renew_lease, batch.pk, token):
                        return
                    if self.call("see whether another worker waits", are_wanted, batch):
                        partitions.give_half_away()
                if (released := partitions.released) and not lease(released):
                    return
        if not self.call("finish", manager.finish_run, batch.pk, token):
            self.call("release", manager.release_run, batch.pk, token, partitions.checked)

    def describe(self, profiles: int, ideal: float) -> dict[str, Any]:
        busy = sum(self.seconds.values())
        return {
            "virtual s": round(self.now, 1),
            "ideal s": round(ideal, 1),
            "workers at once": self.most_at_work,
            "calls": dict(self.calls),
            "ms a call": {name: round(1000 * self.seconds[name] / number, 2) for name, number in self.calls.items()},
            "s of calls": {name: round(seconds, 2) for name, seconds in self.seconds.items()},
            "share of leasing and finding work": round(
                sum(self.seconds[name] for name in ("lease", "claim", "read a page")) / (profiles / self.speed), 4
            ),
            "connections busy": round(busy / self.now, 2),
        }
