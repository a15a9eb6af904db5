"""Worker processes: their number, and their start as children of a supervisor."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import ceil
from queue import SimpleQueue
from threading import Event, Thread
from typing import TextIO

from batches.conf import celery_command, get_config
from batches.management.base import number_to
from batches.management.supervisor import Child, Running, keep_running, stop
from batches.models import Batch

MAX_PROCESSES = 64
#: A list with fewer profiles per process is done before another process has started.
PROFILES_PER_PROCESS = 500
#: Seconds between two checks whether the helpers should stop.
INTERVAL = 0.1

#: For `promote` and `tend`, which are short, but must not wait for `check` tasks.
SPARE_PROCESSES = 2

process_count = number_to(MAX_PROCESSES, f"a whole number from 1 to {MAX_PROCESSES}")


def add_processes(parser: ArgumentParser) -> None:
    text = "Number of worker processes (default: one for each core, at most 4; BATCHES_PROCESSES)."
    parser.add_argument("--processes", type=process_count, default=None, metavar="N", help=text)


def worker_children(
    processes: int, environ: Mapping[str, str] | None = None, *options: str, metrics: Sequence[int] = ()
) -> list[Child]:
    """`processes` workers that share the batches, and start again if they end. Each has a port of `metrics`, if any."""
    grace = get_config().grace_seconds + 5.0  # then they record the results and release their leases
    names = [f"worker{number}" for number in range(1, processes + 1)] if processes > 1 else ["worker"]
    arguments = ["batchworker", "--processes=1", f"--together={processes}", *options]
    environ = {"BATCHES_EXECUTOR": "processes", **(environ or {})}
    ports = [[f"--metrics-port={port}"] for port in metrics] or [[] for _ in names]
    return [
        Child(name, "django", [*arguments, *port], grace, environ, restarts=True)
        for name, port in zip(names, ports, strict=True)
    ]


def celery_children(processes: int, environ: Mapping[str, str] | None = None) -> list[Child]:
    """Celery's worker with `processes` for checks, and the beat that sends the tasks."""
    grace = get_config().grace_seconds + 10.0
    celery, *app, worker = celery_command().split()
    options = [f"--concurrency={processes + SPARE_PROCESSES}", "--without-gossip", "--without-mingle"]
    environ = {"BATCHES_EXECUTOR": "celery", "BATCHES_PROCESSES": str(processes), **(environ or {})}
    return [
        Child("celery", celery, ["--quiet", *app, worker, *options], grace, environ, restarts=True),
        Child("beat", celery, ["--quiet", *app, "beat"], 5.0, environ, restarts=True),
    ]


@contextmanager
def helpers(batch: Batch, processes: int, is_stopped: Callable[[], object]) -> Iterator[None]:
    """Within the block, workers help the one in this process with a batch, until `is_stopped` returns true."""
    children = worker_children(processes, {"LOG_LEVEL": "WARNING"}, f"--batch={batch.pk}")[1:]
    running: list[Running] = []
    ended: SimpleQueue[Running | None] = SimpleQueue()
    left = Event()

    def stop_in_time() -> None:
        """Stop them at the same time as the worker in this process, which has the same grace period."""
        keeper = Thread(target=keep_running, args=(running, ended), daemon=True)
        keeper.start()
        while not (left.wait(INTERVAL) or is_stopped()):
            pass
        ended.put(None)
        keeper.join()
        stop(running)
        for process in running:
            process.kill()

    for child in children:
        running.append(Running(replace(child, may_finish=True), _echo_faults, ended))
        running[-1].follow()
    thread = Thread(target=stop_in_time, name="helpers")
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def process_count_for(batch: Batch, wanted: int | None) -> int:
    """The requested number of processes, by default `BATCHES_PROCESSES`, but fewer for a short list."""
    return max(1, min(wanted or get_config().processes, ceil(batch.total_profiles / PROFILES_PER_PROCESS)))


def echo(name: str, line: str, stream: TextIO | None = None) -> None:
    """Write a line of a process after its name, by default to stderr; a JSON log line names its process itself."""
    whole = line if line.startswith("{") else f"{name:7} | {line}"
    with suppress(OSError):  # a full disk must not stop the processes
        print(f"{whole}\n", end="", file=stream or sys.stderr, flush=True)  # in one piece: several threads write


def _echo_faults(name: str, line: str) -> None:
    """Other lines would break up the progress bar."""
    if "started as process" not in line:
        echo(name, line)
