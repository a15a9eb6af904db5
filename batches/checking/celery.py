"""Celery's tasks: it supplies the processes, and the database says what there is to do.

The beat sends `promote` every `poll_seconds`, which sends as many `check` tasks as the run can use. Each `check` is a
worker for a short time. A task that arrives twice, late or never does no harm: it leases free partitions, or ends.
"""

import logging
import mmap
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from billiard import active_children
from celery import shared_task
from celery.exceptions import OperationalError as BrokerError
from celery.signals import worker_shutting_down
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.conf import get_config
from batches.models import Channel, Queue, discard_connections, is_database_fault

from .celery_settings import CHECK, PROMOTE, TEND, longest_task
from .worker import Worker

logger = logging.getLogger(__name__)

#: A `check` task is dropped after this time, by the clock of the database: by then there are newer ones.
LATE = timedelta(seconds=15)

OPTIONS: dict[str, Any] = {
    "acks_late": True,
    "ignore_result": True,
    "expires": 300,  # generous, since it compares the clocks of two machines
    "time_limit": longest_task(get_config()),  # for a process that hangs, with a lease that expired long before
}


#: Whether Celery's worker is shutting down: one byte that all of its processes share.
SHUTTING_DOWN = mmap.mmap(-1, 1)


@shared_task(name=PROMOTE, **OPTIONS)
def promote() -> None:
    """Promote the next batch if none is running, and send as many tasks as the run can use."""
    with database_faults_logged():
        name = f"{socket.gethostname()}:{os.getpid()}"
        manager = BatchManager(actor=name, channel=Channel.WORKER)
        workers = manager.ensure_run(name, get_config().processes)
        order_checks(workers.wanted, workers.at_work + workers.wanted)


def order_checks(count: int, processes: int) -> None:
    now = database_time().isoformat() if count else ""
    try:
        for _ in range(count):
            check.apply_async((processes, now), retry=False)
    except BrokerError as error:
        logger.error("The broker does not answer: %s", error)


@shared_task(name=CHECK, **OPTIONS)
def check(processes: int, ordered_at: str) -> None:
    """Lease a share of the running batch and check it, for at most `task_seconds`."""
    require_main_thread()
    with database_faults_logged():
        if is_recent(datetime.fromisoformat(ordered_at)):
            Worker(is_shutting_down, delivers=False, processes=processes, seconds=get_config().task_seconds).work()


@shared_task(name=TEND, **OPTIONS)
def tend() -> None:
    """Queue the lists that are due, deliver the outbox, and tidy up."""
    require_main_thread()
    with database_faults_logged():
        Worker(seconds=get_config().task_seconds).tend()


def database_time() -> datetime:
    """One clock for all machines."""
    moment: datetime = Queue.objects.values_list(Now(), flat=True).get()
    return moment


def is_recent(moment: datetime) -> bool:
    """Also by the clock of the database, which may have been set back."""
    return Queue.objects.annotate(now=Now()).filter(now__gt=moment - LATE, now__lt=moment + LATE).exists()


@contextmanager
def database_faults_logged() -> Iterator[None]:
    """Log a database error; the next task tries again."""
    try:
        yield
    except Error as error:
        if not is_database_fault(error):
            raise
        logger.error("Database error: %s", str(error).strip())
        discard_connections()


def require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise ImproperlyConfigured("These tasks need a process each. Start the worker with: --pool prefork")


def is_shutting_down() -> bool:
    return bool(SHUTTING_DOWN[0])


@worker_shutting_down.connect
def stop_tasks(**kwargs: Any) -> None:
    """Let running tasks stop as workers do. Celery would wait for their end.

    An idle process ignores the signal, but its next task checks the shared byte.
    """
    SHUTTING_DOWN[0] = True
    for process in active_children():
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
