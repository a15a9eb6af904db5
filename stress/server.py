"""A web server that answers every address and counts the hits of each. A path is /<delay in milliseconds>/…"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

HITS = "/hits"
FORGET = "/forget"


class Responder(asyncio.Protocol):
    def __init__(self, hits: Counter[str]) -> None:
        self._hits = hits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1].decode()
        if path == HITS:
            self._respond(json.dumps(self._hits))
        elif path == FORGET:
            self._hits.clear()
            self._respond("")
        else:
            self._hits[path] += 1
            asyncio.get_running_loop().call_later(int(path.split("/", 2)[1]) / 1000, self._respond, "")

    def _respond(self, body: str) -> None:
        self._transport.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


def serve(link: Connection) -> None:
    """Serve until terminated."""

    async def forever() -> None:
        hits: Counter[str] = Counter()
        server = await asyncio.get_running_loop().create_server(lambda: Responder(hits), "127.0.0.1", 0)
        link.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
        return json.loads(response.read() or b"null")
