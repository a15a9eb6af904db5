"""Ports for servers that cannot choose one themselves."""

import secrets
import socket
from contextlib import suppress

#: Below those that the system gives to connections, and to servers that take any port.
PORTS = range(10_000, 32_000)


def free_port() -> str:
    """A port that is free, and that nobody else gets before its server starts."""
    while True:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)
