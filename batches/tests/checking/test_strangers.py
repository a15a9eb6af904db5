"""Hostile sites do not affect others: real workers, a real server and a real name server under attack."""

import asyncio
import re
import signal
from pathlib import Path

import pytest

from batches.batch_manager import BatchManager
from batches.checking.checkers import resolver as resolver_module
from batches.checking.checkers.base import ProfileToCheck
from batches.checking.checkers.http import HttpChecker
from batches.checking.checks import Checks
from batches.conf import Config
from batches.tests.conftest import skip_or_fail
from batches.tests.support.factories import row_statuses, values_of
from batches.tests.support.feedserver import WAIT_SECONDS, FeedServer
from batches.tests.support.nameserver import SILENT

from .test_worker_process import is_done

LOOPBACK = ("127.0.0.0/8",)


def test_names_without_an_answer_take_no_place_of_others(names, server, monkeypatch):
    """Thirty of them, for ever, while only four checks may run at once."""
    monkeypatch.setattr(resolver_module, "MAX_SECONDS", 3600.0)
    names.use(monkeypatch)
    server.answer("/")
    hosts = [f"silent{n}.example" if n % 4 == 0 else f"good{n}.example" for n in range(120)]
    for host in hosts:
        names.answer(host, SILENT if host.startswith("silent") else ["127.0.0.1"])

    async def check_all() -> dict[int, bool]:
        enough = asyncio.Event()
        config = Config(allowed_networks=LOOPBACK, concurrency=4, retries=0)
        async with HttpChecker(config) as checker:
            checks = Checks(checker, "http", config, lambda: len(checks._results) >= 90 and enough.set())
            try:
                checks.add(ProfileToCheck(n, server.url("/", host=host)) for n, host in enumerate(hosts))
                async with asyncio.timeout(WAIT_SECONDS):
                    await enough.wait()
                return {number: result.ok for number, result in checks.take_chunk()}
            finally:
                await checks.close()

    assert asyncio.run(check_all()) == {n: True for n, host in enumerate(hosts) if host.startswith("good")}


@pytest.mark.slow
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_sigterm_ends_a_worker_within_its_grace_period_whatever_it_looks_up(names, commands, configure):
    """The process would have to wait for threads that look up names."""
    hosts = [f"silent{n}.example" for n in range(40)]
    for host in hosts:
        names.answer(host, SILENT)
    configure()  # the checkers of tests
    batch = BatchManager().create_batch("it", [f"http://{host}/" for host in hosts], checker="ownnames")
    environ = {"NAME_SERVER": f"127.0.0.1:{names.port}", "BATCHES_GRACE_SECONDS": "0.2"}
    worker = commands.start("batchworker", environ=environ)
    worker.wait_for(lambda: set(names.asked) == set(hosts))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert row_statuses(batch) == ["pending"] * 40
    assert "Traceback" not in worker.err


@pytest.mark.slow
@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_large_bodies_that_end_at_the_same_moment_cost_a_worker_little_memory_and_no_lease(commands):
    """They all send 4.9 MB at one pace, so that all their last bytes come together."""
    if not Path("/proc/self/status").exists():
        skip_or_fail("The peak of a process's memory is measured on Linux only.")
    hosts = [f"127.0.1.{n}" for n in range(1, 41)]
    item = "<item><guid>{}</guid><title>One</title><description>{}</description></item>"
    items = "".join(item.format(n, "word " * 9_800) for n in range(100))
    body = f"<rss version='2.0'><channel><title>Site</title>{items}</channel></rss>".encode()
    assert 4_900_000 < len(body) < 5_000_000
    pieces = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    with FeedServer(hosts=hosts) as server:
        server.answer("/", pieces, headers={"Content-Length": str(len(body))}, every=0.02)
        urls = [server.url("/", host=host) for host in hosts]
        batch = BatchManager().create_batch("it", urls, checker="feed")
        worker = commands.start_worker(lease_seconds=5, timeout=WAIT_SECONDS)
        worker.wait_for(is_done(batch))
        assert peak_of(worker.popen.pid) < 300_000_000
    assert row_statuses(batch) == ["ok"] * 40
    assert values_of(batch.pk)["takeovers"] == 0


def peak_of(pid: int) -> int:
    [kilobytes] = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kilobytes) * 1024
