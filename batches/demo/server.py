"""The server on loopback that answers the demo's addresses, so that the demo works without internet.

An address always behaves the same. Only its stories change over time, so a later repeat finds new ones.
"""

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple, Self

from .profiles import FORMATS, HOST, PATH, TEXT, DemoFeed, checksum, name_of

#: Seconds before a response. With two concurrent requests per host, the three batches take about three minutes.
NORMAL_DELAY = (0.3, 1.5)
SLOW_DELAY = (1.5, 3.0)

FEED = re.compile(re.escape(PATH) + r"([a-z]+)/([0-9]{1,9})")
STORY = re.compile(re.escape(PATH) + r"story/([0-9]{1,9})/([0-9]{1,8})")
HTML = {"Content-Type": "text/html; charset=utf-8"}
TEXT_TYPE = {"Content-Type": "text/plain; charset=utf-8"}


class Reply(NamedTuple):
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


class FeedServer(ThreadingHTTPServer):
    """A context in which threads answer the demo's addresses.

    `clock` returns seconds since 1970; `pace` stretches the delays (0: no delay).
    """

    daemon_threads = True

    def __init__(self, port: int, clock: Callable[[], float] = time.time, pace: float = 1.0) -> None:
        self.clock = clock
        self.pace = pace
        super().__init__((HOST, port), Handler)

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, args=(0.05,), name="demo").start()
        return self

    def __exit__(self, *args: Any) -> None:
        self.shutdown()
        super().__exit__(*args)

    def reply(self, path: str, known: str, origin: str) -> Reply:
        """`known` are the ETags that the client has."""
        if story := STORY.fullmatch(path):
            title = DemoFeed(int(story[1]), origin, self.clock()).story(int(story[2])).title
            return html_page(title, TEXT)
        feed = FEED.fullmatch(path)
        if feed is None:
            return Reply(404, b"Not found.", TEXT_TYPE)
        kind, number = feed[1], int(feed[2])
        time.sleep(self.pace * delay(kind, number))
        match kind:
            case "page":
                link = f'<link rel="alternate" type="application/rss+xml" href="../rss/{number}">'
                return html_page(name_of(number), "Our stories are in the feed.", link)
            case "moved":
                return Reply(301, headers={"Location": f"{PATH}rss/{number}"})
            case "loop":
                return Reply(302, headers={"Location": path})
            case "error":
                return Reply(500, b"Out of order.", TEXT_TYPE)
        if kind not in FORMATS:
            return Reply(404, b"Not found.", TEXT_TYPE)
        write, content_type = FORMATS[kind]
        content = DemoFeed(number, origin, self.clock())
        version = {"ETag": f'"{content.etag}"'}
        if version["ETag"] in known:
            return Reply(304, headers=version)
        return Reply(body=write(content), headers=version | {"Content-Type": content_type})


class Handler(BaseHTTPRequestHandler):
    server: FeedServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        origin = f"http://{HOST}:{self.server.server_port}"
        reply = self.server.reply(self.path.partition("?")[0], self.headers.get("If-None-Match", ""), origin)
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
        except ConnectionError:
            self.close_connection = True  # the client has gone

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client has gone while the server waited for its next request
            super().handle()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log only errors."""


def delay(kind: str, number: int) -> float:
    low, high = SLOW_DELAY if kind == "slow" else NORMAL_DELAY
    return low + (high - low) * (checksum(f"{kind} {number}") % 1000) / 1000


def html_page(title: str, text: str, head: str = "") -> Reply:
    document = f"<!doctype html><html lang=en><title>{escape(title)}</title>{head}<h1>{escape(title)}</h1><p>{text}"
    return Reply(body=document.encode(), headers=HTML)
