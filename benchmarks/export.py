"""Exporting a big batch through the API as CSV, JSON Lines and OPML: rows per second and peak memory."""

import time
from collections.abc import Iterator

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from batches.models import Batch
from benchmarks.memory import create_batch, peak_megabytes

PROFILES = 1_000_000
FEW = 1_000
#: MB that a thousand times as many rows may add. SQLite caches 20 MB of what it read.
GOAL = 40


def run(profiles: int, rounds: int) -> Iterator[str]:
    # Another process creates the batches, so that this does not count.
    create_batch(FEW)
    create_batch(profiles)
    small, big = Batch.objects.order_by("total_profiles")
    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("benchmark"))
    for kind in ("csv", "jsonl", "opml"):
        stream(client, small, kind)
        before = peak_megabytes()
        seconds, size = stream(client, big, kind)
        yield (
            f"{kind:<5} {big.total_profiles / seconds:>7,.0f} rows/s, {size / 1e6:.0f} MB sent, peak memory "
            f"{peak_megabytes():.0f} MB: {peak_megabytes() - before:.1f} more than for {FEW:,} rows (goal {GOAL})"
        )


def stream(client: APIClient, batch: Batch, kind: str) -> tuple[float, int]:
    """Seconds to read the whole file, and its size in bytes."""
    started = time.perf_counter()
    response = client.get(f"/api/batches/{batch.pk}/export/{kind}/", SERVER_NAME="localhost")
    assert response.status_code == 200
    size = sum(len(chunk) for chunk in response.streaming_content)
    return time.perf_counter() - started, size
