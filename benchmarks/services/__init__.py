"""Servers that a row needs, each started for it on loopback and stopped afterwards."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress

from benchmarks.frame import Unavailable


def wait_for_port(port: str, is_running: Callable[[], bool]) -> None:
    """Return once something listens. Raises Unavailable if it ends before, or after half a minute."""

    def listens() -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        return False

    wait_until(listens, is_running)


def wait_until(is_ready: Callable[[], bool], is_running: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and is_running():
        if is_ready():
            return
        time.sleep(0.05)
    raise Unavailable("A server did not start; see var/bench/background.log.")
