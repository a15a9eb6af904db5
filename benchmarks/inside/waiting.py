"""Waits until a batch is done."""

import time

from batches.models import Batch

POLL_SECONDS = 0.1


def measure(batch_id: str) -> dict[str, float]:
    started = time.perf_counter()
    while (status := Batch.objects.values_list("status", flat=True).get(pk=batch_id)) != Batch.Status.DONE:
        assert status in {Batch.Status.QUEUED, Batch.Status.RUNNING}, status
        time.sleep(POLL_SECONDS)
    return {"s": time.perf_counter() - started}
