"""Servers that a row needs, each started for it on loopback and stopped afterwards."""

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

from benchmarks.frame import Unavailable


def wait_for_port(port: str, server: subprocess.Popen[bytes]) -> None:
    """Return once something listens. Raises Unavailable if it ends before, or after half a minute."""

    def listens() -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        return False

    wait_until(listens, server)


def wait_until(is_ready: Callable[[], bool], server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        if is_ready():
            return
        time.sleep(0.05)
    raise Unavailable("A server did not start; see var/bench/background.log.")
