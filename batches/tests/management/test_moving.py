"""An installation moves from SQLite to PostgreSQL as docs/how-to/postgresql.md says, while a batch is half checked."""

import re
import signal
import sqlite3
from contextlib import closing

import pytest
from django.core.management import call_command

from batches.models import Batch, Profile
from batches.tests.support.documents import read_section
from batches.tests.support.factories import assert_consistent, row_statuses
from batches.tests.support.processes import Commands, ended

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.databases("postgresql"),
    pytest.mark.django_db(transaction=True),
]

PROFILES = 12


def documented_commands():
    """The arguments of "batches" in the lines of the procedure."""
    procedure = read_section("how-to/postgresql.md", "From SQLite to PostgreSQL")
    lines = re.findall(r"^batches (.*)$", procedure, re.MULTILINE)
    return [line.split() for line in lines]


@pytest.fixture
def old(tmp_path):
    with Commands(f"sqlite:///{tmp_path / 'old.sqlite3'}") as old:
        yield old


def count_recorded(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT COUNT(*) FROM batches_batchprofile WHERE status = 'ok'").fetchone()[0]


def test_a_queue_in_the_middle_of_a_run_continues_in_postgresql(
    old, commands, server, list_file, tmp_path, monkeypatch
):
    dump, *load = documented_commands()
    assert (dump[0], [words[0] for words in load]) == ("dumpdata", ["migrate", "loaddata", "batch"])
    paths = [f"/{number}" for number in range(PROFILES)]
    for path in paths:
        server.answer(path)
    gates = [server.hold(path) for path in paths[5:]]
    old.run("migrate")
    old.run("batch", "create", "--checker", "http", "--name", "it", list_file("\n".join(map(server.url, paths))))
    worker = old.start_worker()
    worker.wait_for(lambda: count_recorded(tmp_path / "old.sqlite3") == 5)
    worker.wait_for(lambda: len(server.requests) == 7)
    worker.signal(signal.SIGKILL)
    worker.wait()
    for gate in gates:
        gate.open()
    ended(old.start(*dump, cwd=tmp_path))
    monkeypatch.chdir(tmp_path)
    for arguments in load:
        call_command(*arguments)
    assert row_statuses(Batch.objects.get(name="it")) == ["ok"] * 5 + ["pending"] * 7
    commands.start_worker().wait_for(lambda: not Batch.objects.exclude(status=Batch.Status.DONE).exists())
    # Only checks that were running when the worker died are repeated.
    assert [server.hits(path) for path in paths] == [1] * 5 + [2] * 2 + [1] * 5
    assert_consistent()
    assert Profile.objects.create(url="https://new.example/").pk > PROFILES  # the sequences continue
