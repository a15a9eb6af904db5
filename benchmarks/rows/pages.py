"""Pages of lists with a million rows, rendered in the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, prose
from benchmarks.ours import Project
from benchmarks.services.databases import Databases, databases

SLOWEST, DEEP = "slowest page, ms", "deep page as a multiple of the first"
#: Half as long again is noise; a page that counts or skips rows takes a thousand times as long.
FLAT = 1.5

DIFFERS = prose("""
    One request after the other within the process, from the middleware to the rendered page: 1,000,000 profiles in
    a batch, 1,000,000 finished batches, 10,000 waiting. No web server and no network.
""")


@contextmanager
def open_pages(vendor: str, scale: Scale) -> Iterator[Contest]:
    rows, waiting = scale.pick(1_000_000, 2_000), scale.pick(10_000, 100)
    with databases(vendor) as created:
        goals = [Goal(DEEP, DEEP, FLAT, at_most=True)]
        if vendor == "sqlite":
            goals.append(Goal("ms for the slowest page", SLOWEST, 10, at_most=True))
        yield Contest([Contender(OURS, lambda _: measure(created, rows, waiting))], goals, DIFFERS)


def measure(created: Databases, rows: int, waiting: int) -> Figures:
    with created.new() as database:
        return Project(database).inside("pages", rows=rows, waiting=waiting)


ROWS = [
    Row(f"pages-{vendor}", f"Pages of lists with 1,000,000 rows on {label}", 45, partial(open_pages, vendor), rounds=1)
    for vendor, label in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
]
