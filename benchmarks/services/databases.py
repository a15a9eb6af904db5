"""New databases: SQLite files, and databases on a PostgreSQL with default settings."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from batches.tests.support.postgres import PostgresUnavailableError, create_database, temporary_postgres
from benchmarks.commands import VAR
from benchmarks.frame import Unavailable

# The tests switch these off. Here each commit waits for the disk, and autovacuum runs.
AS_INSTALLED = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nautovacuum = on\nmax_connections = 200\n"

LABELS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Databases:
    """Creates empty databases, one for each measurement, so that none profits from an earlier one."""

    def __init__(self, server: str = "") -> None:
        """On this PostgreSQL, or else SQLite files."""
        self._server = server

    @contextmanager
    def new(self) -> Iterator[str]:
        """The DATABASE_URL of a new database. It replaces the previous one, since 1,000,000 rows are 500 MB."""
        if self._server:
            yield create_database(self._server, "bench")
        else:
            with tempfile.TemporaryDirectory(dir=VAR) as folder:
                yield f"sqlite:///{folder}/bench.sqlite3"


@contextmanager
def databases(vendor: str) -> Iterator[Databases]:
    """Raises Unavailable."""
    VAR.mkdir(parents=True, exist_ok=True)
    if vendor == "sqlite":
        yield Databases()
        return
    try:
        with temporary_postgres(AS_INSTALLED) as server:
            yield Databases(server)
    except PostgresUnavailableError as error:
        raise Unavailable(str(error)) from error
