"""The memory of a worker on a big batch. Another process creates the batch, so that this does not count."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from batches.models import Batch
from benchmarks.noop import addresses
from benchmarks.work import work_on

PROFILES = 1_000_000
GOAL = 250
MANAGE = Path(__file__).parent.parent / "manage.py"


def run(profiles: int, rounds: int) -> Iterator[str]:
    started = time.perf_counter()
    create_batch(profiles)
    yield f"`batch create FILE` took {time.perf_counter() - started:.1f} s"
    before = peak_megabytes()
    seconds = work_on(Batch.objects.get())
    yield (
        f"peak memory of the worker {peak_megabytes():.0f} MB (goal {GOAL}; {before:.0f} MB before the first profile), "
        f"{profiles / seconds:,.0f} profiles/s"
    )


def create_batch(profiles: int) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{address}\n" for address in addresses(profiles, 0))
        file.flush()
        command = [sys.executable, MANAGE, "batch", "create", file.name, "--checker", "noop"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
