"""Shows the progress of a batch at a terminal. It reads the database, so it works with any worker."""

import time
from collections.abc import Callable
from shutil import get_terminal_size
from threading import Event, Thread
from typing import Self, TextIO
from uuid import UUID

from django.db import DatabaseError, connection

from batches.management.output import hold_line
from batches.models import Batch, Queue
from batches.reports import queries
from batches.text import format_duration, pluralise, printable

BAR_WIDTH = 30
#: Seconds between two updates of a terminal, and between two lines of another output.
UPDATE_SECONDS, LINE_SECONDS = 0.5, 5.0


class ProgressDisplay:
    """A context in which a thread writes the progress to `out`: one changing line at a terminal, otherwise plain lines.

    `note` is called for each update and returns a text to write before it.
    """

    def __init__(self, batch_id: UUID, out: TextIO, note: Callable[[], str] = lambda: "") -> None:
        self._batch_id = batch_id
        self._out = out
        self._note = note
        self._moving = out.isatty()
        self._last_line = ""
        self._next_line_at = 0.0
        self._ended = Event()
        self._thread = Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ended.wait(UPDATE_SECONDS):
                self._update()
            self._update(final=True)
        except OSError:
            pass  # nobody reads the output, or the disk is full; the work continues
        finally:
            connection.close()

    def _update(self, *, final: bool = False) -> None:
        try:
            batch = Batch.objects.filter(pk=self._batch_id).first()
            note = "" if final else self._note()
            line = f"{note}{describe(batch)}" if batch else ""
        except DatabaseError:
            connection.close()
            return  # the worker reports it and retries
        if self._moving:
            line = line[: get_terminal_size().columns - 1]  # a wrapped line cannot be overwritten
            self._out.write(f"\r\x1b[K{line}" + ("\n" if final and line else ""))
        elif line and line != self._last_line and (final or time.monotonic() >= self._next_line_at):
            self._next_line_at = time.monotonic() + LINE_SECONDS
            self._last_line = line
            self._out.write(f"{line}\n")
        self._out.flush()


def describe(batch: Batch) -> str:
    """One line: a progress bar, or what a queued batch is waiting for."""
    if batch.status == Batch.Status.QUEUED:
        return _waiting(batch)
    filled = BAR_WIDTH * batch.percent // 100
    parts = [
        f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {batch.percent:3} %",
        f"{batch.completed_profiles:,}/{batch.total_profiles:,}",
        f"failed {batch.failed_checks:,}",
        *([f"skipped {batch.skipped_profiles:,}"] if batch.skipped_profiles else []),
        f"new stories {batch.stories_found:,}",
    ]
    if batch.rate:
        parts.append(f"{batch.rate:,.0f}/s")
    if batch.seconds_left and batch.status == Batch.Status.RUNNING:
        parts.append(f"{format_duration(batch.seconds_left)} left")
    return "  ".join(parts)


def _waiting(batch: Batch) -> str:
    queue = Queue.objects.first() or Queue()
    if queue.held:
        return f"{hold_line(queue).rstrip('.')}. This batch is at position {batch.position:,}."
    first = queries.find_first_ahead(batch)
    if first is None:
        return "Waiting to start."
    ahead = (batch.position or 0) - (first.position or 0)  # the running batch is at 0, and positions have no gaps
    progress = f"“{printable(first.name)}” {first.completed_profiles:,}/{first.total_profiles:,}"
    return f"{pluralise(ahead, 'batch', 'batches')} ahead, first {progress}"
