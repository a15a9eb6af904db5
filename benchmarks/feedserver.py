"""A feed server in a separate process. It imports nothing from the project, so that the process can start."""

import asyncio
import multiprocessing
from itertools import count
from multiprocessing.connection import Connection

STORIES = 4
SIZE = 1_800
MARKS = count()


def feed(path: str) -> bytes:
    """The feed of a path. Below /changing/, the document differs each time but the stories are the same."""
    mark = next(MARKS) if path.startswith("/changing/") else 0
    items = "".join(
        f"<item><title>Story {number} of {path}</title><link>http://feeds.example{path}/{number}</link>"
        f"<guid isPermaLink='false'>{path}/{number}</guid><pubDate>Mon, 0{number + 1} Jun 2026 08:00:00 +0000</pubDate>"
        f"<description>{'Some words about it. ' * 9}</description></item>"
        for number in range(STORIES)
    )
    text = f"<?xml version='1.0'?><rss version='2.0'><channel><title>Feed {mark}</title>{items}</channel></rss>"
    return f"{text}{' ' * (SIZE - len(text))}".encode()


class Responder(asyncio.Protocol):
    """A minimal HTTP server with keep-alive, cheap enough not to affect the measurement."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        body = feed(data.split(b" ", 2)[1].decode())
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


class FeedServer:
    """Runs in a separate process while the context is open. Entering it returns the port."""

    def __enter__(self) -> int:
        port, theirs = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        number: int = port.recv()
        return number

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        self.process.join()


def serve(port: Connection) -> None:
    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())
