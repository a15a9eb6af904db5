"""A database for the harness: an SQLite file, or a private PostgreSQL server that can be stopped and started."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections

from batches.tests.support.postgres import DATABASE, run_as, temporary_postgres, unprivileged_account
from batchproject.settings import parse_database_url

from . import audit

VENDORS = ("sqlite", "postgresql")

#: Seconds before a client stops waiting for a lock, and before PostgreSQL ends an idle transaction.
LOCK_SECONDS, IDLE_SECONDS = 1, 2


class Database:
    """An open database with its tables. `impatient_url` has the timeouts above instead of the project's.

    `patient_url` is for processes that must not lose a transaction on a slow machine: the harness itself, and tasks in
    which an exception is a breach. All others lose it after the lease, which is short here.
    """

    vendor: str
    url: str
    impatient_url: str
    patient_url: str


class SQLite(Database):
    vendor = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.impatient_url = f"{self.url}?timeout={LOCK_SECONDS}"
        self.patient_url = self.url


class PostgreSQL(Database):
    vendor = "postgresql"

    def __init__(self, url: str) -> None:
        self.url = url
        time_outs = f"-c lock_timeout={LOCK_SECONDS}s -c idle_in_transaction_session_timeout={IDLE_SECONDS}s"
        self.impatient_url = f"{url}&options={quote(time_outs)}"
        self.patient_url = f"{url}&options={quote('-c lock_timeout=20s')}"
        self.directory = Path(parse_qs(urlsplit(url).query)["host"][0])
        self.data = self.directory / "data"
        # The server itself records which installation it belongs to.
        program = (self.data / "postmaster.opts").read_text().split(" ", 1)[0]
        self._control = Path(program).parent / "pg_ctl"

    def stop(self) -> None:
        self._pg_ctl("stop", "--mode=immediate")

    def start(self) -> None:
        self._pg_ctl("start", f"--log={self.directory / 'log'}", "--timeout=60")

    def restart(self) -> None:
        self._pg_ctl("restart", "--mode=immediate", f"--log={self.directory / 'log'}", "--timeout=60")

    def demote(self) -> None:
        """Make it the standby of a missing server: it accepts connections and refuses every write."""
        self.stop()
        signal = self.data / "standby.signal"
        signal.touch()
        os.chown(signal, *self._owner())
        self.start()

    def promote(self) -> None:
        self._pg_ctl("promote", "--timeout=60")

    def is_running(self) -> bool:
        return self._run("status").returncode == 0

    @contextmanager
    def on_disk(self, place: Path) -> Iterator[None]:
        """Run it from a copy of its data on the disk mounted there; go back to the original data afterwards."""
        self.stop()
        elsewhere = self.directory / "data.elsewhere"
        subprocess.run(["cp", "-a", f"{self.data}/.", place], check=True)
        shutil.copystat(self.data, place)
        os.chown(place, *self._owner())
        self.data.rename(elsewhere)
        self.data.symlink_to(place)
        self.start()
        try:
            yield
        finally:
            connections.close_all()
            if self.is_running():
                self.stop()
            self.data.unlink()
            elsewhere.rename(self.data)
            self.start()

    def _owner(self) -> tuple[int, int]:
        status = self.data.stat()
        return status.st_uid, status.st_gid

    def _pg_ctl(self, action: str, *options: str) -> None:
        if self._run(action, *options).returncode:
            raise RuntimeError(f"pg_ctl {action} failed: {(self.directory / 'log').read_text()[-2000:]}")

    def _run(self, action: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._control, action, f"--pgdata={self.data}", "--silent", *options],
            cwd="/",
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Not a pipe: the server inherits it and would keep it open.
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **run_as(unprivileged_account()),
        )


@contextmanager
def open_database(vendor: str) -> Iterator[Database]:
    """A new database with the tables of the project and of the harness. It is removed afterwards."""
    opened = _postgresql() if vendor == "postgresql" else _sqlite()
    with opened as it:
        use(it.patient_url)
        call_command("migrate", verbosity=0)
        audit.install()
        try:
            yield it
        finally:
            connections.close_all()


@contextmanager
def _sqlite() -> Iterator[Database]:
    with tempfile.TemporaryDirectory(prefix="batches-stress-") as directory:
        yield SQLite(Path(directory) / "stress.sqlite3")


@contextmanager
def _postgresql() -> Iterator[Database]:
    with temporary_postgres() as url:
        it = PostgreSQL(url)
        with psycopg.connect(host=str(it.directory), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
            # Test servers lose the last commits in an immediate shutdown; this one must not.
            connection.execute("ALTER SYSTEM SET synchronous_commit = on")
            connection.execute("ALTER SYSTEM SET autovacuum = on")  # as in an installation
            connection.execute("SELECT pg_reload_conf()")
        yield it


def use(url: str) -> None:
    """Make it the default database of this process, with the settings of an installation."""
    configured = connections.configure_settings({DEFAULT_DB_ALIAS: parse_database_url(url)})[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS].close()
    del connections[DEFAULT_DB_ALIAS]
    connections.settings[DEFAULT_DB_ALIAS] = configured


def copy_sqlite(path: Path, directory: Path) -> Path:
    """Copies an idle SQLite database with its write-ahead log."""
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, directory)
    return directory / path.name
