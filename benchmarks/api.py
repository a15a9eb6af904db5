"""Reading through the API: lists at any depth, a long queue, and clients that poll it."""

import http.client
import time
from collections.abc import Iterator
from statistics import median
from threading import Thread
from typing import Any

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.utils import timezone
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from batches.api.pagination import cursor_behind, order_of
from batches.batch_manager import BatchManager
from batches.models import Batch
from benchmarks.noop import addresses
from benchmarks.work import make_batch, web_server

PROFILES = 1_000_000
WAITING = 10_000
LIST_GOAL, QUEUE_GOAL = 50, 50
CLIENTS, POLL_SECONDS = 50, 4.0
PERMISSIONS = ["view_batch", "view_batchprofile"]


def run(profiles: int, rounds: int) -> Iterator[str]:
    key = create_token()
    client = APIClient(headers={"Authorization": f"Token {key}", "Host": "localhost"})
    batch = make_batch(addresses(profiles, 0), "noop")
    BatchManager().complete_batch(batch.pk)
    yield from measure_depths(
        client, f"/api/batches/{batch.pk}/profiles/", batch.profiles.order_by("pk"), profiles, rounds
    )
    fill(profiles)
    yield from measure_depths(client, "/api/batches/", Batch.objects.in_queue_order(), profiles + WAITING, rounds)
    for ordering in ("-created_at", "name", "-completed_at"):
        seconds = seconds_of(client, f"/api/batches/?ordering={ordering}", rounds)
        yield f"batches/?ordering={ordering}: first page {1000 * seconds:.1f} ms"
    yield from measure_queue(client, rounds)
    yield from measure_polling(key)


def create_token() -> str:
    """The token of a user who may only read."""
    user = User.objects.create_user("poller")
    user.user_permissions.set(Permission.objects.filter(codename__in=PERMISSIONS))
    return Token.objects.create(user=user).key


def fill(batches: int) -> None:
    """Finished batches, whose speed the estimates use, and 10,000 queued ones."""
    checked = {"total_profiles": 10, "completed_profiles": 10, "successful_checks": 10, "run_seconds": 0.1}
    now = timezone.now()
    finished = (
        Batch(name=f"Batch {number}", status=Batch.Status.DONE, completed_at=now, checker="feed", **checked)
        for number in range(batches)
    )
    Batch.objects.bulk_create(finished, batch_size=10_000)
    waiting = (Batch(name=f"Queued {number}", position=number, total_profiles=10) for number in range(1, WAITING + 1))
    Batch.objects.bulk_create(waiting, batch_size=10_000)
    if connection.vendor == "postgresql":  # autovacuum would do it a minute later
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def measure_depths(client: APIClient, path: str, rows: Any, count: int, rounds: int) -> Iterator[str]:
    """Pages of 50: the first, one in the middle, the last."""
    terms = order_of(rows)
    times = {"first page": seconds_of(client, path, rounds)}
    for name, place in (("middle", count // 2), ("end", count - 51)):
        cursor = cursor_behind(rows[place], terms)
        times[name] = seconds_of(client, f"{path}?cursor={cursor}", rounds)
    text = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in times.items())
    ratio = max(times.values()) / times["first page"]
    yield f"50 of {count:,} {rows.model._meta.verbose_name_plural}: {text} (goal {LIST_GOAL}), ratio {ratio:.2f}"


def measure_queue(client: APIClient, rounds: int) -> Iterator[str]:
    register_worker()
    seconds = seconds_of(client, "/api/queue/", rounds)
    response = client.get("/api/queue/")
    body = response.json()
    assert (len(body["waiting"]), body["waiting_total"]) == (100, WAITING)
    assert body["all_done"], "There are no estimates."
    yield f"queue with {WAITING:,} batches: {1000 * seconds:.1f} ms (goal {QUEUE_GOAL})"
    seconds = seconds_of(client, "/api/queue/", rounds, status=304, headers={"If-None-Match": response["ETag"]})
    yield f"the same with its ETag: {1000 * seconds:.1f} ms"


def register_worker() -> None:
    """Poll once as a worker: without a worker there are no estimates."""
    BatchManager().hold_queue()
    BatchManager().claim_run("benchmark")
    BatchManager().release_queue()


def seconds_of(client: APIClient, path: str, rounds: int, status: int = 200, **options: Any) -> float:
    """The median time of a call, including rendering, after a warm-up."""
    times = []
    for _ in range(max(5 * rounds, 5) + 1):
        started = time.perf_counter()
        response = client.get(path, **options)
        times.append(time.perf_counter() - started)
        assert response.status_code == status, response.content
    return median(times[1:])


def measure_polling(key: str) -> Iterator[str]:
    """50 clients that poll without a pause."""
    with web_server() as port:
        tag = str(get(http.client.HTTPConnection("127.0.0.1", port), key, "").headers["ETag"])
        responses: list[tuple[int, float]] = []
        threads = [Thread(target=poll, args=(port, key, tag, responses)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    unchanged = sum(status == 304 for status, _ in responses)
    slow = sorted(seconds for _, seconds in responses)
    yield (
        f"{CLIENTS} clients poll through waitress: {len(responses) / POLL_SECONDS:,.0f} responses/s (goal {CLIENTS}), "
        f"{100 * unchanged / len(responses):.0f} % of them 304, median {1000 * median(slow):.0f} ms, "
        f"slowest {1000 * slow[-1]:.0f} ms"
    )


def poll(port: int, key: str, tag: str, responses: list[tuple[int, float]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    end = time.perf_counter() + POLL_SECONDS
    while (started := time.perf_counter()) < end:
        response = get(connection, key, tag)
        tag = response.headers["ETag"] or tag
        responses.append((response.status, time.perf_counter() - started))


def get(connection: http.client.HTTPConnection, key: str, tag: str) -> http.client.HTTPResponse:
    connection.request("GET", "/api/queue/", headers={"Authorization": f"Token {key}", "If-None-Match": tag})
    response = connection.getresponse()
    response.read()
    return response
