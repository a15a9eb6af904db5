"""A web server that answers every address, counts the hits of each, and the most requests to a host at once.

A path is /<delay in milliseconds>/…; each of HOSTS is a domain of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

HOSTS = [f"127.0.0.{number}" for number in range(1, 9)]

HITS = "/hits"
MOST = "/most"
FORGET = "/forget"


class Responder(asyncio.Protocol):
    def __init__(self, hits: Counter[str], now: Counter[str], most: Counter[str]) -> None:
        self._hits = hits
        self._now = now
        self._most = most
        self._answering: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._host = transport.get_extra_info("sockname")[0]

    def connection_lost(self, exc: Exception | None) -> None:
        self.eof_received()

    def eof_received(self) -> None:
        """The client has been killed or has hung up. In the order in which it happened, unlike `connection_lost`."""
        if self._answering:
            self._answering.cancel()
            self._end()

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1].decode()
        if path == HITS:
            self._respond(json.dumps(self._hits))
        elif path == MOST:
            self._respond(json.dumps(self._most))
        elif path == FORGET:
            self._hits.clear()
            self._most.clear()
            self._respond("")
        else:
            self._hits[path] += 1
            self._now[self._host] += 1
            self._most[self._host] = max(self._most[self._host], self._now[self._host])
            delay = int(path.split("/", 2)[1]) / 1000
            self._answering = asyncio.get_running_loop().call_later(delay, self._answer)

    def _answer(self) -> None:
        self._end()
        self._respond("")

    def _end(self) -> None:
        self._answering = None
        self._now[self._host] -= 1

    def _respond(self, body: str) -> None:
        self._transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def serve(link: Connection, hosts: Sequence[str] = HOSTS) -> None:
    """Serve at these addresses of this machine until terminated. Sends ("serving", time, port)."""

    async def forever() -> None:
        counters: list[Counter[str]] = [Counter(), Counter(), Counter()]
        loop, port = asyncio.get_running_loop(), 0
        for host in hosts:
            server = await loop.create_server(lambda: Responder(*counters), host, port)
            port = server.sockets[0].getsockname()[1]
        link.send(("serving", time.monotonic(), port))
        await asyncio.Event().wait()

    asyncio.run(forever())


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    port: int
    hosts: Sequence[str] = tuple(HOSTS)

    def url(self, number: int, path: str) -> str:
        """An address at one of its hosts, in turn."""
        return f"http://{self.hosts[number % len(self.hosts)]}:{self.port}{path}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url(0, path), timeout=30) as response:
            return json.loads(response.read() or b"null")
