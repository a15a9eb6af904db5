"""A worker's memory on a big batch, which is made by another process so that making it does not count."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator

from batches.models import Batch
from benchmarks.noop import addresses
from benchmarks.work import make_batch, work_on

PROFILES = 1_000_000
GOAL = 250


def run(profiles: int, rounds: int) -> Iterator[str]:
    started = time.perf_counter()
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(profiles,))
    maker.start()
    maker.join()
    yield f"made in {time.perf_counter() - started:.1f} s"
    before = peak_megabytes()
    seconds = work_on(Batch.objects.get())
    yield (
        f"worker's peak memory {peak_megabytes():.0f} MB (goal {GOAL}; {before:.0f} MB before the first profile), "
        f"{profiles / seconds:,.0f} profiles/s"
    )


def make(profiles: int) -> None:
    import django

    django.setup()
    make_batch(addresses(profiles, 0), "noop")


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
