"""What the demo checks: 300 profiles in three batches. Their address tells how they behave: `<kind>/<number>`."""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

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
    DemoBatch("Morning feeds", 10, {"rss": 14, "atom": 10, "rdf": 4, "json": 4, "slow": 4, "page": 3, "missing": 1}),
    DemoBatch("Press", 5, {
        "rss": 28, "atom": 22, "rdf": 8, "json": 8, "slow": 8, "page": 7, "moved": 3, "missing": 3, "error": 2,
        "busy": 1,
    }),
    DemoBatch("Long tail", 0, {
        "rss": 48, "atom": 36, "rdf": 14, "json": 14, "slow": 15, "page": 10, "moved": 4, "missing": 8, "error": 6,
        "truncated": 4, "nonsense": 3, "charset": 4, "loop": 2, "endless": 1, "busy": 1,
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
    """A random number that is always the same for a text."""
    return zlib.crc32(text.encode())
