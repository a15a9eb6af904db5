"""The heartbeats of idle and busy workers. Each worker writes its own row, never under the lock of the queue."""

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from batches import __version__
from batches.conf import get_config
from batches.models import Worker

#: Seconds between two writes of a worker, unless the lease is shorter than three times this.
INTERVAL = 5.0
#: How long a worker without heartbeats is remembered.
KEPT = timedelta(days=1)


def start_worker(name: str) -> None:
    """Note that a worker looks for work from now on. Deletes workers without a heartbeat for a day."""
    _write(name, "started_at")
    Worker.objects.filter(seen_at__lt=Now() - KEPT).delete()


def note_worker(name: str) -> None:
    """Note a heartbeat. However often it is called, it writes once in a few seconds."""
    interval = timedelta(seconds=min(INTERVAL, get_config().lease_seconds / 3))
    recent = Worker.objects.expected().filter(seen_at__range=(Now() - interval, Now() + interval))
    if not recent.filter(pk=name).exists():
        _write(name)


def end_worker(name: str) -> None:
    """Note that a worker has ended. That was its last heartbeat."""
    _write(name, ended_at=Now())


def note_visit(name: str) -> None:
    """Note the heartbeat of a short-lived process: it counts as alive for one lease, and then as ended in order."""
    _write(name, ended_at=Now() + timedelta(seconds=get_config().lease_seconds))


def _write(name: str, *more: str, **values: Any) -> None:
    Worker.objects.bulk_create(
        [Worker(name=name, version=__version__, started_at=Now(), seen_at=Now(), **values)],
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["version", "seen_at", "ended_at", *more],
    )
