import os
import sys
import threading
from argparse import SUPPRESS
from collections.abc import Callable
from typing import Any

from django.core.management import CommandError, CommandParser
from django.db import connections

from batches.checking.worker import Worker
from batches.conf import get_config
from batches.management.base import DatabaseCommand
from batches.management.supervisor import supervise
from batches.management.workers import CELERY_COMMAND, add_processes, echo, process_count, worker_children
from batches.models import Batch


class Command(DatabaseCommand):
    help = (
        "Check the profiles of the running batch, then promote the next batch, until SIGTERM or Ctrl-C. "
        "Any number of workers can run, also on several machines: they share the profiles by domain."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_processes(parser)
        # Of a process that a supervisor has started: how many there are, and the batch after which it ends.
        parser.add_argument("--together", type=process_count, default=1, help=SUPPRESS)
        parser.add_argument("--batch", help=SUPPRESS)

    def handle(self, *args: Any, processes: int | None, together: int, batch: str | None, **options: Any) -> None:
        if get_config().executor == "celery" and batch is None:
            raise CommandError(f"BATCHES_EXECUTOR is celery. Start the workers with: {' '.join(CELERY_COMMAND)}")
        processes = processes or get_config().processes
        if processes > 1:
            self.supervise_workers(processes)
            return
        Worker(has_ended(batch) if batch else never, delivers=batch is None, processes=together).work()
        self.leave_threads_behind()

    def supervise_workers(self, processes: int) -> None:
        connections.close_all()
        if fault := supervise(worker_children(processes), echo):
            raise CommandError(f"{fault}. All processes were stopped.")

    def leave_threads_behind(self) -> None:
        """Python would wait for a thread of a checker that hangs, such as in a look-up of a name."""
        if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(0)


def never() -> bool:
    return False


def has_ended(batch_id: str) -> Callable[[], bool]:
    unfinished = Batch.objects.filter(pk=batch_id, position__isnull=False)
    return lambda: not unfinished.exists()
