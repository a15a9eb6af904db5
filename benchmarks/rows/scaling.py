"""From one worker process to sixteen on one PostgreSQL, with checks that only wait: where the curve bends."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from benchmarks.commands import VAR
from benchmarks.frame import Contender, Contest, Figures, Goal, Row, Scale, prose
from benchmarks.lists import addresses, write_list
from benchmarks.ours import new_project, require_complete, run_seconds
from benchmarks.services.databases import Databases, databases

CHECKS = "checks/s"
PROCESSES = (1, 2, 4, 8, 16)
#: Of each process, so that one does at most 400 checks a second and the cores are idle in between.
AT_ONCE = 20

DIFFERS = prose("""
    Each check waits 50 ms and does nothing else; a process has 20 of them under way, so it does at most 400 a second.
    All processes, PostgreSQL with fsync, and its disk share the cores of one machine. The time is from the claim of
    the batch to its end. Transactions and WAL are counted for the whole database in that time.
""")


def name_of(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


@contextmanager
def open_scaling(scale: Scale) -> Iterator[Contest]:
    with databases("postgresql") as created, TemporaryDirectory(dir=VAR) as folder:
        contenders = [
            Contender(name_of(number), partial(measure, created, Path(folder), scale.pick(4_000, 200) * number, number))
            for number in PROCESSES
        ]
        goal = Goal("4 processes, of one", CHECKS, 3, of=name_of(4), against=(name_of(1),))
        yield Contest(contenders, [goal], DIFFERS)


def measure(created: Databases, folder: Path, count: int, processes: int) -> Figures:
    with new_project(created, BATCHES_CONCURRENCY=AT_ONCE) as project:
        database = project.environment["DATABASE_URL"]
        batch = project.create(write_list(folder / "list.txt", addresses(count)), "waiting")
        before = read_load(database)
        finished = project.check(batch, processes)
        commits, wal = (now - then for now, then in zip(read_load(database), before, strict=True))
        details = project.newest_batch()
        require_complete(details, count)
        return {
            CHECKS: count / run_seconds(details),
            "CPU µs/check": 1e6 * finished.cpu / count,
            "transactions/result": commits / count,
            "bytes of WAL/result": wal / count,
        }


def read_load(url: str) -> tuple[float, float]:
    """Transactions of the database, and bytes of WAL of the server, so far."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute(
            "SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') FROM pg_stat_database"
            " WHERE datname = current_database()"
        ).fetchone()
        assert row
        return float(row[0]), float(row[1])


ROWS = [Row("scaling", "Checks of 50 ms on PostgreSQL, 1 to 16 processes", 60, open_scaling)]
