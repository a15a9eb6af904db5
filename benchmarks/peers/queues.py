"""The common part of the queues: queue no-op tasks, start the workers, and wait until all results are stored.

The time counts from the first stored result to the last, so that the start of the workers does not count.
"""

import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).parent
POLL_SECONDS = 0.1
#: A queue without a new result for this long has failed.
STALLED_SECONDS = 60.0


class Queue(ABC):
    """A queue with its database or Redis in `url`."""

    def __init__(self, url: str, processes: int) -> None:
        self.url = url
        self.processes = processes
        self.environment = {**os.environ, "BENCH_URL": url, "BENCH_PROCESSES": str(processes), "PYTHONPATH": str(HERE)}

    def prepare(self) -> None:  # noqa: B027
        """Create its tables."""

    @abstractmethod
    def enqueue(self, count: int) -> None:
        """Queue tasks in the fastest documented way."""

    @property
    @abstractmethod
    def commands(self) -> list[Sequence[object]]:
        """The commands that start the workers."""

    @abstractmethod
    def count_results(self) -> int:
        """The number of finished tasks with stored results."""


def measure(make_queue: Callable[[str, int], Queue]) -> None:
    """Called by the script of each queue, with its options as JSON in the first argument."""
    options = json.loads(sys.argv[1])
    os.environ |= {"BENCH_URL": options["url"], "BENCH_PROCESSES": str(options["processes"])}
    queue = make_queue(options["url"], options["processes"])
    queue.prepare()
    started = time.perf_counter()
    queue.enqueue(options["count"])
    queued = time.perf_counter() - started
    seconds, done = work(queue, options["count"])
    print(json.dumps({"checks/s": done / seconds, "queued/s": options["count"] / queued}))


def work(queue: Queue, count: int) -> tuple[float, int]:
    """Seconds from the first result that was seen to the last, and the number of results in this time."""
    # Their output only costs time: a pipe or a terminal would slow down those that write much.
    options = {"env": queue.environment, "cwd": HERE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    workers = [subprocess.Popen([str(part) for part in command], **options) for command in queue.commands]
    try:
        return wait_for_results(queue, count, workers)
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)
        for worker in workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=10)
            worker.kill()


def wait_for_results(queue: Queue, count: int, workers: list[subprocess.Popen[bytes]]) -> tuple[float, int]:
    first, first_time, last, last_time = 0, 0.0, 0, time.perf_counter()
    while last < count:
        time.sleep(POLL_SECONDS)
        done, now = queue.count_results(), time.perf_counter()
        if done > last:
            last, last_time = done, now
            first, first_time = (first, first_time) if first else (done, now)
        ended = all(worker.poll() is not None for worker in workers)
        if now - last_time > STALLED_SECONDS or (ended and done == last and last < count and now - last_time > 5):
            sys.exit(f"{last} of {count} tasks are done, and nothing happens. Workers: {[w.poll() for w in workers]}")
    if first == count:
        sys.exit("All tasks were done at once. Queue more of them.")
    return last_time - first_time, count - first


def script(name: str) -> str:
    """A command that is installed with this Python."""
    return str(Path(sys.executable).parent / name)
