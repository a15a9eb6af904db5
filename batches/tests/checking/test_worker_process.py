"""`manage.py batchworker` as a real process with a real server: stopped, killed, frozen, and several at once."""

import re
import signal
import time
from pathlib import Path

import pytest
from django.db import connection, transaction

from batches.batch_manager import BatchManager
from batches.models import Batch, StoryResult, Worker
from batches.tests.conftest import skip_or_fail
from batches.tests.support.factories import age_leases, assert_consistent, make_batch, row_statuses, values_of
from batches.tests.support.feedserver import FeedServer
from batches.tests.support.processes import WAIT_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

Status = Batch.Status
PAGE = """<!doctype html><html><head><title>Home</title>
<link rel="alternate" type="application/rss+xml" href="/feed"></head></html>"""


def batch_of(server, *paths, name="it", checker="http"):
    for path in paths:
        if checker == "http":
            server.answer(path)
    return BatchManager().create_batch(name, [server.url(path) for path in paths], checker=checker)


def paths(count):
    return [f"/{number}" for number in range(count)]


def hits(server, count):
    return [server.hits(path) for path in paths(count)]


def is_done(*batches):
    return lambda: all(values_of(batch.pk)["status"] == Status.DONE for batch in batches)


def actions(batch):
    return list(batch.logs.order_by("pk").values_list("action", flat=True))


class HalfWay:
    """A worker in the middle of a batch: five profiles of twelve are recorded, two are under way, five not begun.

    The server holds the answers of all but the first five.
    """

    def __init__(self, server, commands, **config):
        self.server = server
        self.batch = batch_of(server, *paths(12))
        self.gates = [server.hold(path) for path in paths(12)[5:]]
        self.worker = commands.start_worker(**config)
        self.under_way = self.gates[:2]
        self.worker.wait_for(lambda: hits(server, 12) == [1] * 7 + [0] * 5)
        self.worker.wait_for(lambda: values_of(self.batch.pk)["completed_profiles"] == 5)

    def open(self):
        for gate in self.gates:
            gate.open()

    def assert_complete(self):
        """Each result is recorded, and recorded once."""
        assert row_statuses(self.batch) == ["ok"] * 12
        assert values_of(self.batch.pk)["successful_checks"] == 12
        assert_consistent()


# -- To the end --------------------------------------------------------------------------------------------------------


def test_a_worker_works_on_the_queue_and_polls_for_more_until_a_signal_stops_it(server, commands):
    server.answer_feed("/feed", "One", "Two")
    server.answer("/page", PAGE)
    server.answer("/nonsense", "Hello")
    first = batch_of(server, "/feed", "/page", "/gone", "/nonsense", name="first", checker="feed")
    worker = commands.start_worker()
    worker.wait_for(is_done(first))
    second = batch_of(server, "/feed", name="second", checker="feed")
    worker.wait_for(is_done(second))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert row_statuses(first) == ["ok", "ok", "failed", "failed"]
    assert first.profiles.order_by("pk")[2].error == "answered 404 Not Found"
    assert first.profiles.order_by("pk")[1].profile.feed_url == server.url("/feed")
    # The page's feed is the feed's own, but the page is another profile.
    assert StoryResult.objects.filter(batch=first).count() == 4
    assert [row.has_story for row in second.profiles.all()] == [False]
    assert Worker.objects.exclude(ended_at=None).get().name.endswith(f":{worker.popen.pid}")
    assert_consistent()


# -- Stopped -----------------------------------------------------------------------------------------------------------


def test_sigterm_lets_running_checks_finish_and_the_next_worker_continues_immediately(server, commands):
    half = HalfWay(server, commands, grace_seconds=600)
    half.worker.signal(signal.SIGTERM)
    half.worker.wait_for(lambda: "running checks have 600 s to finish" in half.worker.err)
    for gate in half.under_way:
        gate.open()
    assert half.worker.wait() == 0
    assert row_statuses(half.batch) == ["ok"] * 7 + ["pending"] * 5
    assert hits(server, 12) == [1] * 7 + [0] * 5
    left = values_of(half.batch.pk)
    assert (left["status"], half.batch.leases.exists()) == (Status.RUNNING, False)
    half.open()
    # The lease would last longer than the test waits.
    next_worker = commands.start_worker(lease_seconds=3600)
    next_worker.wait_for(is_done(half.batch))
    half.assert_complete()
    assert hits(server, 12) == [1] * 12
    assert actions(half.batch)[-3:] == ["release_run", "claim_run", "finish_run"]


def test_a_second_signal_stops_the_checks_too_and_the_worker_ends_in_order(server, commands):
    half = HalfWay(server, commands, grace_seconds=600)
    half.worker.signal(signal.SIGTERM)
    half.worker.wait_for(lambda: "running checks have 600 s to finish" in half.worker.err)
    half.worker.signal(signal.SIGINT)
    assert half.worker.wait() == 0
    assert "Stopped immediately" in half.worker.err
    assert row_statuses(half.batch) == ["ok"] * 5 + ["pending"] * 7
    assert (half.batch.leases.exists(), Worker.objects.expected().exists()) == (False, False)
    half.open()


def test_a_worker_ends_within_its_grace_period_even_if_checks_hang_in_threads(commands, configure):
    batch = make_batch("it", 3, checker="hung")
    worker = commands.start_worker(grace_seconds=0.5)
    worker.wait_for(lambda: worker.err.count("A thread hangs") == 2)
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - began < 30  # a busy machine takes longer; the threads never end
    assert row_statuses(batch) == ["pending"] * 3
    assert (values_of(batch.pk)["status"], batch.leases.exists()) == (Status.RUNNING, False)


# -- Killed and frozen -------------------------------------------------------------------------------------------------


def freeze(worker):
    """Not while it holds SQLite's write lock, as it does for a moment whenever it renews its lease."""
    with transaction.atomic():
        worker.signal(signal.SIGSTOP)


def test_the_results_of_a_frozen_worker_are_refused_when_it_continues(server, commands):
    half = HalfWay(server, commands)
    freeze(half.worker)
    assert age_leases(half.batch)
    answered_late = half.under_way
    half.gates[:2] = [server.hold(path) for path in paths(12)[5:7]]
    for gate in answered_late:
        gate.open()
    other = commands.start_worker()
    other.wait_for(lambda: hits(server, 12) == [1] * 5 + [2] * 2 + [0] * 5)
    half.worker.signal(signal.SIGCONT)
    half.worker.wait_for(lambda: "This run is over" in half.worker.err)
    assert row_statuses(half.batch) == ["ok"] * 5 + ["pending"] * 7
    half.worker.signal(signal.SIGKILL)
    half.open()
    other.wait_for(is_done(half.batch))
    half.assert_complete()
    assert actions(half.batch)[-2:] == ["take_over", "finish_run"]


@pytest.mark.databases("postgresql")
def test_a_worker_with_a_broken_connection_continues(server, commands):
    half = HalfWay(server, commands)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        assert cursor.fetchone()[0] >= 1
    half.open()
    half.worker.wait_for(is_done(half.batch))
    half.assert_complete()
    assert hits(server, 12) == [1] * 12


# -- Attacked ----------------------------------------------------------------------------------------------------------


@pytest.mark.databases("sqlite")
def test_large_bodies_that_end_at_the_same_moment_cost_a_worker_little_memory_and_no_lease(commands):
    """They all send 4.9 MB at one pace, so that all their last bytes come together."""
    if not Path("/proc/self/status").exists():
        skip_or_fail("The peak of a process's memory is measured on Linux only.")
    hosts = [f"127.0.1.{number}" for number in range(1, 41)]
    text = "word " * 9_800
    items = "".join(f"<item><guid>{number}</guid><description>{text}</description></item>" for number in range(100))
    body = f"<rss version='2.0'><channel><title>Site</title>{items}</channel></rss>".encode()
    assert 4_900_000 < len(body) < 5_000_000
    pieces = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    with FeedServer(hosts=hosts) as server:
        server.answer("/", pieces, headers={"Content-Length": str(len(body))}, every=0.02)
        batch = BatchManager().create_batch("it", [server.url("/", host) for host in hosts], checker="feed")
        worker = commands.start_worker(lease_seconds=5, timeout=WAIT_SECONDS)
        worker.wait_for(is_done(batch))
        memory = Path(f"/proc/{worker.popen.pid}/status").read_text()
    assert int(re.search(r"VmHWM:\s+(\d+) kB", memory)[1]) < 300_000
    assert row_statuses(batch) == ["ok"] * 40
    assert values_of(batch.pk)["takeovers"] == 0
