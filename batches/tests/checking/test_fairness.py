"""Slow and hostile sites against a worker and a real server: each costs only itself."""

import time
from itertools import count

import pytest

from batches.batch_manager import BatchManager
from batches.checking import lag
from batches.checking.checkers import parser_process, politeness
from batches.checking.checkers import parsers as parsers_module
from batches.models import Batch
from batches.tests.support.factories import assert_consistent
from batches.tests.support.feedserver import FeedServer, Reply
from batches.tests.support.hostile import documents
from batches.tests.support.working import work

pytestmark = [pytest.mark.slow, pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

FEED = b"<rss><channel><item><guid>1</guid><title>One</title></item></channel></rss>"


@pytest.fixture
def server(configure):
    """All of 127.0.0.0/8: each address is a separate host."""
    configure(allowed_networks=("127.0.0.0/8",), record_seconds=0.05)
    with FeedServer(hosts=["0.0.0.0"]) as server:
        server.otherwise = Reply(body=FEED)
        yield server


def create(server, *hosts_and_paths):
    urls = [server.url(path, host=host) for host, path in hosts_and_paths]
    return BatchManager().create_batch("it", urls)


def outcomes(batch):
    """(path, status, error) in the order of the results."""
    rows = batch.profiles.order_by("checked_at", "pk").values_list("profile__url", "status", "error")
    return [(url.partition("//")[2].partition("/")[2], status, error) for url, status, error in rows]


def test_profiles_that_redirect_to_one_slow_hub_wait_for_it_and_do_not_fail(configure, server):
    """The last one waits for a second longer than a check may take."""
    configure(timeout=3.0, check_timeout=4.0, concurrency=20)
    hub = "127.0.9.9"
    moved = [(f"127.0.1.{number + 1}", f"/moved/{number}") for number in range(50)]
    for number, (_, path) in enumerate(moved):
        server.redirect(path, server.url(f"/hub/{number}", host=hub))
        server.answer(f"/hub/{number}", [FEED[:20], FEED[20:]], every=0.2)
    others = [(f"127.0.2.{number + 1}", f"/other/{number}") for number in range(80)]
    batch = create(server, *moved, *others)
    work()
    assert {(status, error) for _, status, error in outcomes(batch)} == {("ok", "")}
    assert server.most_at_once(hub) == 2
    order = [path.split("/")[0] for path, _, _ in outcomes(batch)]
    assert order[-30:] == ["moved"] * 30
    assert_consistent()


def test_documents_that_compute_for_ever_fail_alone_and_the_others_are_read_first(server, monkeypatch):
    command = parser_process.COMMAND.replace(parser_process.__name__, "batches.tests.support.parser")
    monkeypatch.setattr(parser_process, "COMMAND", command)
    monkeypatch.setattr(parsers_module, "QUICK_SECONDS", 0.1)
    heavy = [(f"127.0.1.{number + 1}", f"/heavy/{number}") for number in range(6)]
    for _, path in heavy:
        server.answer(path, b"compute".ljust(479_000))
    light = [(f"127.0.2.{number + 1}", f"/light/{number}") for number in range(20)]
    for _, path in light:
        server.answer(path, b"".ljust(100_000))
    batch = create(server, *heavy, *light)
    work()
    assert {(path.split("/")[0], status, error) for path, status, error in outcomes(batch)} == {
        ("light", "ok", ""),
        ("heavy", "failed", "reading the document takes more than 0.1 s of computing"),
    }
    order = [path.split("/")[0] for path, _, _ in outcomes(batch)]
    assert order[-3:] == ["heavy"] * 3


def test_a_host_that_answers_429_without_saying_for_how_long_gets_fewer_requests_and_no_profile_fails(
    configure, server, monkeypatch
):
    monkeypatch.setattr(politeness, "FIRST_PAUSE", 0.3)
    monkeypatch.setattr(politeness, "FIRST_INTERVAL", 0.1)
    last, refused = [0.0], count()

    def answer(request):
        now = time.monotonic()
        if now - last[0] < 0.1:
            next(refused)
            return Reply(429)
        last[0] = now
        return Reply(body=FEED)

    limited = [("127.0.1.1", f"/limited/{number}") for number in range(20)]
    for _, path in limited:
        server.answer_in_turn(path, answer)
    others = [(f"127.0.2.{number + 1}", f"/other/{number}") for number in range(20)]
    batch = create(server, *limited, *others)
    work()
    assert {(status, error) for _, status, error in outcomes(batch)} == {("ok", "")}
    assert next(refused) <= 20
    order = [path.split("/")[0] for path, _, _ in outcomes(batch)]
    assert order[-15:] == ["limited"] * 15


@pytest.mark.parametrize("step", [19, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_no_document_blocks_the_event_loop_for_more_than_a_tenth_of_a_second(
    step, configure, server, monkeypatch, caplog
):
    """Measured by the worker itself."""
    configure(timeout=60.0)
    monkeypatch.setattr(lag, "INTERVAL", 0.001)
    bodies = [body for kinds in documents().values() for body in kinds.values()][::step]
    for number, body in enumerate(bodies):
        server.answer(f"/{number}", body)
    batch = create(server, *((f"127.0.3.{number + 1}", f"/{number}") for number in range(len(bodies))))
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.completed_profiles) == (Batch.Status.DONE, len(bodies))
    assert "The event loop was blocked" not in caplog.text
