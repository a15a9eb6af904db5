"""The web server that `manage.py serve` starts, for measurements that need a real one."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

THREADS = 8


@contextmanager
def web_server() -> Iterator[int]:
    """Yields its port once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    listen = [f"--listen=127.0.0.1:{port}", f"--threads={THREADS}"]
    command = [sys.executable, "-m", "waitress", *listen, "batchproject.wsgi:application"]
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
