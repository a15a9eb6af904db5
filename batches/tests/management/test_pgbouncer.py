"""The documented settings for a transaction pool, tried with the real PgBouncer."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from batches.models import Batch
from batches.tests.conftest import skip_or_fail
from batches.tests.support.postgres import DATABASE, run_as, unprivileged_account
from batches.tests.support.processes import Commands, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.databases("postgresql"), pytest.mark.django_db(transaction=True)]

#: Debian keeps it in a directory that only root has in its PATH.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
PORT = 6432
#: All clients share two connections.
CONFIG = """
[databases]
* = host={server} user=postgres

[pgbouncer]
pool_mode = transaction
default_pool_size = 2
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = any
"""
POOLED = {"TRANSACTION_POOL": "on"}


@pytest.fixture
def pooled(database_url):
    """Starts commands that reach the database through the pool."""
    if PROGRAM is None:
        skip_or_fail("PgBouncer is not installed. Install the package pgbouncer.")
    [server] = parse_qs(urlsplit(database_url).query)["host"]
    account = unprivileged_account()
    # Always /tmp: a socket path is limited to 103 bytes, and the pool's user needs access.
    with tempfile.TemporaryDirectory(prefix="batches-pgbouncer-", dir="/tmp") as directory:
        config = Path(directory, "pgbouncer.ini")
        config.write_text(CONFIG.format(server=server, port=PORT, directory=directory))
        if account:
            os.chown(directory, account.pw_uid, account.pw_gid)
        url = f"postgres://postgres@/{DATABASE}?host={quote(directory)}&port={PORT}"
        with subprocess.Popen([PROGRAM, "--quiet", config], cwd=directory, **run_as(account)) as pool:
            try:
                wait_until(Path(directory, f".s.PGSQL.{PORT}").exists)
                with Commands(url) as commands:
                    yield commands
            finally:
                pool.kill()


def test_a_batch_is_checked_and_exported_through_a_transaction_pool(pooled, server, list_file):
    server.answer_feed("/feed", "One", "Two")
    worker = pooled.start("batchworker", environ=POOLED)
    file = list_file(f"{server.url('/feed')}\n{server.url('/gone')}")
    run = pooled.run("batch", "run", "--json", "--count-first", file, **POOLED)
    assert [json.loads(run.out)[name] for name in ("status", "stories_found", "failed_checks")] == ["done", 2, 1]
    assert len(pooled.run("batch", "export", str(Batch.objects.get().pk), **POOLED).out.splitlines()) == 3
    pooled.run("batch", "doctor", **POOLED)
    assert worker.popen.poll() is None, worker.describe()


def test_without_the_setting_the_pool_refuses_our_parameters(pooled):
    listing = pooled.run("batch", "list", code=1)
    assert "unsupported startup parameter" in listing.err
    assert listing.err.endswith("A connection pool in front of it refuses our parameters. Set TRANSACTION_POOL=on.\n")
