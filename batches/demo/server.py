"""The server on loopback that answers the demo's addresses, so that the demo works without internet.

An address always behaves the same. Only its stories change over time, so a later repeat finds new ones.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from email.message import Message
from email.utils import format_datetime, parsedate_to_datetime
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

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
    is_endless: bool = False


class FeedServer(ThreadingHTTPServer):
    """Answers the demo's addresses. `clock` returns seconds since 1970; `pace` stretches the delays (0: no delay)."""

    daemon_threads = True

    def __init__(self, port: int, clock: Callable[[], float] = time.time, pace: float = 1.0) -> None:
        self.clock = clock
        self.pace = pace
        self.visits: Counter[str] = Counter()
        super().__init__((HOST, port), Handler)

    def reply(self, path: str, headers: Message, origin: str) -> Reply:
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
            case "busy" if self.is_busy(path):
                return Reply(429, headers={"Retry-After": "1"})
            case "endless":
                return Reply(headers={"Content-Type": "application/rss+xml"}, is_endless=True)
        if kind not in FORMATS:
            return Reply(404, b"Not found.", TEXT_TYPE)
        return feed_reply(kind, DemoFeed(number, origin, self.clock()), headers)

    def is_busy(self, path: str) -> bool:
        """Whether to refuse this visit: it refuses every second one."""
        self.visits[path] += 1
        return self.visits[path] % 2 == 1


class Handler(BaseHTTPRequestHandler):
    server: FeedServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        origin = f"http://{HOST}:{self.server.server_port}"
        reply = self.server.reply(self.path.partition("?")[0], self.headers, origin)
        try:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header(
                *(("Connection", "close") if reply.is_endless else ("Content-Length", str(len(reply.body))))
            )
            self.end_headers()
            self.wfile.write(reply.body)
            if reply.is_endless:
                self.write_endlessly()
        except ConnectionError:
            self.close_connection = True  # the client has gone

    def write_endlessly(self) -> None:
        """A feed that never closes. It stops after 640 MB, so a forgotten download ends one day."""
        self.wfile.write(b'<?xml version="1.0"?><rss version="2.0"><channel><title>Endless</title>')
        for _ in range(10_000):
            self.wfile.write(b"<!-- and so on -->" * 3600)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client has gone while the server waited for its next request
            super().handle()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Log only errors."""


def feed_reply(kind: str, feed: DemoFeed, headers: Message) -> Reply:
    write, content_type = FORMATS[kind]
    changed = feed.stories[0].published
    etag = f'"{feed.etag}"'
    version = {"ETag": etag, "Last-Modified": format_datetime(changed, usegmt=True)}
    if is_known(headers, etag, changed):
        return Reply(304, headers=version)
    return Reply(body=write(feed), headers=version | {"Content-Type": content_type})


def delay(kind: str, number: int) -> float:
    low, high = SLOW_DELAY if kind == "slow" else NORMAL_DELAY
    return low + (high - low) * (checksum(f"{kind} {number}") % 1000) / 1000


def is_known(headers: Message, etag: str, changed: datetime) -> bool:
    """Whether the client has this version; If-None-Match overrules If-Modified-Since (RFC 9110, 13.2.2)."""
    if known := headers.get("If-None-Match"):
        return etag in known
    since = headers.get("If-Modified-Since")
    return since is not None and parsedate_to_datetime(since) >= changed


def html_page(title: str, text: str, head: str = "") -> Reply:
    document = f"<!doctype html><html lang=en><title>{escape(title)}</title>{head}<h1>{escape(title)}</h1><p>{text}"
    return Reply(body=document.encode(), headers=HTML)
