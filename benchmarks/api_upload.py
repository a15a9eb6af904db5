"""Uploading a long list through the API, with a real web server and a real client."""

import http.client
import time
from collections.abc import Iterator
from statistics import median
from uuid import uuid4

from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token

from batches.models import Batch
from benchmarks.noop import addresses
from benchmarks.work import web_server

PROFILES = 100_000
GOAL = 10
PATH = "/api/v1/batches/"


def run(profiles: int, rounds: int) -> Iterator[str]:
    token = Token.objects.create(user=User.objects.create_superuser("benchmark"))
    with web_server() as port:
        for label, key in (("upload", ""), ("upload with an Idempotency-Key", "new")):
            # New addresses each time: known ones are faster.
            times = [upload(port, token.key, make_list(profiles), key and str(uuid4())) for _ in range(rounds)]
            yield f"{label:<31} {median(times):5.2f} s for {profiles:,} new addresses (goal {GOAL})"
        key, body = str(uuid4()), make_list(profiles)
        upload(port, token.key, body, key)
        yield f"{'the same request, replayed':<31} {upload(port, token.key, body, key):5.2f} s"
    assert Batch.objects.count() == 2 * rounds + 1
    assert set(Batch.objects.values_list("total_profiles", flat=True)) == {profiles}


def make_list(profiles: int) -> bytes:
    return "".join(f"{address}?{uuid4().hex[:8]}\n" for address in addresses(profiles, 0)).encode()


def upload(port: int, token: str, content: bytes, key: str) -> float:
    """Seconds from the first byte sent to the last byte received."""
    part = "--x\r\nContent-Disposition: form-data; name="
    body = f'{part}"name"\r\n\r\nBenchmark\r\n{part}"file"; filename="list.txt"\r\n\r\n'.encode()
    body += content + b"\r\n--x--\r\n"
    headers = {"Authorization": f"Token {token}", "Content-Type": "multipart/form-data; boundary=x"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    started = time.perf_counter()
    connection.request("POST", PATH, body, headers | ({"Idempotency-Key": key} if key else {}))
    response = connection.getresponse()
    text = response.read()
    seconds = time.perf_counter() - started
    connection.close()
    assert response.status == 201, text[:1000]
    return seconds
