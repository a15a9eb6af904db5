"""Worker processes: their number, and their start as children of a supervisor."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import ceil
from queue import SimpleQueue
from threading import Event, Thread
from typing import Self, TextIO

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


class Helpers:
    """A block during which workers help the one in this process with a batch, until `is_stopped` returns true."""

    def __init__(self, batch: Batch, processes: int, is_stopped: Callable[[], object]) -> None:
        children = worker_children(processes, {"LOG_LEVEL": "WARNING"}, f"--batch={batch.pk}")[1:]
        self._children = [replace(child, may_finish=True) for child in children]
        self._is_stopped = is_stopped
        self._running: list[Running] = []
        self._ended: SimpleQueue[Running | None] = SimpleQueue()
        self._left = Event()
        self._thread = Thread(target=self._stop_in_time, name="helpers")

    def __enter__(self) -> Self:
        for child in self._children:
            self._running.append(Running(child, _echo_faults, self._ended))
            self._running[-1].follow()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._left.set()
        self._thread.join()

    def _stop_in_time(self) -> None:
        """Stop them at the same time as the worker in this process, which has the same grace period."""
        keeper = Thread(target=keep_running, args=(self._running, self._ended), daemon=True)
        keeper.start()
        while not (self._left.wait(INTERVAL) or self._is_stopped()):
            pass
        self._ended.put(None)
        keeper.join()
        stop(self._running)
        for process in self._running:
            process.kill()


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
