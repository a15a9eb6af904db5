"""Rows about the project only, which call its code in a separate process: each is a module of `inside/`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.commands import VAR
from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, prose
from benchmarks.lists import addresses, write_list
from benchmarks.ours import Project, new_project
from benchmarks.services.databases import LABELS, databases
from benchmarks.services.hosts import FAILED, RATIO

CLIENTS = 50
FEW = 1_000
#: A factor of 1.5 is noise; a page that counts or skips rows takes a thousand times as long.
FLAT = 1.5

FAIRNESS = prose("""
    12,000 feeds of 12,000 hosts, alone and then with the slow or hostile ones, by one worker with its default settings.
    The time ends with the last of the 12,000, measured by the server. One server in Python serves all of them.
""")
PAGES = prose("""
    One request after the other within the process, from the middleware to the rendered page: 1,000,000 profiles in
    a batch, 1,000,000 finished batches, 10,000 waiting. No web server and no network.
""")

SCENARIOS = {
    "tarpits": "5 % tarpits that drip over redirects",
    "hub": "200 profiles that redirect to one slow hub",
    "documents": "40 documents of 476 kB that are slow to read, first",
    "limited": "30 profiles of a host that answers 429, first",
    "head": "3,500 profiles of one slow host, first",
}


def at_most(name: str, bound: float) -> Goal:
    return Goal(name, name, bound, at_most=True)


WAITS = [at_most("usual wait, ms", 50), at_most("longest wait, ms", 1_000)]


def make_row(
    name: str,
    title: str,
    minutes: float,
    goals: Sequence[Goal],
    options: Callable[[Scale], dict[str, Any]],
    *,
    module: str = "",
    vendor: str = "sqlite",
    differs: str = "",
    rounds: int = 3,
) -> Row:
    @contextmanager
    def open_inside(scale: Scale) -> Iterator[Contest]:
        with databases(vendor) as created:

            def measure() -> Figures:
                with created.new() as database:
                    return Project(database).inside(module or name, **options(scale))

            yield Contest([Contender(OURS, measure)], list(goals), differs)

    return Row(name, title, minutes, open_inside, rounds)


@contextmanager
def open_export(scale: Scale) -> Iterator[Contest]:
    with databases("sqlite") as created, TemporaryDirectory(dir=VAR) as folder:
        sizes = (100, 500) if scale.small else (FEW, 1_000_000)
        files = [write_list(Path(folder) / f"{size}.txt", addresses(size)) for size in sizes]

        def measure() -> Figures:
            with new_project(created) as project:
                for file in files:
                    project.create(file, "noop", "--paused")
                return project.inside("export")

        # SQLite caches 20 MB of what it read.
        yield Contest([Contender(OURS, measure)], [at_most("MB more than for a small batch", 40)])


def pick_scenario(name: str, scale: Scale) -> dict[str, Any]:
    return {"scenario": name, "profiles": scale.pick(12_000, 100)}


ROWS = [
    *(
        make_row(
            f"fairness-{name}",
            title,
            10,
            [Goal(RATIO, RATIO, 0.7), at_most(FAILED, 0)],
            partial(pick_scenario, name),
            module="fairness",
            differs=FAIRNESS,
        )
        for name, title in SCENARIOS.items()
    ),
    make_row(
        "upload",
        "Uploading 100,000 new addresses through the API",
        15,
        [at_most("s", 10), at_most("s with an Idempotency-Key", 10)],
        lambda scale: {"profiles": scale.pick(100_000, 500)},
    ),
    Row("export", "Exporting a batch of 1,000,000 profiles through the API", 30, open_export, rounds=1),
    make_row(
        "polling",
        f"{CLIENTS} clients poll a queue of 10,000 batches through the web server",
        15,
        [Goal("responses/s", "responses/s", CLIENTS)],
        lambda scale: {"waiting": scale.pick(10_000, 100), "clients": scale.pick(CLIENTS, 4)},
    ),
]
for vendor, label in LABELS.items():
    slowest = [at_most("slowest page, ms", 10)] if vendor == "sqlite" else []
    ROWS += [
        make_row(
            f"pages-{vendor}",
            f"Pages of lists with 1,000,000 rows on {label}",
            45,
            [at_most("deep page as a multiple of the first", FLAT), *slowest],
            lambda scale: {"rows": scale.pick(1_000_000, 2_000), "waiting": scale.pick(10_000, 100)},
            module="pages",
            vendor=vendor,
            differs=PAGES,
            rounds=1,
        ),
        make_row(
            f"locks-{vendor}",
            f"How long others wait for the queue while 1,000,000 profiles are stored and recorded on {label}",
            60,
            WAITS,
            lambda scale: {"profiles": scale.pick(1_000_000, 2_000)},
            module="locks",
            vendor=vendor,
            rounds=1,
        ),
        make_row(
            f"lists-{vendor}",
            f"How long others wait while a list of 1,000,000 profiles is imported, edited and run on {label}",
            60,
            WAITS,
            lambda scale: {"profiles": scale.pick(1_000_000, 6_000)},
            module="long_lists",
            vendor=vendor,
            rounds=1,
        ),
    ]
