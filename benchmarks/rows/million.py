"""A batch of a million profiles: the time to the first result, the time to pause, and the memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.commands import VAR, background, manage, watch_memory
from benchmarks.frame import OURS, Contender, Contest, Figures, Goal, Row, Scale, prose
from benchmarks.lists import addresses, write_list
from benchmarks.ours import new_project
from benchmarks.services.databases import LABELS, Databases, databases

FIRST, LAST = "s to the first result", "s to the last after a pause"
MEMORY, GROWTH = "MB of all processes", "MB more at the end than at the beginning"
TWO = "batches, 2 processes"

DIFFERS = prose("""
    A worker that is idle, with its default settings (it looks for work once a second), and checks that do nothing.
    The pause is measured until its call returned and no further result appeared for 2 s. Memory is for the
    worker with all of its processes, without what they share with each other; growth compares the last third with
    the first.
""")


@contextmanager
def open_million(vendor: str, scale: Scale) -> Iterator[Contest]:
    with databases(vendor) as created, TemporaryDirectory(dir=VAR) as folder:
        file = write_list(Path(folder) / "list.txt", addresses(scale.pick(1_000_000, 20_000)))
        seconds = 0.2 if scale.small else 5.0
        yield Contest(
            [
                Contender(OURS, lambda: measure(created, file, 1, seconds)),
                Contender(TWO, lambda: measure(created, file, 2, seconds)),
            ],
            [goal for name in (OURS, TWO) for goal in goals_of(name)],
            DIFFERS,
        )


def goals_of(name: str) -> list[Goal]:
    suffix = "" if name == OURS else ", 2 processes"
    return [
        Goal(f"{FIRST}{suffix}", FIRST, 1, of=name, at_most=True),
        Goal(f"{LAST}{suffix}", LAST, 1, of=name, at_most=True),
        Goal(f"{MEMORY}{suffix}", MEMORY, 300, of=name, at_most=True),
        Goal(f"{GROWTH}{suffix}", GROWTH, 20, of=name, at_most=True),
    ]


def measure(created: Databases, file: Path, processes: int, seconds: float) -> Figures:
    with new_project(created) as project, TemporaryDirectory(dir=VAR) as folder:
        warm_up = project.create(write_list(Path(folder) / "one.txt", addresses(1, "warm-up")), "noop")
        batch = project.create(file, "noop", "--paused")
        with background(manage("batchworker", f"--processes={processes}"), project.environment) as worker:
            project.inside("waiting", batch_id=warm_up)  # the worker has started
            with watch_memory(worker.pid) as megabytes:
                figures = project.inside("reaction", batch_id=batch, seconds=seconds)
                project.manage("batch", "queue", batch)
                project.inside("waiting", batch_id=batch)
    third = max(len(megabytes) // 3, 1)
    return figures | {MEMORY: max(megabytes), GROWTH: max(megabytes[-third:]) - max(megabytes[:third])}


ROWS = [
    Row(f"million-{vendor}", f"A batch of 1,000,000 profiles on {label}", 60, partial(open_million, vendor))
    for vendor, label in LABELS.items()
]
