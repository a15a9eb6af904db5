"""The server on loopback that answers the demo's addresses, so that the demo works without internet.

An address always behaves the same. Only its stories change over time, so a later repeat finds new ones.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from html import escape

from aiohttp import web

from .profiles import FORMATS, PATH, TEXT, DemoFeed, checksum, name_of

#: Seconds before a response. With two concurrent requests per host, the three batches take about three minutes.
NORMAL_DELAY = (0.3, 1.5)
SLOW_DELAY = (1.5, 3.0)


class FeedServer:
    """Answers the demo's addresses. `clock` returns seconds since 1970; `pace` stretches the delays (0: no delay)."""

    def __init__(self, clock: Callable[[], float] = time.time, pace: float = 1.0) -> None:
        self.clock = clock
        self.pace = pace
        self.visits: Counter[str] = Counter()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(PATH + r"{kind}/{number:\d{1,9}}", self.respond)
        app.router.add_get(PATH + r"story/{number:\d{1,9}}/{slot:\d{1,8}}", self.story)
        return app

    async def respond(self, request: web.Request) -> web.StreamResponse:
        kind, number = request.match_info["kind"], int(request.match_info["number"])
        await asyncio.sleep(self.pace * delay(kind, number))
        match kind:
            case "page":
                link = f'<link rel="alternate" type="application/rss+xml" href="../rss/{number}">'
                return html_page(name_of(number), "Our stories are in the feed.", link)
            case "moved":
                raise web.HTTPMovedPermanently(f"{PATH}rss/{number}")
            case "loop":
                raise web.HTTPFound(request.path)
            case "error":
                raise web.HTTPInternalServerError(text="Out of order.")
            case "busy" if self.is_busy(request.path):
                raise web.HTTPTooManyRequests(headers={"Retry-After": "1"})
            case "endless":
                return await stream_endlessly(request)
        if kind not in FORMATS:
            raise web.HTTPNotFound(text="Not found.")
        return feed_response(request, self.feed(request, number))

    def is_busy(self, path: str) -> bool:
        """Whether to refuse this visit: every other one."""
        self.visits[path] += 1
        return self.visits[path] % 2 == 1

    async def story(self, request: web.Request) -> web.StreamResponse:
        feed = self.feed(request, int(request.match_info["number"]))
        return html_page(feed.story(int(request.match_info["slot"])).title, TEXT)

    def feed(self, request: web.Request, number: int) -> DemoFeed:
        return DemoFeed(number, str(request.url.origin()), self.clock())


def feed_response(request: web.Request, feed: DemoFeed) -> web.Response:
    write, content_type = FORMATS[request.match_info["kind"]]
    changed = feed.stories[0].published
    if is_known(request, feed.etag, changed):
        response = web.Response(status=304)
    else:
        response = web.Response(body=write(feed), content_type=content_type)
    response.etag = feed.etag
    response.last_modified = changed
    return response


async def stream_endlessly(request: web.Request) -> web.StreamResponse:
    """A feed that never closes. It stops after 640 MB, so a forgotten download ends one day."""
    response = web.StreamResponse(headers={"Content-Type": "application/rss+xml"})
    await response.prepare(request)
    await response.write(b'<?xml version="1.0"?><rss version="2.0"><channel><title>Endless</title>')
    for _ in range(10_000):
        await response.write(b"<!-- and so on -->" * 3600)
    return response


def delay(kind: str, number: int) -> float:
    low, high = SLOW_DELAY if kind == "slow" else NORMAL_DELAY
    return low + (high - low) * (checksum(f"{kind} {number}") % 1000) / 1000


def is_known(request: web.Request, etag: str, changed: datetime) -> bool:
    """Whether the client has this version; If-None-Match overrules If-Modified-Since (RFC 9110, 13.2.2)."""
    if request.if_none_match is not None:
        return any(known.value == etag for known in request.if_none_match)
    return request.if_modified_since is not None and request.if_modified_since >= changed


def html_page(title: str, text: str, head: str = "") -> web.Response:
    document = f"<!doctype html><html lang=en><title>{escape(title)}</title>{head}<h1>{escape(title)}</h1><p>{text}"
    return web.Response(text=document, content_type="text/html")
