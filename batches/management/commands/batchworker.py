import os
import sys
import threading
from argparse import SUPPRESS
from collections.abc import Callable
from typing import Any

from django.core.management import CommandError, CommandParser
from django.db import connections
from prometheus_client import start_http_server

from batches.checking.worker import Worker
from batches.conf import get_config, worker_command
from batches.management.base import DatabaseCommand, port_number, require_free_port
from batches.management.supervisor import supervise
from batches.management.workers import add_processes, echo, process_count, worker_children
from batches.metrics import REGISTRY
from batches.models import Batch


class Command(DatabaseCommand):
    help = (
        "Check the profiles of the running batch, then promote the next batch, until SIGTERM or Ctrl-C. "
        "Any number of workers can run, also on several machines: they share the profiles by domain."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_processes(parser)
        text = "Serve measurements for Prometheus on this port; each further process uses the next port."
        parser.add_argument("--metrics-port", type=port_number, metavar="PORT", help=text)
        text = "Address for --metrics-port (default: %(default)s). Anybody who can reach it can read the measurements."
        parser.add_argument("--metrics-host", default="127.0.0.1", metavar="ADDRESS", help=text)
        # From a supervisor that starts several: their number, and the batch after which they end.
        parser.add_argument("--together", type=process_count, default=1, help=SUPPRESS)
        parser.add_argument("--batch", help=SUPPRESS)

    def handle(
        self,
        *args: Any,
        processes: int | None,
        together: int,
        batch: str | None,
        metrics_port: int | None,
        metrics_host: str,
        **options: Any,
    ) -> None:
        if get_config().executor == "celery" and batch is None:
            raise CommandError(f"BATCHES_EXECUTOR is celery. Start the workers with: {worker_command()}")
        processes = processes or get_config().processes
        ports = range(metrics_port, metrics_port + processes) if metrics_port else ()
        for port in ports:
            require_free_port(metrics_host, port, "Choose another one: --metrics-port PORT")
        connections.close_all()  # this thread no longer needs the database
        if processes > 1:
            children = worker_children(processes, None, f"--metrics-host={metrics_host}", metrics=ports)
            if fault := supervise(children, echo):
                raise CommandError(f"{fault}. All processes were stopped.")
            return
        if metrics_port:
            start_http_server(metrics_port, metrics_host, REGISTRY)
        finished = has_ended(batch) if batch else lambda: False
        Worker(finished, delivers=batch is None, processes=together).work()
        self.leave_threads_behind()

    def leave_threads_behind(self) -> None:
        """Exit without waiting for threads of checkers that hang, for example in a name lookup."""
        if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(0)


def has_ended(batch_id: str) -> Callable[[], bool]:
    unfinished = Batch.objects.filter(pk=batch_id, position__isnull=False)
    return lambda: not unfinished.exists()
