"""What slow and hostile hosts cost others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, prose
from benchmarks.ours import Project
from benchmarks.services.databases import Databases, databases

RATIO, FAILED = "speed of the others as a share of that without", "profiles failed that should not"

DIFFERS = prose("""
    3,000 feeds of 3,000 hosts, alone and then with the slow or hostile ones, by one worker with its default settings.
    The time ends with the last of the 3,000, measured by the server. One server in Python serves all of them.
""")

TITLES = {
    "tarpits": "5 % tarpits that drip over redirects",
    "hub": "200 profiles that redirect to one slow hub",
    "documents": "40 documents of 476 kB that are slow to read, first",
    "limited": "30 profiles of a host that answers 429, first",
    "head": "3,500 profiles of one slow host, first",
}


@contextmanager
def open_fairness(scenario: str, scale: Scale) -> Iterator[Contest]:
    with databases("sqlite") as created:
        contender = Contender(OURS, lambda _: measure(created, scenario, scale.pick(3_000, 100)))
        goals = [Goal(RATIO, RATIO, 0.7), Goal(FAILED, FAILED, 0, at_most=True)]
        yield Contest([contender], goals, DIFFERS)


def measure(created: Databases, scenario: str, profiles: int) -> Figures:
    with created.new() as database:
        return Project(database).inside("fairness", scenario=scenario, profiles=profiles)


ROWS = [Row(f"fairness-{name}", title, 10, partial(open_fairness, name)) for name, title in TITLES.items()]
