"""When this machine is offline, sites have not failed: the worker waits, and continues automatically."""

import asyncio
import os
import signal

import pytest

from batches.batch_manager import BatchManager
from batches.checking import outage
from batches.checking.checkers.base import CheckResult
from batches.checking.checks import Checks
from batches.checking.outage import Prober, Watch, does_any_answer, unless
from batches.checking.sharing import Sharing
from batches.checking.worker import Worker
from batches.conf import Config
from batches.models import BatchLog, Profile, Queue
from batches.tests.support.factories import (
    age_leases,
    assert_consistent,
    profile_ids,
    record,
    row_statuses,
    start_run,
    values_of,
)
from batches.tests.support.feedserver import FeedServer
from batches.tests.support.time import asynchronous
from batches.tests.support.working import nothing_left, work

LOST, ANSWERED = CheckResult(False, "no such host", is_unreachable=True), CheckResult(False, "answered 404", 404)
HOSTS = [f"127.0.0.{number}" for number in range(1, 25)]
DEAD = [f"127.0.1.{number}" for number in range(1, 25)]
in_database = pytest.mark.django_db(transaction=True)


# -- The suspicion -----------------------------------------------------------------------------------------------------


def watch_of(lost, answered=0, hosts=20, **config):
    """A watch with the default settings that has seen this many results, evenly from this many hosts."""
    watch = Watch(Config(**config))
    for number, result in enumerate([ANSWERED] * answered + [LOST] * lost):
        watch.note(f"{number % hosts}.example", result)
    return watch


@pytest.mark.parametrize(
    ("watch", "is_suspicious", "is_suspicious_at_the_end"),
    [
        (watch_of(121, 79), True, True),
        (watch_of(120, 80), False, False),
        (watch_of(121, 78), False, True),
        (watch_of(121, 1000), True, True),
        (watch_of(200, hosts=19), False, False),
        (watch_of(200, outage_share=0.0), False, False),
        (watch_of(200, outage_share=1.5), False, False),
        (watch_of(60, 40, outage_window=100), False, False),
        (watch_of(61, 39, outage_window=100), True, True),
        (watch_of(200, hosts=5, outage_hosts=5), True, True),
        (watch_of(20), False, True),
        (watch_of(19, hosts=19), False, False),
    ],
)
def test_more_than_the_share_of_the_latest_checks_on_enough_hosts_is_suspicious(
    watch, is_suspicious, is_suspicious_at_the_end
):
    assert watch.suspects_outage(has_ended=False) is is_suspicious
    assert watch.suspects_outage(has_ended=True) is is_suspicious_at_the_end


def test_the_reason_has_the_numbers_of_the_latest_checks_and_after_a_false_alarm_they_begin_again():
    watch = watch_of(143, 100, hosts=96)
    assert str(watch.describe()) == (
        "This machine seems to be offline: 143 of the last 200 checks on 96 hosts could not connect."
    )
    watch.forget()
    for number in range(199):
        watch.note(f"{number}.example", LOST)
    assert not watch.suspects_outage(has_ended=False)
    assert watch.has_failures
    for number in range(200):
        watch.note(f"{number}.example", ANSWERED)
    assert not watch.has_failures


# -- Asking hosts ------------------------------------------------------------------------------------------------------


def ask(*addresses):
    return asyncio.run(does_any_answer(addresses, Config(allowed_networks=("127.0.0.0/8",))))


def test_any_answer_counts_and_no_host_that_refuses(server):
    server.answer("/gone", status=410)
    server.answer("/busy", status=429)
    for path in ("/gone", "/busy"):
        assert ask(f"http://{DEAD[0]}:{server.port}/", server.url(path))
    assert not ask(*(f"http://{host}:{server.port}/" for host in DEAD[:3]))


def test_the_first_answer_is_enough(server):
    gate = server.hold("/never")
    assert ask(server.url("/never"), server.url("/"))
    gate.open()


def prober_of(*known, **config):
    """It knows these hosts, one list after the other."""
    answers = iter(known)

    async def database(call, *arguments):
        return next(answers)

    return Prober(Config(allowed_networks=("127.0.0.0/8",), **config), database)


@asynchronous
async def test_hosts_are_remembered_that_answered_before_the_run_recorded_its_failures():
    dead = [f"http://{DEAD[0]}:9/"]
    for known in ((dead, []), ([], dead)):
        prober = prober_of(*known)
        for _ in range(2):
            await prober.remember()
        assert not await prober.is_online()


@asynchronous
async def test_an_answer_counts_for_a_while(server):
    for seconds, hits in ((3600, 1), (1e-9, 4)):
        prober = prober_of(*[[server.url("/")]] * 3, outage_seconds=seconds)
        assert [await prober.is_online() for _ in range(3)] == [True] * 3
        assert server.hits("/") == hits


@asynchronous
async def test_a_probe_ends_with_the_run():
    ended, begun, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def ask():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    asking = asyncio.create_task(unless(ended, ask()))
    await begun.wait()
    ended.set()
    assert await asking is None
    assert cancelled.is_set()


# -- A worker ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def site():
    """Answers at all HOSTS, until it goes away."""
    with FeedServer(HOSTS) as site:
        for page in range(4):
            site.answer(f"/{page}")
        yield site


@pytest.fixture
def reachable(configure):
    configure(allowed_networks=("127.0.0.0/8",), retries=0, outage_window=20, outage_hosts=10, outage_seconds=0.05)


def batch_at(site, hosts, pages=1, name="it"):
    addresses = [f"http://{host}:{site.port}/{page}" for page in range(pages) for host in hosts]
    return BatchManager().create_batch(name, addresses, checker="http")


def check_before(site, hosts=HOSTS, pages=1):
    """From now on, these hosts are known to have answered last time."""
    batch_at(site, hosts, pages, "before")
    work()


def work_offline(site, on_hold=lambda: None):
    """Run a worker while the site is away. It comes back when the queue is held, after this call."""

    def finished():
        if Queue.objects.get().outage_since:
            on_hold()
            site.come_back()
        return nothing_left()

    site.go_away()
    Worker(finished=finished).work()


def holds():
    return BatchLog.objects.filter(action="hold_queue").count()


@in_database
@pytest.mark.parametrize("pages", [1, 3], ids=["at the end of a short run", "in the middle of a longer one"])
def test_the_worker_waits_until_hosts_answer_again_and_then_checks_everything(site, reachable, configure, pages):
    configure(outage_window=30, record_size=5)
    check_before(site, HOSTS, pages)
    batch = batch_at(site, HOSTS, pages)

    def look():
        assert row_statuses(batch) == ["pending"] * 24 * pages
        assert values_of(batch.pk)["position"] == 1
        assert Queue.objects.get().hold_reason.startswith("This machine seems to be offline: ")

    work_offline(site, look)
    assert holds() == 1
    assert row_statuses(batch) == ["ok"] * 24 * pages
    assert not Profile.objects.exclude(failures=0, last_error="").exists()
    assert_consistent()


@in_database
def test_a_run_that_ends_while_its_last_results_are_recorded_asks_afterwards(site, reachable, configure, monkeypatch):
    configure(outage_window=200, record_size=24, record_seconds=3600.0)
    check_before(site)
    batch, records = batch_at(site, HOSTS), asyncio.Event()
    database, lease_more = Worker._database, Sharing.lease_more

    async def record_at_the_end(worker, call, *arguments):
        if call.__name__ == "record_results":
            records.set()
            await worker._run._settled.wait()
        return await database(worker, call, *arguments)

    async def find_nothing_more(sharing):
        await records.wait()
        await lease_more(sharing)

    monkeypatch.setattr(Worker, "_database", record_at_the_end)
    monkeypatch.setattr(Sharing, "lease_more", find_nothing_more)
    work_offline(site)
    assert row_statuses(batch) == ["ok"] * 24
    assert_consistent()


@in_database
def test_the_failures_of_a_killed_worker_in_the_outage_are_undone_too(site, reachable):
    check_before(site, HOSTS, 4)
    run = start_run(batch_at(site, HOSTS, 4))
    record(run, [(pk, LOST) for pk in profile_ids(run.batch)[:40]])
    assert age_leases(run.batch)
    work_offline(site)
    assert row_statuses(run.batch) == ["ok"] * 96
    assert_consistent()


@in_database
def test_dead_sites_do_not_hold_the_queue_and_hosts_are_asked_once_in_a_window(site, reachable, configure, before):
    configure(record_size=5)
    check_before(site, HOSTS[:3])
    dead, asked = batch_at(site, DEAD, 4), []
    before(Prober, "is_online", asked.append)
    work()
    assert 1 <= len(asked) <= 96 // 20 + 1  # and at the end
    assert row_statuses(dead) == ["failed"] * 96
    assert holds() == 0
    assert values_of(dead.pk)["status"] == "done"


@in_database
def test_in_a_first_run_failures_are_recorded_as_such(site, reachable):
    site.go_away()
    batch = batch_at(site, HOSTS)
    work()
    assert row_statuses(batch) == ["failed"] * 24
    assert holds() == 0


@in_database
def test_hosts_are_asked_again_before_the_queue_is_held_while_no_check_runs(
    site, reachable, configure, before, monkeypatch
):
    """Many checks at once may be too much for our own network: then the hosts answer one at a time."""
    configure(concurrency=2, record_size=20)  # at most 80 wait to be recorded, so not all have begun by then
    check_before(site)
    gate = site.hold("/held")
    addresses = [f"http://{host}:{site.port}/{page}" for page in range(5) for host in DEAD]
    batch = BatchManager().create_batch("it", [site.url("/held"), *addresses], checker="http")
    answers = iter([False, True, False, True])
    begun, numbers = [], []

    async def ask_and_say(prober):
        if numbers:
            gate.open()
        else:
            await asyncio.to_thread(gate.wait_for)
        numbers.append(len(begun))
        return next(answers, True)

    before(Checks, "_check", lambda checks, turn, task: begun.append(turn))
    monkeypatch.setattr(outage.Prober, "is_online", ask_and_say)
    work()
    assert numbers[0] == numbers[1] < len(begun)
    assert site.hits("/held") >= 2  # its first check was ended
    assert row_statuses(batch) == ["failed"] * 121
    assert holds() == 0


@in_database
def test_the_only_offline_worker_leaves_the_queue_to_others(site, reachable, monkeypatch):
    """It waits until its own hosts answer, or somebody releases the queue."""
    check_before(site)
    batch = batch_at(site, HOSTS)
    other, looks, online = BatchManager("another", "worker"), [], []

    async def ask(prober):
        return bool(online)

    def finished():
        queue = Queue.objects.get()
        if queue.outage_since:
            assert other.end_outage()
            looks.append("released")
        elif looks:
            looks.append(values_of(batch.pk)["status"])
        if len(looks) == 5:
            assert not batch.leases.exists()
            site.come_back()
            online.append(True)
        return nothing_left()

    monkeypatch.setattr(Prober, "is_online", ask)
    site.go_away()
    Worker(finished=finished).work()
    assert looks[:5] == ["released", "queued", "queued", "queued", "queued"]
    assert row_statuses(batch) == ["ok"] * 24


@in_database
@pytest.mark.parametrize("is_stopped", [False, True])
def test_answers_are_recorded_and_the_other_profiles_stay_pending(is_stopped, site, reachable, configure, monkeypatch):
    """If this machine is offline, and if the worker is stopped before it knows."""
    configure(outage_window=30, record_seconds=60.0)
    batch = batch_at(site, [*HOSTS[:6], *DEAD])

    async def ask(prober):
        if is_stopped:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        return False

    monkeypatch.setattr(Prober, "is_online", ask)
    Worker(finished=lambda: holds() > 0).work()
    assert row_statuses(batch) == ["ok"] * 6 + ["pending"] * 24
    assert holds() == (not is_stopped)
    assert_consistent()


@in_database
def test_a_release_by_hand_lets_the_worker_try_again(site, reachable, monkeypatch):
    check_before(site)
    batch = batch_at(site, HOSTS)

    async def ask(prober):
        return False

    monkeypatch.setattr(Prober, "is_online", ask)
    work_offline(site, BatchManager("ada", "admin").release_queue)
    assert row_statuses(batch) == ["ok"] * 24
