"""The time to render the live queue page with many queued batches, compared with a few."""

import time
from collections.abc import Iterator
from statistics import median

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from benchmarks.queue import fill

PROFILES = 10_000  # batches
FEW = 100
GOAL = 300

PAGES = {
    "page": ("admin:batches_batch_queue", ""),
    "fragment": ("admin:batches_batch_queue_live", ""),
    "search": ("admin:batches_batch_queue_live", "?q=99"),
    "last page": ("admin:batches_batch_queue", "?p=100"),
}


def run(batches: int, rounds: int) -> Iterator[str]:
    settings.ALLOWED_HOSTS = ["testserver"]
    client = Client()
    client.force_login(User.objects.create_superuser("operator"))
    fill(FEW)
    few = {name: seconds_of(client, name, rounds) for name in PAGES}
    fill(batches)
    for name in PAGES:
        seconds = seconds_of(client, name, rounds)
        ratio = f"{seconds / few[name]:.1f} times that of {FEW} batches"
        yield f"{name:<10} {1000 * seconds:6.1f} ms (goal {GOAL}), {ratio}"


def seconds_of(client: Client, name: str, rounds: int) -> float:
    """The median time of a request, after a warm-up."""
    route, query = PAGES[name]
    times = []
    for _ in range(max(rounds, 5) + 1):
        started = time.perf_counter()
        response = client.get(reverse(route) + query)
        times.append(time.perf_counter() - started)
        assert response.status_code == 200, response.status_code
    return median(times[1:])
