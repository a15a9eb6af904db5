"""A dead man's switch is notified of each run, and no run depends on it."""

import asyncio
import re

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.notifications import pings
from batches.notifications.pings import Ping, make_address
from batches.tests.support.factories import assert_consistent, urls
from batches.tests.support.feedserver import WAIT_SECONDS, Reply
from batches.tests.support.processes import wait_until
from batches.tests.support.working import work

LOOPBACK = ("127.0.0.0/8",)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(receiver, configure, script, monkeypatch):
    """Checks two profiles, and returns the batch and the paths that the switch was asked for."""
    for name in ("TIMEOUT", "LAST_SECONDS"):
        monkeypatch.setattr(pings, name, WAIT_SECONDS)
    script()

    def run(is_wanted=True, networks=LOOPBACK):
        url = receiver.url("/uuid") if is_wanted else ""
        configure(ping_url=url, allowed_networks=networks, retries=0)
        batch = BatchManager().create_batch("it", urls(2), checker="scripted")
        work()
        batch.refresh_from_db()
        assert_consistent()
        return batch, [request.path for request in receiver.requests]

    return run


def fail(*_):
    raise ArithmeticError


def test_a_run_that_is_done_pings_at_its_start_and_its_end_if_there_is_an_address(run):
    batch, paths = run(is_wanted=False)
    assert (batch.status, paths) == (Batch.Status.DONE, [])
    batch, paths = run()
    assert batch.status == Batch.Status.DONE
    assert paths == [f"/uuid/start?rid={batch.pk}", f"/uuid?rid={batch.pk}"]


def test_a_run_that_stops_with_an_error_says_so(run, monkeypatch):
    monkeypatch.setattr("batches.checking.worker.load_checker", fail)
    batch, paths = run()
    assert batch.status == Batch.Status.ERROR
    assert paths == [f"/uuid/start?rid={batch.pk}", f"/uuid/fail?rid={batch.pk}"]


def test_a_switch_that_hangs_delays_neither_the_run_nor_the_end_of_its_worker(run, receiver, script, monkeypatch):
    monkeypatch.setattr(pings, "TIMEOUT", 600.0)
    monkeypatch.setattr(pings, "LAST_SECONDS", 0.1)
    receiver.otherwise = Reply(raw=[b"HTTP/1.1 ", b"200 OK"], every=600.0)
    script(lambda profile: asyncio.to_thread(wait_until, lambda: receiver.requests))
    batch, paths = run()
    assert (batch.status, batch.successful_checks) == (Batch.Status.DONE, 2)
    assert [path.partition("?")[0] for path in paths] == ["/uuid/start"]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("refuses", "refused the connection"),
        ("fails", "answered 500"),
        ("pauses", "it asks for a pause"),
        ("is private", "not public"),
        ("meets a bug", "ArithmeticError"),
    ],
)
def test_a_switch_that_does_not_work_fails_no_run(run, receiver, caplog, monkeypatch, fault, reason):
    if fault == "meets a bug":
        monkeypatch.setattr(pings, "HttpChecker", fail)
    if fault == "refuses":
        receiver.go_away()
    receiver.otherwise = Reply(status={"fails": 500, "pauses": 429}.get(fault, 200), headers={"Retry-After": "60"})
    batch, _ = run(networks=() if fault == "is private" else LOOPBACK)
    assert (batch.status, batch.successful_checks, batch.error) == (Batch.Status.DONE, 2, "")
    assert re.search(rf"The ping to BATCHES_PING_URL failed: .*{reason}", caplog.text)
    assert "/uuid" not in caplog.text


@pytest.mark.parametrize(
    ("base", "event", "address"),
    [
        ("https://hc-ping.com/a", Ping.SUCCESS, "https://hc-ping.com/a?rid=1"),
        ("https://hc-ping.com/a/", Ping.START, "https://hc-ping.com/a/start?rid=1"),
        ("https://hc-ping.com/key/slug?create=1", Ping.FAIL, "https://hc-ping.com/key/slug/fail?create=1&rid=1"),
    ],
)
def test_the_address_says_what_happened_to_which_run(base, event, address):
    assert make_address(base, event, 1) == address
