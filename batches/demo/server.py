"""The demo: about 300 profiles, and the small server on loopback that answers them without internet.

An address says what answers there: `/batches-demo/<kind>/<number>`. The same address always behaves the same; only its
stories change with the time, so that a later repeat of a batch finds new ones.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from aiohttp import web
from django.utils.feedgenerator import Atom1Feed, Rss201rev2Feed, SyndicationFeed

from batches.lists.imports import ProfileAddress

HOST = "127.0.0.1"
DEFAULT_PORT = 8089
PATH = "/batches-demo/"

# -- The profiles ------------------------------------------------------------------------------------------------------

PLACES = (
    "Harbour", "Hill", "River", "Old Town", "Station", "Market", "Island", "Forest", "Lake", "Mill",
    "Castle", "Bridge", "Garden", "Border", "Coast", "Valley", "Abbey", "Canal", "Tower", "Meadow",
)  # fmt: skip
PAPERS = (
    "Gazette", "Courier", "Weekly", "Notebook", "Observer", "Dispatch", "Review", "Diary",
    "Bulletin", "Post", "Letters", "Chronicle", "Record", "Echo", "Journal",
)  # fmt: skip


@dataclass(frozen=True)
class DemoBatch:
    """`kinds` says how many profiles of each kind it has."""

    name: str
    priority: int
    kinds: Mapping[str, int]


BATCHES = (
    DemoBatch("Morning feeds", 10, {"rss": 14, "atom": 10, "rdf": 4, "json": 4, "slow": 4, "page": 3, "missing": 1}),
    DemoBatch(
        "Press",
        5,
        {
            "rss": 28, "atom": 22, "rdf": 8, "json": 8, "slow": 8, "page": 7, "moved": 3,
            "missing": 3, "error": 2, "busy": 1,
        },
    ),
    DemoBatch(
        "Long tail",
        0,
        {
            "rss": 48, "atom": 36, "rdf": 14, "json": 14, "slow": 15, "page": 10, "moved": 4, "missing": 8, "error": 6,
            "truncated": 4, "nonsense": 3, "charset": 4, "loop": 2, "endless": 1, "busy": 1,
        },
    ),
)  # fmt: skip


def profiles_of(batch: DemoBatch, port: int) -> list[ProfileAddress]:
    """The batch's profiles, its kinds well mixed. A number, and so a name, belongs to one profile of all batches."""
    first = sum(sum(earlier.kinds.values()) for earlier in BATCHES[: BATCHES.index(batch)])
    kinds = [kind for kind, count in batch.kinds.items() for _ in range(count)]
    mixed = sorted(enumerate(kinds, start=first), key=lambda profile: crc(str(profile)))
    return [ProfileAddress(f"http://{HOST}:{port}{PATH}{kind}/{number}", name_of(number)) for number, kind in mixed]


def name_of(number: int) -> str:
    return f"{PLACES[number % len(PLACES)]} {PAPERS[number // len(PLACES) % len(PAPERS)]}"


def crc(text: str) -> int:
    return zlib.crc32(text.encode())


# -- What their feeds show ---------------------------------------------------------------------------------------------

SUBJECTS = ("The ferry", "A bakery", "The choir", "A school", "The night train", "The library", "A café", "The museum")
EVENTS = ("opens again", "moves to the square", "wins a prize", "looks for helpers", "stays free", "turns 50", "sings")
TEXT = "“Nobody expected it so soon”, says a neighbour; more on Thursday & in the next issue."


@dataclass(frozen=True)
class DemoStory:
    id: str
    url: str
    title: str
    published: datetime


class DemoFeed:
    """What one number's feed shows at a time: 4 to 10 stories, with a new one every 3 to 10 minutes.

    `origin` is the server's own address without a path; `now` is in seconds since 1970.
    """

    def __init__(self, number: int, origin: str, now: float) -> None:
        self.number = number
        self.title = name_of(number)
        self.link = f"{origin}{PATH}page/{number}"
        self.origin = origin
        self.period = 180 + crc(f"period {number}") % 420
        newest = int(now // self.period)
        self.stories = [self.story(newest - age) for age in range(4 + crc(f"stories {number}") % 7)]

    def story(self, slot: int) -> DemoStory:
        dice = crc(f"{self.number} {slot}")
        title = f"{SUBJECTS[dice % len(SUBJECTS)]} {EVENTS[dice // 8 % len(EVENTS)]}"
        return DemoStory(
            id=f"tag:demo.invalid,2025:{self.number}:{slot}",
            url=f"{self.origin}{PATH}story/{self.number}/{slot}",
            title=title,
            published=datetime.fromtimestamp(slot * self.period, UTC),
        )

    @property
    def etag(self) -> str:
        return f"{crc(self.stories[0].id):08x}"

    def rss(self) -> bytes:
        return self._generated(Rss201rev2Feed)

    def atom(self) -> bytes:
        return self._generated(Atom1Feed)

    def _generated(self, generator: type[SyndicationFeed]) -> bytes:
        feed = generator(title=self.title, link=self.link, description="From the demo.", language="en")
        for story in self.stories:
            feed.add_item(story.title, story.url, TEXT, unique_id=story.id, pubdate=story.published)
        return feed.writeString("utf-8").encode()

    def rdf(self) -> bytes:
        """RSS 1.0."""
        items = "".join(
            f'<item rdf:about="{story.url}"><title>{escape(story.title)}</title><link>{story.url}</link>'
            f"<description>{escape(TEXT)}</description><dc:date>{story.published.isoformat()}</dc:date></item>\n"
            for story in self.stories
        )
        contents = "".join(f'<rdf:li rdf:resource="{story.url}"/>' for story in self.stories)
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"'
            ' xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
            f'<channel rdf:about="{self.link}"><title>{self.title}</title><link>{self.link}</link>'
            f"<description>From the demo.</description><items><rdf:Seq>{contents}</rdf:Seq></items></channel>\n"
            f"{items}</rdf:RDF>\n"
        ).encode()

    def json(self) -> bytes:
        """JSON Feed 1.1."""
        items = [
            {
                "id": story.id,
                "url": story.url,
                "title": story.title,
                "content_text": TEXT,
                "date_published": story.published.isoformat(),
            }
            for story in self.stories
        ]
        feed = {"version": "https://jsonfeed.org/version/1.1", "title": self.title, "home_page_url": self.link}
        return json.dumps(feed | {"items": items}).encode()

    def charset(self) -> bytes:
        """RSS that says UTF-8 and is Windows-1252."""
        return self.rss().decode().encode("cp1252")

    def truncated(self) -> bytes:
        document = self.rss()
        return document[: len(document) * 3 // 5]

    def nonsense(self) -> bytes:
        return b"\x00\xff%PDF-1.4 this is no feed" * 20


# -- The server --------------------------------------------------------------------------------------------------------

#: Kinds that answer with a document: what makes it, and the content type.
DOCUMENTS: Mapping[str, tuple[Callable[[DemoFeed], bytes], str]] = {
    "rss": (DemoFeed.rss, "application/rss+xml"),
    "slow": (DemoFeed.rss, "application/rss+xml"),
    "atom": (DemoFeed.atom, "application/atom+xml"),
    "rdf": (DemoFeed.rdf, "application/rdf+xml"),
    "json": (DemoFeed.json, "application/feed+json"),
    "charset": (DemoFeed.charset, "application/rss+xml"),
    "truncated": (DemoFeed.truncated, "application/rss+xml"),
    "nonsense": (DemoFeed.nonsense, "application/rss+xml"),
}
#: Seconds before an answer. With two requests at once per host, the three batches so take about three minutes.
NORMAL_DELAY = (0.3, 1.5)
SLOW_DELAY = (1.5, 3.0)


class FeedServer:
    """Answers the demo's addresses. `clock` gives seconds since 1970; `pace` stretches the delays (0: none)."""

    def __init__(self, clock: Callable[[], float] = time.time, pace: float = 1.0) -> None:
        self.clock = clock
        self.pace = pace
        self.visits: Counter[str] = Counter()
        self.kinds: Mapping[str, Callable[[web.Request, int], Awaitable[web.StreamResponse]]] = {
            "page": self.page,
            "moved": self.moved,
            "loop": self.loop,
            "error": self.error,
            "busy": self.busy,
            "endless": self.endless,
            **dict.fromkeys(DOCUMENTS, self.document),
        }

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(PATH + r"{kind}/{number:\d{1,9}}", self.answer)
        app.router.add_get(PATH + r"story/{number:\d{1,9}}/{slot:\d{1,8}}", self.story)
        return app

    async def answer(self, request: web.Request) -> web.StreamResponse:
        kind, number = request.match_info["kind"], int(request.match_info["number"])
        await asyncio.sleep(self.pace * delay(kind, number))
        if kind not in self.kinds:
            raise web.HTTPNotFound(text="There is nothing here any more.")
        return await self.kinds[kind](request, number)

    def feed(self, request: web.Request, number: int) -> DemoFeed:
        return DemoFeed(number, str(request.url.origin()), self.clock())

    async def document(self, request: web.Request, number: int) -> web.StreamResponse:
        feed = self.feed(request, number)
        write, content_type = DOCUMENTS[request.match_info["kind"]]
        changed = feed.stories[0].published
        if is_known(request, feed.etag, changed):
            response = web.Response(status=304)
        else:
            response = web.Response(body=write(feed), content_type=content_type)
        response.etag = feed.etag
        response.last_modified = changed
        return response

    async def page(self, request: web.Request, number: int) -> web.StreamResponse:
        feed = self.feed(request, number)
        return html_page(
            feed.title,
            "Our stories are in the feed.",
            f'<link rel="alternate" type="application/rss+xml" href="../rss/{number}">',
        )

    async def story(self, request: web.Request) -> web.StreamResponse:
        feed = self.feed(request, int(request.match_info["number"]))
        return html_page(feed.story(int(request.match_info["slot"])).title, TEXT)

    async def moved(self, request: web.Request, number: int) -> web.StreamResponse:
        raise web.HTTPMovedPermanently(f"{PATH}rss/{number}")

    async def loop(self, request: web.Request, number: int) -> web.StreamResponse:
        raise web.HTTPFound(request.path)

    async def error(self, request: web.Request, number: int) -> web.StreamResponse:
        raise web.HTTPInternalServerError(text="Out of order.")

    async def busy(self, request: web.Request, number: int) -> web.StreamResponse:
        """Every other visit is one too many."""
        self.visits[request.path] += 1
        if self.visits[request.path] % 2:
            raise web.HTTPTooManyRequests(headers={"Retry-After": "1"})
        return web.Response(body=self.feed(request, number).rss(), content_type="application/rss+xml")

    async def endless(self, request: web.Request, number: int) -> web.StreamResponse:
        """A feed that never closes: 640 MB, so that even a forgotten download ends some day."""
        response = web.StreamResponse(headers={"Content-Type": "application/rss+xml"})
        await response.prepare(request)
        await response.write(b'<?xml version="1.0"?><rss version="2.0"><channel><title>Endless</title>')
        for _ in range(10_000):
            await response.write(b"<!-- and so on -->" * 3600)
        return response


def delay(kind: str, number: int) -> float:
    """Seconds before the answer."""
    low, high = SLOW_DELAY if kind == "slow" else NORMAL_DELAY
    return low + (high - low) * (crc(f"{kind} {number}") % 1000) / 1000


def is_known(request: web.Request, etag: str, changed: datetime) -> bool:
    """Whether the asker has this version already; If-None-Match overrules If-Modified-Since (RFC 9110, 13.2.2)."""
    if request.if_none_match is not None:
        return any(known.value == etag for known in request.if_none_match)
    return request.if_modified_since is not None and request.if_modified_since >= changed


def html_page(title: str, text: str, head: str = "") -> web.Response:
    document = f"<!doctype html><html lang=en><title>{escape(title)}</title>{head}<h1>{escape(title)}</h1><p>{text}"
    return web.Response(text=document, content_type="text/html")
