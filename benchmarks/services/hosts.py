"""Many hosts in a separate process: good, slow and hostile ones. It imports nothing of the app."""

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.documents import small_feed

#: Broken XML that takes long to read.
HEAVY = b"<rss version='2.0'><channel><item><title>a <b>b</b></title></item>" + b"<title>" * 68_000
#: The figures that are measured with these hosts.
RATIO, FAILED = "speed of the others as a share of that without", "profiles failed that should not"
HUB_SECONDS, SLOW_SECONDS, DRIP_SECONDS, LIMITED_SECONDS = 0.2, 0.5, 0.5, 0.5


class Server:
    """Serves all of 127.0.0.0/8 from a separate process."""

    def __enter__(self) -> "Server":
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        self.port: int = self.pipe.recv()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.terminate()
        self.process.join()

    def url(self, host_and_path: str) -> str:
        host, _, path = host_and_path.partition("/")
        return f"http://{host}:{self.port}/{path}"

    def served(self) -> int:
        """The number of innocent feeds served since `reset`."""
        self.pipe.send("served")
        served: int = self.pipe.recv()
        return served

    def reset(self) -> None:
        self.pipe.send("reset")
        self.pipe.recv()


class Responder:
    def __init__(self) -> None:
        self.innocents: set[str] = set()
        self.last_request = 0.0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self.answer(head.split(b" ", 2)[1].decode(), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> None:
        _, kind, number, *hop = path.split("/")
        port = writer.get_extra_info("sockname")[1]
        if kind == "innocent":
            self.innocents.add(path)
        elif kind == "tarpit":
            next_hop = f"/tarpit/{number}/{int(hop[0]) + 1 if hop else 1}"
            for line in (b"HTTP/1.1 302 Found\r\n", *(b"X: %d\r\n" % n for n in range(30))):
                writer.write(line)
                await writer.drain()
                await asyncio.sleep(DRIP_SECONDS)
            writer.write(f"Location: {next_hop}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        elif kind == "moved":
            location = f"http://127.9.9.9:{port}/hub/{number}"
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        elif kind in {"hub", "slow"}:
            await asyncio.sleep(HUB_SECONDS if kind == "hub" else SLOW_SECONDS)
        elif kind == "limited":
            is_allowed = time.monotonic() - self.last_request > LIMITED_SECONDS
            if not is_allowed:
                writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
                return
            self.last_request = time.monotonic()
        body = HEAVY if kind == "heavy" else small_feed(path)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve(pipe: Connection) -> None:
    responder = Responder()

    def reply() -> None:
        if pipe.recv() == "reset":
            responder.innocents.clear()
        pipe.send(len(responder.innocents))

    async def forever() -> None:
        server: Any = await asyncio.start_server(responder.converse, "0.0.0.0", 0, backlog=1000)
        asyncio.get_running_loop().add_reader(pipe.fileno(), reply)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())
