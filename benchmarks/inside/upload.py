"""Uploading a long list through the API, with a real web server and a real client."""

import http.client
import time
from uuid import uuid4

from django.contrib.auth.models import User

from batches.models import Batch
from batches.tests.support.factories import api_key
from benchmarks.inside.web_server import web_server
from benchmarks.lists import addresses

PATH = "/api/v1/batches/"


def measure(profiles: int) -> dict[str, float]:
    """New addresses each time: known ones are faster."""
    token = api_key(User.objects.create_superuser("benchmark"))
    key, body = str(uuid4()), make_list(profiles)
    with web_server() as port:
        figures = {
            "s": upload(port, token, make_list(profiles), ""),
            "s with an Idempotency-Key": upload(port, token, body, key),
            "s for the same request again": upload(port, token, body, key),
        }
    assert list(Batch.objects.values_list("total_profiles", flat=True)) == [profiles] * 2
    return figures


def make_list(profiles: int) -> bytes:
    return "".join(f"{address}\n" for address in addresses(profiles, uuid4().hex[:8])).encode()


def upload(port: str, token: str, content: bytes, key: str) -> float:
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
