"""A worker needs a file for each connection, and the files of a process are limited."""

import resource

import pytest

from batches.batch_manager import BatchManager
from batches.checking import open_files
from batches.checking.open_files import fit_concurrency
from batches.tests.support.factories import row_statuses
from batches.tests.support.feedserver import FeedServer, Reply
from batches.tests.support.processes import MANAGE

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "fitting", "raised_to"),
    [
        (1024, 4096, 100, 100, None),
        (UNLIMITED, UNLIMITED, 5000, 5000, None),
        (256, UNLIMITED, 100, 100, 450),
        (256, 4096, 100, 100, 450),
        (1024, 1024, 1000, 674, 1024),
        (1024, 2048, 5000, 1698, 2048),
        (64, 64, 100, 1, 64),
    ],
)
def test_the_limit_is_raised_if_possible_and_otherwise_there_are_fewer_checks(
    soft, hard, wanted, fitting, raised_to, monkeypatch, caplog
):
    raised = []
    monkeypatch.setattr(open_files, "MAX_IDLE_CONNECTIONS", 200)
    monkeypatch.setattr(open_files, "OTHER_FILES", 150)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: raised.append(limits))
    assert fit_concurrency(wanted) == fitting
    assert raised == ([(raised_to, hard)] if raised_to else [])
    assert bool(caplog.records) == (fitting < wanted)


@pytest.mark.slow
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_a_worker_with_few_files_checks_fewer_at_once_says_so_and_no_profile_fails(commands):
    hosts = [f"127.0.0.{number}" for number in range(1, 101)]
    with FeedServer(hosts) as farm:
        farm.otherwise = Reply()
        batch = BatchManager().create_batch("it", [farm.url("/", host) for host in hosts], checker="http")
        limit = 'ulimit -n 380; exec "$@"'
        environ = {"BATCHES_CONCURRENCY": "100", "BATCHES_ALLOWED_NETWORKS": "127.0.0.0/8"}
        worker = commands.start_program(
            "sh", "-c", limit, "sh", *MANAGE, "batchworker", "--processes=1", environ=environ
        )
        worker.wait_for(lambda: "Finished" in worker.err)
        assert row_statuses(batch) == ["ok"] * 100
    said = "This process may open 380 files, and 100 checks at once can need 450. It checks 30 at once."
    assert worker.err.count(said) == 1
