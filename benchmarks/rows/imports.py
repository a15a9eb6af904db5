"""Importing a list of a million addresses, new and known, against writing the same rows by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import VAR
from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, prose
from benchmarks.lists import addresses, write_list
from benchmarks.ours import Project, new_project
from benchmarks.services.databases import LABELS, Databases, databases

NEW, KNOWN, MEMORY = "new profiles/s", "known profiles/s", "MB"
RAW = {"executemany": "raw executemany", "copy": "COPY"}

DIFFERS = prose("""
    `batches` reads and normalises each address, removes duplicates, and writes in transactions of at most 2,500
    rows so that others wait for milliseconds; the time is for the whole command. The raw statements write the
    same rows into the same tables with the same indexes in one transaction, and trust the file.
""")


@contextmanager
def open_import(vendor: str, scale: Scale) -> Iterator[Contest]:
    with databases(vendor) as created, TemporaryDirectory(dir=VAR) as folder:
        count = scale.pick(1_000_000, 5_000)
        file = write_list(Path(folder) / "list.txt", addresses(count))
        methods = ["executemany", *(["copy"] if vendor == "postgresql" else [])]
        contenders = [Contender(OURS, lambda: measure_ours(created, file, count))]
        contenders += [Contender(RAW[method], partial(measure_raw, created, file, method)) for method in methods]
        goals = [
            Goal(f"of {RAW[method]}, {label}", figure, 0.35, against=(RAW[method],))
            for method in methods
            for figure, label in ((NEW, "new profiles"), (KNOWN, "known profiles"))
        ]
        yield Contest(contenders, [*goals, Goal("MB of memory", MEMORY, 250, at_most=True)], DIFFERS)


def measure_ours(created: Databases, file: Path, count: int) -> Figures:
    with new_project(created) as project:
        commands = [project.manage("batch", "create", file, "--checker", "noop", "--paused") for _ in range(2)]
    new, known = commands
    speeds = {NEW: count / new.seconds, KNOWN: count / known.seconds}
    return speeds | {MEMORY: max(command.memory for command in commands)}


def measure_raw(created: Databases, file: Path, method: str) -> Figures:
    with created.new() as database:
        return Project(database).inside("raw_import", file=str(file), method=method)


ROWS = [
    Row(f"import-{vendor}", f"Importing 1,000,000 addresses into {label}", 45, partial(open_import, vendor))
    for vendor, label in LABELS.items()
]
