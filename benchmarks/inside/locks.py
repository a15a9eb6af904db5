"""Measures how long others wait for the queue while a big batch is stored, checked again, and recorded."""

import time
from collections.abc import Callable
from multiprocessing import get_context
from statistics import median
from typing import Any

from django.db import connection, connections

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.checking.queries import fetch_pending
from batches.models import Batch, BatchProfile
from batches.queue.leases import ClaimedRun
from batches.queue.sql import fetch_all
from benchmarks.lists import addresses

PAGE = 500
PAUSE_SECONDS = 0.02

manager = BatchManager(actor="benchmark")


def measure(profiles: int) -> dict[str, float]:
    urls = list(addresses(profiles))
    manager.create_batch("Others", urls[:1])
    waits = {"create": waits_while(lambda: manager.create_batch("Big", urls))}
    batch = Batch.objects.get(name="Big")
    waits["repeat"] = waits_while(lambda: manager.repeat_batch(batch.pk))
    waits["record"] = waits_while(lambda: check_all(batch))
    updates = share_of_hot_updates()
    waits["retry failed"] = waits_while(lambda: manager.retry_failed(batch.pk))
    assert manager.complete_batch(batch.pk)
    waits["queue again"] = waits_while(lambda: manager.queue_batch(batch.pk))
    return describe(waits) | updates


def describe(waits: dict[str, list[float]]) -> dict[str, float]:
    longest = {f"longest wait during {name}, ms": 1000 * max(times) for name, times in waits.items()}
    usual = 1000 * max(median(times) for times in waits.values())
    return {"longest wait, ms": max(longest.values()), "usual wait, ms": usual, **longest}


def rename_other(number: int) -> Any:
    """Takes the queue's lock."""
    pk = Batch.objects.filter(name__startswith="Others").values_list("pk", flat=True)[0]
    return manager.rename_batch(pk, f"Others {number}")


def waits_while(call: Callable[[], Any], write: Callable[[int], Any] = rename_other) -> list[float]:
    """Call it while another process writes again and again."""
    connections.close_all()  # the processes must not share them
    parallel = get_context("fork")
    ended, waits = parallel.Event(), parallel.SimpleQueue()
    caller = parallel.Process(target=keep_calling, args=(write, ended, waits))
    caller.start()
    try:
        assert (result := call()), result
    finally:
        ended.set()
        measured: list[float] = waits.get()
        caller.join()
    return measured


def keep_calling(write: Callable[[int], Any], ended: Any, waits: Any) -> None:
    measured: list[float] = []
    try:
        while not measured or not ended.is_set():
            started = time.perf_counter()
            assert write(len(measured))
            measured.append(time.perf_counter() - started)
            time.sleep(PAUSE_SECONDS)
    finally:  # the other process waits for it
        connections.close_all()
        waits.put(measured)


def check_all(batch: Batch) -> bool:
    """Record a result for each profile, every other one failed."""
    for running in Batch.objects.running():
        manager.pause_batch(running.pk)
    assert manager.start_batch(batch.pk)
    claimed = manager.claim_run("benchmark")
    assert isinstance(claimed, ClaimedRun)
    last_id = 0
    while page := fetch_pending(claimed.batch, claimed.partitions, last_id, PAGE):
        results = [(it.profile_id, CheckResult(ok=bool(row % 2), error="Not found")) for row, _, it in page]
        assert manager.record_results(claimed.batch.pk, claimed.run_token, results)
        last_id = page[-1][0]
    return bool(manager.finish_run(claimed.batch.pk, claimed.run_token))


def share_of_hot_updates() -> dict[str, float]:
    if connection.vendor != "postgresql":
        return {}
    connection.close()  # it then sends its statistics, which follow within a second
    time.sleep(1.5)
    statement = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s"
    [(updates, hot)] = fetch_all(statement, [BatchProfile._meta.db_table])
    return {"% of the updates are HOT": 100 * hot / max(updates, 1)}
