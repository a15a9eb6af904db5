"""A Redis that keeps everything in memory, which is fastest for its users."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from batches.tests.support.ports import free_port
from benchmarks.commands import background
from benchmarks.frame import Unavailable
from benchmarks.services import wait_for_port


@contextmanager
def redis() -> Iterator[str]:
    """Yields its URL without the number of a database. Raises Unavailable."""
    if not shutil.which("redis-server"):
        raise Unavailable("Redis is not installed: apt-get install redis-server")
    port = free_port()
    command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with background(command) as process:
        wait_for_port(port, process)
        yield f"redis://127.0.0.1:{port}"
