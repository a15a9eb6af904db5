"""The web server that `manage.py serve` starts, for measurements that need a real one."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from batches.tests.support.ports import free_port
from benchmarks.services import wait_for_port

THREADS = 8


@contextmanager
def web_server() -> Iterator[str]:
    """Yields its port once it listens."""
    port = free_port()
    listen = [f"--listen=127.0.0.1:{port}", f"--threads={THREADS}"]
    command = [sys.executable, "-m", "waitress", *listen, "batchproject.wsgi:application"]
    # Its warnings about a long queue are expected here.
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, server)
        yield port
    finally:
        server.terminate()
        server.wait()
