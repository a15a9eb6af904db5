"""Whether workers wait for each other when they record at the same time: one, and as many as 64 processes would be."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

from django.db import connection, connections

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.models import Batch
from batches.queue import worker_calls
from batches.queue.runs import ClaimedRun
from batches.queue.sql import fetch_all

#: Results a transaction. Small, so that there are many COMMITs.
CHUNK = 25
SAMPLE_SECONDS = 0.01

manager = BatchManager(actor="benchmark")


def measure(profiles: int, recorders: int, one_row: bool = False) -> dict[str, float]:
    """`one_row` also locks the row of the batch, as counters in that row would."""
    urls = (f"https://host{number}.example/" for number in range(profiles))
    batch = manager.create_batch("Recorders", urls)
    assert isinstance(batch, Batch)
    assert manager.start_batch(batch.pk)
    runs = [manager.claim_run(f"worker {number}", recorders) for number in range(recorders)]
    shares = [list(share_of(run)) for run in runs if run]
    threads = [threading.Thread(target=record, args=pair) for pair in zip(runs, shares, strict=True)]
    patched = patch.object(worker_calls, "renew_lease", lock_batch_too) if one_row else nullcontext()
    with patched, sampling() as waiting:
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
    batch.refresh_from_db()
    assert batch.successful_checks == profiles, batch.successful_checks
    assert manager.pause_batch(batch.pk)
    return {"results/s": profiles / seconds, "recorders that wait for a lock": sum(waiting) / max(1, len(waiting))}


def share_of(run: ClaimedRun) -> list[int]:
    rows = run.batch.profiles.filter(partition__in=run.partitions).order_by("pk")
    return list(rows.values_list("profile_id", flat=True))


def record(run: ClaimedRun, share: list[int]) -> None:
    try:
        for first in range(0, len(share), CHUNK):
            results = [(profile_id, CheckResult(ok=True)) for profile_id in share[first : first + CHUNK]]
            assert manager.record_results(run.batch.pk, run.run_token, results)
    finally:
        connections.close_all()


def lock_batch_too(batch_id, run_token, renew=worker_calls.renew_lease):
    renew(batch_id, run_token)
    Batch.objects.filter(pk=batch_id).update(takeovers=0)


@contextmanager
def sampling():
    """How many sessions waited for a lock, again and again."""
    ended, waiting = threading.Event(), []
    thread = threading.Thread(target=sample, args=(ended, waiting))
    thread.start()
    try:
        yield waiting
    finally:
        ended.set()
        thread.join()


def sample(ended: threading.Event, waiting: list[int]) -> None:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    try:
        while connection.vendor == "postgresql" and not ended.wait(SAMPLE_SECONDS):
            waiting.append(fetch_all(statement, [])[0][0])
    finally:
        connections.close_all()
