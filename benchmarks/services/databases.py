"""New databases: SQLite files, and databases on a PostgreSQL with default settings."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from batches.tests.support.postgres import PostgresUnavailableError, temporary_postgres
from benchmarks.commands import VAR
from benchmarks.frame import Unavailable

# The tests switch these off. Here each commit waits for the disk, and autovacuum runs.
AS_INSTALLED = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nautovacuum = on\nmax_connections = 200\n"

LABELS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


class Databases:
    """Creates empty databases, one for each measurement, so that none profits from an earlier one."""

    def __init__(self, vendor: str, server: str = "", folder: Path | None = None) -> None:
        self.vendor = vendor
        self._server = server
        self._folder = folder
        self._count = 0

    def create(self) -> str:
        """The DATABASE_URL of a new database."""
        self._count += 1
        if self.vendor == "sqlite":
            assert self._folder is not None
            return f"sqlite:///{self._folder}/{self._count}.sqlite3"
        name = f"bench{self._count}"
        with psycopg.connect(self._server.replace("/batches?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._server.replace("/batches?", f"/{name}?")

    def drop(self, url: str) -> None:
        """Remove it, since 1,000,000 rows are 500 MB."""
        if self.vendor == "sqlite":
            for suffix in ("", "-wal", "-shm"):
                Path(url.removeprefix("sqlite:///") + suffix).unlink(missing_ok=True)
            return
        name = url.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(self._server.replace("/batches?", "/postgres?"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def new(self) -> Iterator[str]:
        url = self.create()
        try:
            yield url
        finally:
            self.drop(url)


@contextmanager
def databases(vendor: str) -> Iterator[Databases]:
    """Raises Unavailable."""
    VAR.mkdir(parents=True, exist_ok=True)
    if vendor == "sqlite":
        with tempfile.TemporaryDirectory(dir=VAR) as folder:
            yield Databases(vendor, folder=Path(folder))
        return
    try:
        with temporary_postgres(AS_INSTALLED) as server:
            yield Databases(vendor, server)
    except PostgresUnavailableError as error:
        raise Unavailable(str(error)) from error
