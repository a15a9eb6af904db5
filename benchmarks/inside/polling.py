"""Clients that poll a long queue through a real web server without a pause."""

import http.client
import time
from statistics import median
from threading import Thread

from django.contrib.auth.models import Permission, User

from batches.tests.support.factories import api_key
from benchmarks.inside.pages import fill
from benchmarks.inside.web_server import web_server

SECONDS = 4.0
PERMISSIONS = ["view_batch", "view_batchprofile"]


def measure(waiting: int, clients: int) -> dict[str, float]:
    fill(waiting, waiting)
    key = create_key()
    with web_server() as port:
        tag = str(get(http.client.HTTPConnection("127.0.0.1", port), key, "").headers["ETag"])
        responses: list[tuple[int, float]] = []
        threads = [Thread(target=poll, args=(port, key, tag, responses)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {status for status, _ in responses} <= {200, 304}, {status for status, _ in responses}
    seconds = [seconds for _, seconds in responses]
    return {"responses/s": len(responses) / SECONDS, "ms": 1000 * median(seconds), "slowest, ms": 1000 * max(seconds)}


def create_key() -> str:
    """The token of a user with read permissions only."""
    user = User.objects.create_user("poller")
    user.user_permissions.set(Permission.objects.filter(codename__in=PERMISSIONS))
    return api_key(user)


def poll(port: str, key: str, tag: str, responses: list[tuple[int, float]]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    end = time.perf_counter() + SECONDS
    while (started := time.perf_counter()) < end:
        response = get(connection, key, tag)
        tag = response.headers["ETag"] or tag
        responses.append((response.status, time.perf_counter() - started))


def get(connection: http.client.HTTPConnection, key: str, tag: str) -> http.client.HTTPResponse:
    connection.request("GET", "/api/queue/", headers={"Authorization": f"Token {key}", "If-None-Match": tag})
    response = connection.getresponse()
    response.read()
    return response
