"""A receiver of webhooks on loopback: a real HTTP server in threads with scripted responses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook as Verifier

WAIT_SECONDS = 60

#: Responds to a message: uses the handler of the request, which has `handler.message`.
Answering = Callable[["Handler"], None]


@dataclass(frozen=True)
class Message:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def verify(self, secret: str) -> Any:
        """Verified by the published library, which raises if the signature is wrong."""
        return Verifier(secret).verify(self.body, self.headers)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.message = Message(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.server.receiver.received(self)

    do_GET = do_POST

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    receiver: Receiver
    daemon_threads = True
    block_on_close = False
    request_queue_size = 100  # with five, the sixth parallel connection waits a second

    def handle_error(self, *args: Any) -> None:
        pass  # some tests disconnect the sender


class Receiver:
    """`with Receiver() as receiver: receiver.answer("/hook", 500, 200)`: one status after the other, then the last.

    Other paths respond with 200.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._answers: dict[str, list[Answering]] = {}
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._at_once = 0
        self.most_at_once = 0

    def __enter__(self) -> Receiver:
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.receiver = self
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_port

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def answer(self, path: str, *answers: int | Answering, headers: dict[str, str] | None = None) -> None:
        def of_status(status: int) -> Answering:
            return lambda handler: handler.answer(status, headers)

        self._answers[path] = [of_status(answer) if isinstance(answer, int) else answer for answer in answers]

    def hold(self, path: str) -> threading.Event:
        """Messages to this path get a response, 200, once the returned event is set."""
        gate = threading.Event()

        def wait(handler: Handler) -> None:
            gate.wait(WAIT_SECONDS)
            with suppress(OSError):
                handler.answer(200)

        self.answer(path, wait)
        return gate

    def to(self, path: str) -> list[Message]:
        with self._lock:
            return [message for message in self.messages if message.path == path]

    def wait_for(self, count: int, path: str = "/hook") -> list[Message]:
        """The messages to this path, once there are `count`."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: sum(m.path == path for m in self.messages) >= count, WAIT_SECONDS)
        assert arrived, f"Expected {count} messages to {path}, got {len(self.to(path))}."
        return self.to(path)

    def received(self, handler: Handler) -> None:
        path = handler.message.path
        with self._arrived:
            self.messages.append(handler.message)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            answers = self._answers.get(path, [lambda handler: handler.answer(200)])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self._arrived.notify_all()
        try:
            answer(handler)
        finally:
            with self._lock:
                self._at_once -= 1
