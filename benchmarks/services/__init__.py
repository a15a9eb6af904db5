"""Servers that a row needs, each started for it on loopback and stopped afterwards."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.frame import Unavailable


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, is_running: Callable[[], bool], address: str = "") -> None:
    """Return once something listens. Raises Unavailable if it ends before, or after half a minute."""

    def listens() -> bool:
        with suppress(OSError):
            socket.create_connection((address or "127.0.0.1", port), timeout=1).close()
            return True
        return False

    wait_until(listens, is_running)


def wait_for_file(path: Path, is_running: Callable[[], bool]) -> None:
    """Return once a server has written the file of its process ID: it listens by then. Raises Unavailable."""
    wait_until(lambda: path.exists() and bool(path.read_text().strip()), is_running)


def wait_until(is_ready: Callable[[], bool], is_running: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and is_running():
        if is_ready():
            return
        time.sleep(0.05)
    raise Unavailable("A server did not start; see var/bench/background.log.")
