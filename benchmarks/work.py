"""Shared by the benchmarks: a batch, and a worker that works until it is finished."""

import time
from collections.abc import Iterable

from batches.batch_manager import BatchManager
from batches.checking.worker import Worker
from batches.lists.imports import ProfileAddress
from batches.models import Batch


def make_batch(urls: Iterable[str], checker: str) -> Batch:
    batch = BatchManager(actor="benchmark").create_batch(
        "Benchmark", (ProfileAddress(url) for url in urls), checker=checker
    )
    assert isinstance(batch, Batch), batch
    return batch


def work_on(batch: Batch) -> float:
    """Seconds that a worker takes to finish the batch."""
    waiting = Batch.objects.filter(pk=batch.pk, status__in=[Batch.Status.QUEUED, Batch.Status.RUNNING])
    started = time.perf_counter()
    Worker(finished=lambda: not waiting.exists()).work()
    seconds = time.perf_counter() - started
    batch.refresh_from_db()
    assert batch.status == Batch.Status.DONE, batch.error
    assert batch.completed_profiles == batch.total_profiles
    return seconds
