"""Shared by the benchmarks: a batch, a worker that works until it is finished, and a web server."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from batches.batch_manager import BatchManager
from batches.checking.worker import Worker
from batches.lists.imports import ProfileAddress
from batches.models import Batch


def make_batch(urls: Iterable[str], checker: str) -> Batch:
    batch = BatchManager(actor="benchmark").create_batch(
        "Benchmark", (ProfileAddress(url) for url in urls), checker=checker
    )
    assert isinstance(batch, Batch), batch
    return batch


def work_on(batch: Batch) -> float:
    """Seconds that a worker takes to finish the batch."""
    waiting = Batch.objects.filter(pk=batch.pk, status__in=[Batch.Status.QUEUED, Batch.Status.RUNNING])
    started = time.perf_counter()
    Worker(finished=lambda: not waiting.exists()).work()
    seconds = time.perf_counter() - started
    batch.refresh_from_db()
    assert batch.status == Batch.Status.DONE, batch.error
    assert batch.completed_profiles == batch.total_profiles
    return seconds


@contextmanager
def web_server() -> Iterator[int]:
    """Runs the server that `manage.py serve` starts. Yields its port once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "waitress",
        f"--listen=127.0.0.1:{port}",
        "--threads=8",
        "batchproject.wsgi:application",
    ]
    # Its warnings about a long queue are expected here.
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until_it_listens(server, port)
        yield port
    finally:
        server.terminate()
        server.wait()


def wait_until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("The web server did not start.")
