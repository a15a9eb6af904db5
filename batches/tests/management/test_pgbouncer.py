"""The documented settings for a transaction pool, tried with the real PgBouncer."""

import json

import pytest

from batches.models import Batch
from batches.tests.conftest import skip_or_fail
from batches.tests.support import pgbouncer
from batches.tests.support.processes import Commands

pytestmark = [pytest.mark.slow, pytest.mark.databases("postgresql"), pytest.mark.django_db(transaction=True)]

POOLED = {"TRANSACTION_POOL": "on"}


@pytest.fixture
def pooled(database_url):
    """Starts commands that reach the database through the pool."""
    if pgbouncer.PROGRAM is None:
        skip_or_fail("PgBouncer is not installed. Install the package pgbouncer.")
    with pgbouncer.pgbouncer(database_url) as url, Commands(url) as commands:
        yield commands


def test_a_batch_is_checked_and_exported_through_a_transaction_pool(pooled, server, list_file):
    server.answer_feed("/feed", "One", "Two")
    worker = pooled.start("batchworker", environ=POOLED)
    file = list_file(f"{server.url('/feed')}\n{server.url('/gone')}")
    run = pooled.start("batch", "run", "--json", "--count-first", file, environ=POOLED)
    assert run.wait() == 0, run.describe()
    assert [json.loads(run.out)[name] for name in ("status", "stories_found", "failed_checks")] == ["done", 2, 1]
    export = pooled.start("batch", "export", str(Batch.objects.get().pk), environ=POOLED)
    assert export.wait() == 0, export.describe()
    assert len(export.out.splitlines()) == 3
    doctor = pooled.start("batch", "doctor", environ=POOLED)
    assert doctor.wait() == 0, doctor.describe()
    assert worker.popen.poll() is None, worker.describe()


def test_without_the_setting_the_pool_refuses_our_parameters(pooled):
    listing = pooled.start("batch", "list")
    assert listing.wait() == 1
    assert "unsupported startup parameter" in listing.err
    assert listing.err.endswith("A connection pool in front of it refuses our parameters. Set TRANSACTION_POOL=on.\n")
