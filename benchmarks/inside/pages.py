"""The time to render pages of long lists, at their beginning, in their middle and at their end."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone

from batches.api.pagination import cursor_behind, order_of
from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.queue.sql import execute
from batches.web.stack import with_room_on_stack
from benchmarks.lists import addresses

REPEATS = 9
CHUNK = 10_000
MIDDLE, END = "middle", "end"

Request = Callable[[], Any]


def measure(rows: int, waiting: int) -> dict[str, float]:
    """`rows` profiles in one batch and as many finished batches, and a queue."""
    client = Client(SERVER_NAME="localhost")
    client.force_login(User.objects.create_superuser("operator"))
    batch = BatchManager().create_batch("Many profiles", addresses(rows), checker="feed")
    assert isinstance(batch, Batch), batch
    BatchManager().complete_batch(batch.pk)
    fill(rows, waiting)
    figures = {}
    for name, path in pages_of(batch, rows, waiting).items():
        figures[f"{name}, ms"] = 1000 * seconds_of(client, path)
    slowest = max(figures.values())
    return figures | {"slowest page, ms": slowest, "deep page as a multiple of the first": deepest_ratio(figures)}


def fill(finished: int, waiting: int) -> None:
    """Finished batches, which give the speed for the estimates, and a queue."""
    checked = {"total_profiles": 10, "completed_profiles": 10, "successful_checks": 10, "run_seconds": 0.1}
    now = timezone.now()
    done = (
        Batch(name=f"Batch {number}", status=Batch.Status.DONE, completed_at=now, checker="feed", **checked)
        for number in range(finished)
    )
    Batch.objects.bulk_create(done, batch_size=CHUNK)
    fill_queue(waiting)
    if connection.vendor == "postgresql":  # autovacuum would do it a minute later
        execute("ANALYZE", [])


def fill_queue(waiting: int) -> None:
    """Queued batches, and a worker that is alive."""
    queued = (Batch(name=f"Queued {number}", position=number, total_profiles=10) for number in range(1, waiting + 1))
    Batch.objects.bulk_create(queued, batch_size=CHUNK)
    manager = BatchManager()
    manager.hold_queue()
    manager.claim_run("benchmark")
    manager.release_queue()


def pages_of(batch: Batch, rows: int, waiting: int) -> dict[str, str]:
    """Paths by name. The names of deep pages end with their place."""
    profiles, batches = f"/api/batches/{batch.pk}/profiles/", "/api/batches/"
    found = {"API: queue": "/api/queue/", "admin: queue": "/admin/batches/batch/queue/"}
    found |= depths("API: profiles of a batch", profiles, batch.profiles.order_by("pk"), rows)
    found |= depths("API: batches", batches, Batch.objects.in_queue_order(), rows + waiting)
    found |= {"API: batches by name": f"{batches}?ordering=name"}
    found |= {
        "admin: batch": f"/admin/batches/batch/{batch.pk}/change/",
        "admin: batches": "/admin/batches/batch/",
        "admin: profiles": "/admin/batches/profile/",
        f"admin: profiles, {MIDDLE}": f"/admin/batches/profile/?p={rows // 200}",
        "admin: stories": "/admin/batches/storyresult/",
        "admin: log": "/admin/batches/batchlog/",
    }
    return found


def depths(name: str, path: str, rows: Any, count: int) -> dict[str, str]:
    """Pages of 50: the first, one in the middle, the last."""
    terms = order_of(rows)
    deep = {
        f"{name}, {where}": f"{path}?cursor={cursor_behind(rows[place], terms)}"
        for where, place in ((MIDDLE, count // 2), (END, count - 51))
    }
    return {name: path, **deep}


def deepest_ratio(figures: dict[str, float]) -> float:
    """How much longer than the first page of its list the slowest deep page takes."""
    return max(
        seconds / figures[f"{name.removesuffix(', ms').rpartition(', ')[0]}, ms"]
        for name, seconds in figures.items()
        if name.removesuffix(", ms").endswith((MIDDLE, END))
    )


@with_room_on_stack  # as the server does
def seconds_of(client: Client, path: str) -> float:
    """The median time of a request within this process, after a warm-up."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        response = client.get(path)
        times.append(time.perf_counter() - started)
        assert response.status_code == 200, (path, response.status_code)
    return median(times[1:])
