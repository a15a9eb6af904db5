"""Measures how fast a running worker begins and stops with a big batch.

The worker runs in another process and is idle.
"""

import time

from batches.batch_manager import BatchManager
from batches.models import Batch

POLL_SECONDS = 0.005
#: How long to look for further results after the pause.
WATCH_SECONDS = 2.0
WAIT_SECONDS = 60.0

manager = BatchManager(actor="benchmark")


def measure(batch_id: str, seconds: float) -> dict[str, float]:
    started = time.perf_counter()
    assert (result := manager.start_batch(batch_id)), result
    wait_for_results(batch_id)
    first = time.perf_counter() - started
    time.sleep(seconds)  # of checking, before the pause
    return {"s to the first result": first, "s to the last after a pause": seconds_to_last_result(batch_id)}


def wait_for_results(batch_id: str) -> None:
    """The rows of a million profiles are not read: that takes longer than most first results."""
    end = time.monotonic() + WAIT_SECONDS
    while not count_done(batch_id):
        assert time.monotonic() < end, "No worker checks the batch."
        time.sleep(POLL_SECONDS)


def seconds_to_last_result(batch_id: str) -> float:
    """From the call of the pause to its return, or to the last result that was recorded after it."""
    started = time.perf_counter()
    assert (result := manager.pause_batch(batch_id)), result
    last, done = time.perf_counter(), count_done(batch_id)
    while (now := time.perf_counter()) < last + WATCH_SECONDS:
        if (now_done := count_done(batch_id)) != done:
            last, done = now, now_done
        time.sleep(POLL_SECONDS)
    return last - started


def count_done(batch_id: str) -> int:
    return Batch.objects.values_list("completed_profiles", flat=True).get(pk=batch_id)
