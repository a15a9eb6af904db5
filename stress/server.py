"""A web server that answers every address, counts the hits of each, and the most requests to a host at once.

A path is /<delay in milliseconds>/…, or /<delay>/to/<host>/… for a redirect to that host. Each of HOSTS is a domain.
It is a single process, so its counts are exact.
"""

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

#: In the path of an address that redirects. One of REDIRECTED does, and all of them to one host.
TO = "to"
REDIRECTED = 3


class Responder(asyncio.Protocol):
    def __init__(self, hits: Counter[str], now: Counter[str], most: Counter[str]) -> None:
        self._hits = hits
        self._now = now
        self._most = most
        self._answering: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._host, self._port = transport.get_extra_info("sockname")[:2]

    def connection_lost(self, exc: Exception | None) -> None:
        self.eof_received()

    def eof_received(self) -> None:
        """The client was killed or has hung up. Unlike `connection_lost`, this is called in the order of events."""
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
            _, delay, kind, *rest = path.split("/")
            self._now[self._host] += 1
            self._most[self._host] = max(self._most[self._host], self._now[self._host])
            target = f"http://{rest[0]}:{self._port}/{delay}/{'/'.join(rest[1:])}" if kind == TO else ""
            self._answering = asyncio.get_running_loop().call_later(int(delay) / 1000, self._answer, target)

    def _answer(self, target: str) -> None:
        self._end()
        if target:
            self._respond("", f"302 Found\r\nLocation: {target}")
        else:
            self._respond("")

    def _end(self) -> None:
        self._answering = None
        self._now[self._host] -= 1

    def _respond(self, body: str, head: str = "200 OK") -> None:
        self._transport.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


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
    """A running server."""

    port: int
    hosts: Sequence[str] = tuple(HOSTS)

    def url(self, number: int, path: str) -> str:
        """An address at one of its hosts, in turn."""
        return f"http://{self._host(number)}:{self.port}{path}"

    def profile_url(self, number: int, delay_ms: int, batch: int) -> str:
        """The address of a profile. One of REDIRECTED redirects to the first host."""
        to = f"{TO}/{self.hosts[0]}/" if number % REDIRECTED == 0 else ""
        return self.url(number, f"/{delay_ms}/{to}{batch}/{number}")

    def _host(self, number: int) -> str:
        return self.hosts[number % len(self.hosts)]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url(0, path), timeout=30) as response:
            return json.loads(response.read() or b"null")
