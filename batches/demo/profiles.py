"""The profiles of the demo, 300 in three batches, and their feeds. The address determines the behaviour:
`<kind>/<number>`."""

import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from django.utils.feedgenerator import Atom1Feed, Rss201rev2Feed, SyndicationFeed

from batches.lists.imports import ProfileAddress

HOST = "127.0.0.1"
DEFAULT_PORT = 8089
PATH = "/batches-demo/"

PLACES = (
    "Harbour", "Hill", "River", "Old Town", "Station", "Market", "Island", "Forest", "Lake", "Mill",
    "Castle", "Bridge", "Garden", "Border", "Coast", "Valley", "Abbey", "Canal", "Tower", "Meadow",
)  # fmt: skip
PAPERS = (
    "Gazette", "Courier", "Weekly", "Notebook", "Observer", "Dispatch", "Review", "Diary",
    "Bulletin", "Post", "Letters", "Chronicle", "Record", "Echo", "Journal",
)  # fmt: skip


class DemoBatch(NamedTuple):
    name: str
    priority: int
    profiles_by_kind: Mapping[str, int]


BATCHES = (
    DemoBatch("Morning feeds", 10, {"rss": 18, "atom": 14, "slow": 4, "page": 3, "missing": 1}),
    DemoBatch("Press", 5, {"rss": 37, "atom": 30, "slow": 8, "page": 7, "moved": 3, "missing": 3, "error": 2}),
    DemoBatch("Long tail", 0, {
        "rss": 64, "atom": 50, "slow": 15, "page": 10, "moved": 4, "missing": 8, "error": 6, "truncated": 4,
        "nonsense": 3, "charset": 4, "loop": 2,
    }),
)  # fmt: skip


def profiles_of(batch: DemoBatch, port: int) -> list[ProfileAddress]:
    """The profiles of the batch, its kinds well mixed. Numbers, and so names, are unique across all batches."""
    first = sum(sum(earlier.profiles_by_kind.values()) for earlier in BATCHES[: BATCHES.index(batch)])
    kinds = [kind for kind, count in batch.profiles_by_kind.items() for _ in range(count)]
    mixed = sorted(enumerate(kinds, start=first), key=lambda profile: checksum(str(profile)))
    return [ProfileAddress(f"http://{HOST}:{port}{PATH}{kind}/{number}", name_of(number)) for number, kind in mixed]


def name_of(number: int) -> str:
    return f"{PLACES[number % len(PLACES)]} {PAPERS[number // len(PLACES) % len(PAPERS)]}"


def checksum(text: str) -> int:
    """A pseudo-random number that depends only on the text."""
    return zlib.crc32(text.encode())


SUBJECTS = ("The ferry", "A bakery", "The choir", "A school", "The night train", "The library", "A café", "The museum")
EVENTS = ("opens again", "moves to the square", "wins a prize", "looks for helpers", "stays free", "turns 50", "sings")
TEXT = "“Nobody expected it so soon”, says a neighbour; more on Thursday & in the next issue."


class DemoStory(NamedTuple):
    id: str
    url: str
    title: str
    published: datetime


class DemoFeed:
    """The feed of a number: 4 to 10 stories, with a new one every 3 to 10 minutes.

    `origin` is the address of the server without a path; `now` is in seconds since 1970.
    """

    def __init__(self, number: int, origin: str, now: float) -> None:
        self.number = number
        self.origin = origin
        self.title = name_of(number)
        self.link = f"{origin}{PATH}page/{number}"
        self.period = 180 + checksum(f"period {number}") % 420
        newest = int(now // self.period)
        self.stories = [self.story(newest - age) for age in range(4 + checksum(f"stories {number}") % 7)]
        self.etag = f"{checksum(self.stories[0].id):08x}"

    def story(self, slot: int) -> DemoStory:
        dice = checksum(f"{self.number} {slot}")
        return DemoStory(
            id=f"tag:demo.invalid,2025:{self.number}:{slot}",
            url=f"{self.origin}{PATH}story/{self.number}/{slot}",
            title=f"{SUBJECTS[dice % len(SUBJECTS)]} {EVENTS[dice // 8 % len(EVENTS)]}",
            published=datetime.fromtimestamp(slot * self.period, UTC),
        )

    def write(self, generator: type[SyndicationFeed] = Rss201rev2Feed) -> bytes:
        feed = generator(title=self.title, link=self.link, description="From the demo.", language="en")
        for story in self.stories:
            feed.add_item(story.title, story.url, TEXT, unique_id=story.id, pubdate=story.published)
        return feed.writeString("utf-8").encode()


RSS = "application/rss+xml"
#: Kinds of profiles that are feeds: what writes them, and the content type.
FORMATS: Mapping[str, tuple[Callable[[DemoFeed], bytes], str]] = {
    "rss": (DemoFeed.write, RSS),
    "slow": (DemoFeed.write, RSS),
    "atom": (lambda feed: feed.write(Atom1Feed), "application/atom+xml"),
    # Declares UTF-8 but is Windows-1252.
    "charset": (lambda feed: feed.write().decode().encode("cp1252"), RSS),
    "truncated": (lambda feed: feed.write()[: len(feed.write()) * 3 // 5], RSS),
    "nonsense": (lambda feed: b"\x00\xff%PDF-1.4 not a feed" * 20, RSS),
}
