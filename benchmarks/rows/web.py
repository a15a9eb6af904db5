"""What clients of the web application notice: uploads, exports, polling, and waiting for the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import VAR
from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale
from benchmarks.lists import addresses, write_list
from benchmarks.ours import Project
from benchmarks.services.databases import databases

CLIENTS = 50
FEW = 1_000


@contextmanager
def open_inside(
    module: str, vendor: str, goals: list[Goal], options: Callable[[Scale], dict[str, int]], scale: Scale
) -> Iterator[Contest]:
    """A contest of the project with its goals alone."""
    with databases(vendor) as created:

        def measure(_: int) -> Figures:
            with created.new() as database:
                return Project(database).inside(module, **options(scale))

        yield Contest([Contender(OURS, measure)], goals)


@contextmanager
def open_export(scale: Scale) -> Iterator[Contest]:
    with databases("sqlite") as created, TemporaryDirectory(dir=VAR) as folder:
        sizes = (100, 500) if scale.small else (FEW, 1_000_000)
        files = [write_list(Path(folder) / f"{size}.txt", addresses(size)) for size in sizes]

        def measure(_: int) -> Figures:
            with created.new() as database:
                project = Project(database)
                project.migrate()
                for file in files:
                    project.create(file, "noop", "--paused")
                return project.inside("export")

        # SQLite caches 20 MB of what it read.
        name = "MB more than for a small batch"
        yield Contest([Contender(OURS, measure)], [Goal(name, name, 40, at_most=True)])


def at_most(name: str, bound: float) -> Goal:
    return Goal(name, name, bound, at_most=True)


ROWS = [
    Row(
        "upload",
        "Uploading 100,000 new addresses through the API",
        15,
        partial(
            open_inside,
            "upload",
            "sqlite",
            [at_most("s", 10), at_most("s with an Idempotency-Key", 10)],
            lambda scale: {"profiles": scale.pick(100_000, 500)},
        ),
    ),
    Row("export", "Exporting a batch of 1,000,000 profiles through the API", 30, open_export, rounds=1),
    Row(
        "polling",
        f"{CLIENTS} clients poll a queue of 10,000 batches through the web server",
        15,
        partial(
            open_inside,
            "polling",
            "sqlite",
            [Goal("responses/s", "responses/s", CLIENTS)],
            lambda scale: {"waiting": scale.pick(10_000, 100), "clients": scale.pick(CLIENTS, 4)},
        ),
    ),
    *(
        Row(
            f"locks-{vendor}",
            f"How long others wait for the queue while 1,000,000 profiles are stored and recorded on {label}",
            60,
            partial(
                open_inside,
                "locks",
                vendor,
                [at_most("usual wait, ms", 50), at_most("longest wait, ms", 1_000)],
                lambda scale: {"profiles": scale.pick(1_000_000, 2_000)},
            ),
            rounds=1,
        )
        for vendor, label in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
    ),
    *(
        Row(
            f"lists-{vendor}",
            f"How long others wait while a list of 1,000,000 profiles is imported, edited and run on {label}",
            60,
            partial(
                open_inside,
                "long_lists",
                vendor,
                [at_most("usual wait, ms", 50), at_most("longest wait, ms", 1_000)],
                lambda scale: {"profiles": scale.pick(1_000_000, 6_000)},
            ),
            rounds=1,
        )
        for vendor, label in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL"))
    ),
]
