"""A scriptable HTTP server on loopback, in its own thread. Other processes can reach it too."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import responses

WAIT_SECONDS = 180


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""

    @property
    def host(self) -> str:
        return self.headers.get("host", "").rpartition(":")[0].lower()


@dataclass(frozen=True)
class Reply:
    """One response. `raw` replaces head and body, and closes the connection.

    Body and `raw` may be in pieces, even endless ones, with `every` seconds between them.
    """

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | Iterable[bytes] | None = None
    every: float = 0.0


Script = Reply | Callable[[Request], Reply]


class Gate:
    """Holds the responses of a path: requests wait until the gate opens."""

    def __init__(self, server: FeedServer) -> None:
        self._server = server
        self._open = asyncio.Event()
        self._arrived = threading.Semaphore(0)

    def wait_for(self, requests: int = 1) -> None:
        """Wait until this many more requests have arrived."""
        for _ in range(requests):
            assert self._arrived.acquire(timeout=WAIT_SECONDS), "no request came in"

    def open(self) -> None:
        self._server.loop.call_soon_threadsafe(self._open.set)

    async def pass_through(self) -> None:
        self._arrived.release()
        await self._open.wait()


class FeedServer:
    """`with FeedServer() as server: server.answer("/feed", body=rss); …server.url("/feed")`.

    Other paths get the reply `otherwise`, 404. `hosts` are the loopback addresses to listen on, all on one port.
    """

    def __init__(self, hosts: Iterable[str] = ("127.0.0.1",), tls: ssl.SSLContext | None = None) -> None:
        self.hosts = tuple(hosts)
        self.port = 0
        self.connections = 0
        self.requests: list[Request] = []
        self.otherwise = Reply(404)
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._answers: dict[str, list[Script]] = {}
        self._gates: dict[str, Gate] = {}
        self._at_once: Counter[str] = Counter()
        self._most_at_once: defaultdict[str, int] = defaultdict(int)

    def __enter__(self) -> FeedServer:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="feed server")
        self._thread.start()
        assert started.wait(WAIT_SECONDS), "the server did not start"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)

    def url(self, path: str = "/", host: str | None = None) -> str:
        return f"{'https' if self._tls else 'http'}://{host or self.hosts[0]}:{self.port}{path}"

    def answer(
        self,
        path: str,
        body: bytes | str | Iterable[bytes] = b"",
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        raw: bytes | Iterable[bytes] | None = None,
        every: float = 0.0,
    ) -> None:
        """Set the response to requests for `path` (with its query)."""
        content = body.encode() if isinstance(body, str) else body
        self._answers[path] = [Reply(status, content, headers or {}, raw, every)]

    def answer_feed(self, path: str, *titles: str) -> None:
        """Answer with an RSS feed that has a story for each title, with the IDs 1, 2, …"""
        stories = (f"<title>{title}</title><guid>{number}</guid>" for number, title in enumerate(titles, 1))
        items = "".join(f"<item>{story}</item>" for story in stories)
        self.answer(path, f"<rss version='2.0'><channel><title>News</title>{items}</channel></rss>")

    def answer_in_turn(self, path: str, *answers: Script) -> None:
        """Set one reply, or function of the request, after the other; the last one stays."""
        self._answers[path] = list(answers)

    def redirect(self, path: str, location: str, status: int = 302) -> None:
        self.answer(path, status=status, headers={"Location": location})

    def hold(self, path: str) -> Gate:
        gate = self._gates[path] = Gate(self)
        return gate

    def hits(self, path: str) -> int:
        return sum(request.path == path for request in list(self.requests))

    def last_request(self, path: str) -> Request:
        return [request for request in list(self.requests) if request.path == path][-1]

    def most_at_once(self, host: str = "127.0.0.1") -> int:
        """The most requests to one host name that were under way at once."""
        return self._most_at_once[host]

    def go_away(self) -> None:
        """Refuse connections, and break those that are open, until `come_back`."""
        self._call(self._close)

    def come_back(self) -> None:
        """Listen again, at the same addresses, if it went away."""
        self._call(self._listen)

    def _call(self, function: Callable[[], Coroutine[object, object, None]]) -> None:
        asyncio.run_coroutine_threadsafe(function(), self.loop).result(WAIT_SECONDS)

    async def _serve(self, started: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await self._listen()
        started.set()
        await self._stop.wait()
        for server in self._servers:
            server.close()

    async def _listen(self) -> None:
        for host in () if self._servers else self.hosts:
            self._servers.append(
                await asyncio.start_server(self._converse, host, self.port, ssl=self._tls, backlog=1000)
            )
            self.port = self._servers[0].sockets[0].getsockname()[1]

    async def _close(self) -> None:
        while self._servers:
            self._servers.pop().close()
        for writer in list(self._writers):
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                request = read_request(await reader.readuntil(b"\r\n\r\n"))
                body = await reader.readexactly(int(request.headers.get("content-length", 0)))
                if not await self._answer(replace(request, body=body), writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        self.requests.append(request)
        self._at_once[request.host] += 1
        self._most_at_once[request.host] = max(self._most_at_once[request.host], self._at_once[request.host])
        try:
            if gate := self._gates.get(request.path):
                await gate.pass_through()
            reply = self._reply(request)
            content = reply.raw
            if content is None:
                writer.write(head(reply))
                content = reply.body
            for number, piece in enumerate(small_pieces(content) if isinstance(content, bytes) else content):
                if number and reply.every:  # not after the last one: the client may send its next request at once
                    await asyncio.sleep(reply.every)
                writer.write(piece)
                await writer.drain()
        finally:
            self._at_once[request.host] -= 1
        return reply.raw is None and isinstance(reply.body, bytes)

    def _reply(self, request: Request) -> Reply:
        answers = self._answers.get(request.path, [self.otherwise])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, Reply) else answer(request)


def small_pieces(content: bytes) -> Iterator[memoryview]:
    """Keep the unread rest out of this process's memory, which tests measure."""
    view = memoryview(content)
    return (view[start : start + 65_536] for start in range(0, len(view) or 1, 65_536))


def read_request(block: bytes) -> Request:
    first, *lines = block.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return Request(first.split(" ")[1], {name.lower(): value.strip() for name, _, value in fields})


def head(reply: Reply) -> bytes:
    headers = dict(reply.headers)
    if isinstance(reply.body, bytes):
        headers.setdefault("Content-Length", str(len(reply.body)))
    phrase = responses.get(reply.status, "")
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
