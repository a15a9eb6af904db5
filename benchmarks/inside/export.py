"""Exporting a batch through the API as CSV, JSON Lines and OPML: speed, and memory that must not grow with it."""

import resource
import sys
import time

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from batches.models import Batch

KINDS = ("csv", "jsonl", "opml")


def measure() -> dict[str, float]:
    """Measure the smallest batch, then the largest.

    Other processes created them, so that their memory does not count.
    """
    small, *_, big = Batch.objects.order_by("total_profiles")
    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("benchmark"))
    for kind in KINDS:
        stream(client, small, kind)
    before = peak_megabytes()
    speeds = {f"{kind} rows/s": big.total_profiles / stream(client, big, kind) for kind in KINDS}
    return speeds | {"MB more than for a small batch": peak_megabytes() - before}


def stream(client: APIClient, batch: Batch, kind: str) -> float:
    """Seconds to read the whole file."""
    started = time.perf_counter()
    response = client.get(f"/api/batches/{batch.pk}/export/{kind}/", SERVER_NAME="localhost")
    assert response.status_code == 200
    assert sum(len(chunk) for chunk in response.streaming_content) > batch.total_profiles
    return time.perf_counter() - started


def peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
