"""How long others wait for the queue while a batch of a million profiles is stored, checked again, and recorded."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.db import connection, connections

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.models import Batch, BatchProfile
from batches.queue.runs import ClaimedRun
from batches.queue.sql import fetch_all
from batches.reports.queries import fetch_pending

PROFILES = 1_000_000
PAGE = 1_000

manager = BatchManager(actor="benchmark")


def run(profiles: int, rounds: int) -> Iterator[str]:
    urls = [f"https://host{number % 5000}.example/{number}" for number in range(profiles)]
    batch = manager.create_batch("Others", urls[:1])
    yield f"on {connection.vendor}, with {profiles:,} profiles"
    yield from measure("create", lambda: manager.create_batch("Big", urls))
    batch = Batch.objects.get(name="Big")
    yield from measure("repeat", lambda: manager.repeat_batch(batch.pk))
    yield from measure("record results", lambda: check_all(batch))
    yield from describe_updates()
    yield from measure("retry failed", lambda: manager.retry_failed(batch.pk))
    assert manager.complete_batch(batch.pk)
    yield from measure("queue again", lambda: manager.queue_batch(batch.pk))
    for number in range(rounds - 1):
        check_all(batch)
        assert manager.queue_batch(batch.pk)
        yield from describe_updates(f" after {number + 2} checks of the batch")


def measure(what: str, call: Callable[[], Any]) -> Iterator[str]:
    """Call it while another connection renames a batch again and again, which takes the queue's lock."""
    ended, waits = threading.Event(), []
    caller = threading.Thread(target=keep_calling, args=(ended, waits))
    caller.start()
    started = time.perf_counter()
    assert (result := call()), result
    seconds = time.perf_counter() - started
    ended.set()
    caller.join()
    log_size = size_of_log()
    waits.sort()
    yield (
        f"{what}: {seconds:.1f} s; {len(waits):,} other calls waited {waits[len(waits) // 2] * 1000:.0f} ms (median), "
        f"{waits[-1] * 1000:.0f} ms (longest){log_size}"
    )


def keep_calling(ended: threading.Event, waits: list[float]) -> None:
    try:
        pk = Batch.objects.get(name__startswith="Others").pk
        while not ended.is_set():
            started = time.perf_counter()
            assert manager.rename_batch(pk, f"Others {len(waits)}")
            waits.append(time.perf_counter() - started)
            time.sleep(0.02)
    finally:
        connections.close_all()


def size_of_log() -> str:
    if connection.vendor != "sqlite":
        return ""
    log = Path(f"{connection.settings_dict['NAME']}-wal")
    return f"; write-ahead log {log.stat().st_size / 1e6:.0f} MB"


def check_all(batch: Batch) -> bool:
    """Record a result for each profile, every other one failed."""
    for running in Batch.objects.running():
        manager.pause_batch(running.pk)
    assert manager.start_batch(batch.pk)
    claimed = manager.claim_run("benchmark")
    assert isinstance(claimed, ClaimedRun)
    last_id = 0
    while page := fetch_pending(claimed.batch, last_id, PAGE):
        results = [(it.profile_id, CheckResult(ok=bool(row % 2), error="Not found")) for row, it in page]
        assert manager.record_results(claimed.batch.pk, claimed.run_token, results)
        last_id = page[-1][0]
    return bool(manager.finish_run(claimed.batch.pk, claimed.run_token))


def describe_updates(when: str = "") -> Iterator[str]:
    if connection.vendor == "postgresql":
        time.sleep(1.5)  # the server's statistics follow within a second
        table = BatchProfile._meta.db_table
        [(updates, hot, size)] = fetch_all(
            "SELECT n_tup_upd, n_tup_hot_upd, pg_table_size(relid) FROM pg_stat_user_tables WHERE relname = %s", [table]
        )
        yield f"{100 * hot / max(updates, 1):.0f} % of {updates:,} updates were HOT{when}; table {size / 1e6:.0f} MB"
