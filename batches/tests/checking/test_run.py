"""The worker in the process of the test, on real databases: reading, checking, recording, and faults."""

import asyncio
import logging
import os
import re
import signal
import time
from collections import Counter
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import chain, repeat
from math import nan
from threading import Event, Semaphore
from unittest.mock import Mock

import pytest
from django.db import IntegrityError, InternalError, OperationalError, connection

from batches.batch_manager import BatchManager
from batches.checking import checks, heartbeat, queries, slowness, window, worker
from batches.checking.checkers.base import Checker, CheckResult, HostPaused, ProfileToCheck, Story
from batches.checking.checkers.politeness import HostNote, HostSlots
from batches.checking.checks import Checks
from batches.checking.worker import Worker
from batches.limits import MAX_ERROR, PARTITIONS
from batches.lists.domains import domain_of
from batches.models import Batch, Host, Profile, Queue, StoryResult
from batches.queue import results
from batches.queue.hosts import remember_hosts
from batches.queue.refusals import Fenced
from batches.tests.support.checkers import NAMES, OK
from batches.tests.support.factories import (
    assert_consistent,
    make_batch,
    record,
    row_statuses,
    urls,
    urls_of,
    values_of,
)
from batches.tests.support.feedserver import Reply
from batches.tests.support.hostile import CONFIG, SECRET, peak
from batches.tests.support.processes import WAIT_SECONDS, wait_until
from batches.tests.support.threads import in_thread
from batches.tests.support.working import nothing_left, work

from .conftest import of_many_hosts

pytestmark = pytest.mark.django_db(transaction=True)

Status = Batch.Status


def scripted(profiles=3, name="it"):
    return make_batch(name, profiles, checker="scripted")


def statuses():
    """Status by name of the batch."""
    return dict(Batch.objects.values_list("name", "status"))


def errors(batch):
    return list(batch.profiles.order_by("pk").values_list("error", flat=True))


def log(batch):
    """Its log in order: (action, message)."""
    return list(batch.logs.order_by("pk").values_list("action", "message"))


def failing(times, error):
    """Raises the error in the first calls."""
    return Mock(side_effect=chain([error] * times, repeat(None)))


class Elsewhere:
    """Calls from another thread, over another connection."""

    def __init__(self):
        self.calls = []

    async def __call__(self, call, *arguments):
        self.calls.append(in_thread(lambda: call(*arguments)))
        # The check that waits here may be cancelled; the call continues.
        return await asyncio.shield(asyncio.wrap_future(self.calls[-1]))


@pytest.fixture
def elsewhere():
    doing = Elsewhere()
    yield doing
    for call in doing.calls:
        assert call.result(WAIT_SECONDS)


@pytest.fixture
def around(monkeypatch):
    """Awaits `begin` before each call to the database of this name, and `end` after it, with the same arguments."""

    def patch(name, begin=None, end=None):
        database = Worker._database

        async def wrapped(worker, call, *arguments):
            is_it = call.__name__ == name
            if is_it and begin:
                await begin(*arguments)
            answer = await database(worker, call, *arguments)
            if is_it and end:
                await end(*arguments)
            return answer

        monkeypatch.setattr(Worker, "_database", wrapped)

    return patch


# -- From the first profile to the last --------------------------------------------------------------------------------


def test_each_profile_is_checked_once_and_its_result_recorded(configure, script, caplog):
    caplog.set_level(logging.INFO, "batches")
    configure(page_size=10, record_size=4, concurrency=5)
    batch = scripted(57)
    checked = script()
    work()
    assert sorted(checked) == sorted(urls(57))
    assert row_statuses(batch) == ["ok"] * 57
    assert statuses() == {"it": Status.DONE}
    assert [record.getMessage() for record in caplog.records if record.name == "batches.checking.worker"] == [
        "Checking “it”: 0 of 57 profiles done",
        "Finished “it”: 57 ok, 0 failed",
    ]
    assert_consistent()


def test_results_are_recorded_in_chunks_as_soon_as_one_is_complete(configure, script, around):
    configure(record_size=4, record_seconds=3600)
    batch = scripted(18)
    sizes, second_chunk = [], asyncio.Event()

    async def note(batch_id, token, results):
        sizes.append(len(results))
        if len(sizes) == 2:
            second_chunk.set()

    async def wait_for_the_second_chunk(profile):
        number = len(checked)
        for _ in range(100 * number):  # one ends after the other
            await asyncio.sleep(0)
        if number > 8:
            await second_chunk.wait()

    around("record_results", note)
    checked = script(wait_for_the_second_chunk)
    work()
    assert sizes == [4, 4, 4, 4, 2]
    assert row_statuses(batch) == ["ok"] * 18


def test_the_next_page_is_read_when_half_of_the_previous_one_is_being_checked(configure, script, around):
    configure(page_size=10, concurrency=1)
    batch = of_many_hosts(20)
    second_page, reads = asyncio.Event(), []

    async def note(batch, partitions, last_id, limit):
        reads.append(len(checked))
        if last_id:
            second_page.set()

    async def wait_for_the_second_page(profile):
        if len(checked) == 5:
            await second_page.wait()

    around("fetch_pending", note)
    checked = script(wait_for_the_second_page)
    work()
    assert reads[:2] == [0, 5]
    assert row_statuses(batch) == ["ok"] * 20


@pytest.mark.on_both_databases
def test_profiles_are_read_as_they_are_stored():
    odd = [
        "\"'\\",
        "\x01\t\r\n\x1f\x7f\x85\u2028",
        "😀\ufffe\U0010ffff",
        "null",
        "true",
        "007",
        "1e5",
        '["a"]',
        '{"a": 1}',
        " ",
    ]
    batch = make_batch("it", len(odd))
    for profile, text in zip(Profile.objects.order_by("pk"), odd, strict=True):
        Profile.objects.filter(pk=profile.pk).update(**dict.fromkeys(queries.CHECKED_COLUMNS[1:], text))
    page = queries.fetch_pending(batch, range(PARTITIONS), 0, len(odd) + 1)
    rows = batch.profiles.order_by("pk").values_list("pk", "partition", "profile_id", "profile__url")
    assert page == [
        (pk, number, ProfileToCheck(profile_id, url, *[text] * 4))
        for (pk, number, profile_id, url), text in zip(rows, odd, strict=True)
    ]


def test_a_batch_is_one_run_even_if_a_page_is_read_after_all_earlier_results_are_recorded(script, configure, around):
    configure(page_size=2)
    batch = scripted(4)
    recorded = asyncio.Event()

    async def wait_for_the_results(batch, partitions, last_id, limit):
        if last_id:
            await recorded.wait()

    async def note(*_):
        recorded.set()

    around("fetch_pending", wait_for_the_results)
    around("record_results", end=note)
    work()
    assert [action for action, _ in log(batch)] == ["create_batch", "promote_next_batch", "finish_run"]
    assert row_statuses(batch) == ["ok"] * 4


def test_a_lease_is_renewed_while_the_event_loop_is_blocked(configure, script, before):
    configure(lease_seconds=0.3)
    batch, renewals = scripted(1), Semaphore(0)

    async def block(profile):
        assert all(renewals.acquire(timeout=WAIT_SECONDS) for _ in range(5))

    before(BatchManager, "renew_lease", lambda *_: renewals.release())
    script(block)
    work()
    assert row_statuses(batch) == ["ok"]


def test_a_run_loses_its_lease_if_its_event_loop_is_blocked_for_too_long(configure, script, caplog, monkeypatch):
    monkeypatch.setattr(heartbeat, "LOOP_INTERVAL", 0.02)
    configure(lease_seconds=0.2, check_timeout=0.2)
    batch = scripted(1)

    def take_over_and_pause():
        wait_until(lambda: "The event loop has been blocked for more than 0.2 s." in caplog.text)
        wait_until(lambda: BatchManager().claim_run("another"))
        assert BatchManager().pause_batch(batch.pk)

    async def block_until_another_takes_over(profile):
        in_thread(take_over_and_pause).result(WAIT_SECONDS)

    script(block_until_another_takes_over)
    work()
    assert row_statuses(batch) == ["pending"]
    assert "take_over" in [action for action, _ in log(batch)]


def test_thousands_of_rows_of_a_slow_host_first_leave_no_other_host_idle_and_fill_no_memory(
    configure, script, monkeypatch
):
    configure(concurrency=4, page_size=40)
    monkeypatch.setattr(window, "CROWD", 20)
    slow = [f"https://slow.example/{number}" for number in range(3000)]
    quick = [f"https://quick{number}.example/" for number in range(10)]
    batch = BatchManager().create_batch("it", slow + quick, checker="scripted")
    quick_ones_checked, held = asyncio.Event(), []
    count = Checks.add

    def note(checks, profiles):
        count(checks, profiles)
        if not quick_ones_checked.is_set():
            held.append(len(checks.window))

    async def hold_the_slow_host(profile):
        if sum("quick" in url for url in checked) == 10:
            quick_ones_checked.set()
        if "slow" in profile.url and not quick_ones_checked.is_set():
            await quick_ones_checked.wait()

    monkeypatch.setattr(Checks, "add", note)
    checked = script(hold_the_slow_host)
    work()
    assert row_statuses(batch) == ["ok"] * 3010
    assert max(held) <= 40 + 10


def test_a_run_that_may_have_lost_its_lease_ends_its_checks_and_starts_none_until_it_is_renewed(
    configure, script, before, monkeypatch
):
    """As after a freeze, another worker may have its hosts."""
    configure(lease_seconds=0.3, concurrency=1)
    batch = scripted(2)
    worker, may_renew, seen, allowed = Worker(finished=nothing_left), Event(), [], []

    def fail_during_the_first_check(*_):
        if checked and not may_renew.is_set():
            raise OperationalError("away")

    async def outlive_the_lease(profile):
        if len(checked) == 1:
            try:
                await asyncio.Event().wait()
            finally:
                assert (worker._run._heartbeat.is_valid, allowed[0]()) == (False, False)
                asyncio.get_running_loop().call_later(0.2, note_and_renew)

    def note_and_renew():
        seen.append(len(checked))
        may_renew.set()

    before(BatchManager, "renew_lease", fail_during_the_first_check)
    monkeypatch.setattr(Checker, "send_while", lambda checker, may_send: allowed.append(may_send))
    checked = script(outlive_the_lease)
    worker.work()
    assert seen == [1]
    assert sorted(checked) == sorted([checked[0], *urls(2)])
    assert row_statuses(batch) == ["ok", "ok"]


def test_recorded_results_renew_the_lease_too_and_checks_start_again(configure, script, around, before, monkeypatch):
    """While no beat gets through. Without them, a run that waits to record would wait for the next beat."""
    monkeypatch.setattr(checks, "SECONDS_BETWEEN_LOOKS", 3600.0)
    configure(concurrency=1, record_size=1)
    batch, seen = scripted(2), []
    worker = Worker(finished=lambda: bool(seen))

    async def lose_the_lease(profile):
        if len(checked) == 1:
            worker._run._heartbeat.renewed -= 3600.0

    async def look_afterwards(*_):
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, look)  # after the start of a check

    def look():
        seen.append(len(checked))
        if seen == [1]:
            worker._run.stop_immediately()

    around("record_results", end=look_afterwards)
    before(BatchManager, "renew_lease", failing(99, OperationalError("away")))
    checked = script(lose_the_lease)
    worker.work()
    assert seen == [2, 2]
    assert row_statuses(batch) == ["ok", "ok"]


def test_a_worker_that_is_frozen_right_after_its_claim_checks_nothing_that_others_lease(configure, script, monkeypatch):
    configure(lease_seconds=0.3)
    batch, claims, claim = scripted(3), [], BatchManager.claim_run

    def freeze(*arguments):
        claims.append(claim(*arguments))
        time.sleep(0.5)
        assert claim(BatchManager(), "another").batch == batch
        return claims[0]

    async def check(profile):
        pass

    monkeypatch.setattr(BatchManager, "claim_run", freeze)
    checked = script(check)
    Worker(finished=lambda: bool(claims)).work()
    assert (len(claims), checked) == (1, [])


def test_a_run_that_ends_normally_is_not_interrupted(script):
    """Interrupted, it would no longer ask whether this machine is online."""
    scripted(1)
    worker, seen = Worker(finished=nothing_left), []

    async def stop(profile):
        for seconds in (60.0, None):
            worker._run.stop(seconds)
            seen.append(worker._run._interrupted.is_set())

    script(stop)
    worker.work()
    assert seen == [False, True]


def test_a_worker_that_starts_later_gets_profiles_of_slow_hosts_that_another_has_read(
    configure, script, elsewhere, monkeypatch
):
    """While each host seems slow, a worker reads on: here the whole batch, five pages."""
    configure(concurrency=4, page_size=4)
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    monkeypatch.setattr(slowness, "FIRST_ESTIMATE", 0.0)
    batch, others_are_checked = of_many_hosts(20), asyncio.Event()
    claims, others, checked_later = [], [], []

    def claim():
        claims.append(BatchManager().claim_run("another"))
        return claims[-1]

    def check_others():
        wait_until(claim)
        run = claims[-1]
        rows = batch.profiles.filter(partition__in=run.partitions)
        others.extend(rows.values_list("profile__url", flat=True))
        record(run, [(pk, OK) for pk in rows.values_list("profile_id", flat=True)])
        return BatchManager().release_run(batch.pk, run.run_token, run.partitions)

    async def wait_for_the_others(profile):
        if len(set(checked)) == 20 and not elsewhere.calls:  # a check of each has begun
            await elsewhere(check_others)
            others_are_checked.set()
        elif others_are_checked.is_set():
            checked_later.append(profile.url)
        await others_are_checked.wait()

    checked = script(wait_for_the_others)
    work()
    assert claims[0] is None
    assert 4 <= len(others) <= 10
    assert not set(checked_later) & set(others)
    assert row_statuses(batch) == ["ok"] * 20
    assert statuses() == {"it": Status.DONE}
    assert_consistent()


def test_a_worker_lends_a_slot_during_a_long_check(configure, script, elsewhere, around, monkeypatch):
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    batch, calls, knows_all = of_many_hosts(4), [], asyncio.Event()
    assert BatchManager().start_batch(batch.pk)
    another = BatchManager().claim_run("another", 2)

    async def note(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # from now on, only a beat tells it
            knows_all.set()

    def borrow_and_pause(domain):
        wait_until(lambda: BatchManager().share_run(batch.pk, another.run_token, [domain]).borrowed)
        return BatchManager().pause_batch(batch.pk)

    async def wait_until_it_is_lent(profile):
        await knows_all.wait()
        if not elsewhere.calls:
            await elsewhere(borrow_and_pause, domain_of(profile.url))
        await asyncio.Event().wait()

    around("share_run", end=note)
    script(wait_until_it_is_lent)
    work()
    assert statuses() == {"it": Status.PAUSED}


@pytest.mark.slow
@pytest.mark.databases("postgresql")  # which is the stricter one about text
@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_run_with_hostile_responses_is_done(step, configure, hostile):
    """`checkers/test_hostile.py` has what each of them gets."""
    configure(**CONFIG | {"timeout": 1.0, "per_host": 10, "concurrency": 10})
    addresses = list(hostile.urls.values())[::step]
    batch = BatchManager().create_batch("hostile", addresses, checker="feed")
    with peak(250_000_000):
        work()
    batch.refresh_from_db()
    assert (batch.status, batch.completed_profiles) == (Status.DONE, len(addresses))
    assert batch.successful_checks >= 10 / step
    assert not batch.profiles.filter(status="failed", error="").exists()
    assert_consistent()
    assert not StoryResult.objects.filter(title__contains=SECRET).exists()
    assert hostile.hits("/secret") == 0


# -- Checks that fail --------------------------------------------------------------------------------------------------


class NoTextError(Exception):
    pass


class NoZone(tzinfo):
    """A time zone that lacks its methods."""


NONSENSE = {
    "TypeError: it returned str, not a CheckResult": "ok",
    **{
        f"TypeError: it returned a CheckResult with {name} of type {found}": CheckResult(**{"ok": True, name: value})
        for name, value, found in [
            ("ok", 1, "int, not bool"),
            ("error", b"odd", "bytes, not str"),
            ("http_status", "200", "str, not int or None"),
            ("duration", 1j, "complex, not int or float"),
            ("stories", {Story("1")}, "set, not Sequence"),
            ("feed_url", 7, "int, not str or None"),
            ("etag", b"5", "bytes, not str or None"),
            ("last_modified", datetime(2026, 1, 1, tzinfo=UTC), "datetime, not str or None"),
            ("fingerprint", [], "list, not str or None"),
        ]
    },
    "TypeError: it returned a CheckResult with a str among its stories": CheckResult(True, stories="ab"),
    **{
        f"TypeError: it returned a Story with {name} of type {found}": CheckResult(
            True, stories=[Story("1"), Story(**{"id": "2", name: value})]
        )
        for name, value, found in [
            ("id", 2, "int, not str"),
            ("title", None, "NoneType, not str"),
            ("url", b"http://a.example/", "bytes, not str"),
            ("published", "2026-01-01", "str, not datetime or None"),
        ]
    },
    "NotImplementedError: a tzinfo subclass must implement utcoffset()": CheckResult(
        True, stories=[Story("1", published=datetime(2026, 1, 1, tzinfo=NoZone()))]
    ),
}


#: The exception or the result of a checker, and the error of the profile.
FAULTS = [
    (ValueError("It is odd."), "The checker “scripted” failed: ValueError: It is odd."),
    (NoTextError(), "The checker “scripted” failed: NoTextError: "),
    (TimeoutError("The service is slow."), "The checker “scripted” failed: TimeoutError: The service is slow."),
    (asyncio.CancelledError(), "The checker “scripted” failed: CancelledError: "),
    (ValueError("a\0b\ud800c"), "The checker “scripted” failed: ValueError: abc"),
    (ValueError("long " * 200_000), f"The checker “scripted” failed: ValueError: {'long ' * 400}"[:MAX_ERROR]),
    *((result, f"The checker “scripted” failed: {reason}") for reason, result in NONSENSE.items()),
    *(
        (
            partial(HostPaused, host, seconds, "busy", status),
            "The checker “scripted” failed: TypeError: HostPaused takes a host, seconds, and an HTTP status or None, "
            f"not {host!r}, {seconds!r} and {status!r}",
        )
        for host, seconds, status in (
            (None, 1.0, None),
            ("a.example", "1", 429),
            ("a.example", nan, 429),
            ("a.example", 1, "429"),
        )
    ),
    ("never", "The check did not finish within 1 s."),
]


def test_an_error_of_the_checker_fails_only_its_profile(configure, script):
    configure(check_timeout=1.0)
    batch = of_many_hosts(2 * len(FAULTS))
    faults = dict(zip(urls_of(batch)[::2], (fault for fault, _ in FAULTS), strict=True))

    async def fail_at_every_other(profile):
        fault = faults.get(profile.url)
        if isinstance(fault, BaseException):
            raise fault
        if fault == "never":
            await asyncio.Event().wait()
        if callable(fault):
            raise fault()
        return fault

    script(fail_at_every_other)
    work()
    assert errors(batch) == [error for _, sentence in FAULTS for error in (sentence, "")]
    assert row_statuses(batch) == ["failed", "ok"] * len(FAULTS)
    assert statuses() == {"it": Status.DONE}


def test_the_first_error_of_each_kind_is_logged_with_its_traceback(script, caplog):
    scripted(6)

    async def fail(profile):
        raise (ValueError if len(checked) % 2 else KeyError)("odd")

    checked = script(fail)
    work()
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info[0] for record in logged] == [ValueError, KeyError]
    assert logged[0].getMessage() == f"The checker “scripted” failed on {urls(1)[0]}"


# -- Hosts that ask for a pause ----------------------------------------------------------------------------------------


RECALLED = r"asked us earlier to wait, for 3[56]\d\d s more"


def test_a_pause_holds_also_for_the_next_run(configure, server):
    configure(allowed_networks=("127.0.0.0/8",), max_retry_after=0)
    server.answer("/1", status=429, headers={"Retry-After": "3600"})
    batches = [BatchManager().create_batch("it", [server.url(path)], checker="http") for path in ("/1", "/2")]
    work()
    [asked], [put_off] = map(errors, batches)
    assert asked == "asked us to wait 3600 s"
    assert re.fullmatch(RECALLED, put_off)
    assert [request.path for request in server.requests] == ["/1"]
    assert (Host.objects.get().name, Host.objects.get().last_status) == ("127.0.0.1", 429)
    assert set(Profile.objects.values_list("failures", flat=True)) == {0}


def test_a_worker_learns_of_a_pause_that_a_host_asked_of_another(configure, server, monkeypatch):
    """It would request its second profile from the host, and learns in time that it must not."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    configure(allowed_networks=("127.0.0.0/8",), max_retry_after=0, per_host=1)
    batch = BatchManager().create_batch("it", [server.url("/1"), server.url("/2")], checker="http")
    server.otherwise = Reply(body=b"a")
    gate, recall = server.hold("/1"), HostSlots.recall
    another = in_thread(lambda: gate.wait_for() or remember_hosts([HostNote("127.0.0.1", 3600.0, 1, 1.0, 429)]))

    def open_when_it_has_heard(slots, notes):
        notes = list(notes)
        recall(slots, notes)
        if notes:
            gate.open()

    monkeypatch.setattr(HostSlots, "recall", open_when_it_has_heard)
    work()
    assert another.result(WAIT_SECONDS) is None
    ok, put_off = errors(batch)
    assert ok == ""
    assert re.fullmatch(RECALLED, put_off)
    assert [request.path for request in server.requests] == ["/1"]


# -- Batches that cannot be worked on ----------------------------------------------------------------------------------


#: A checker, a call that fails and how, and the error of the batch.
BROKEN = {
    "an unknown checker": (
        "gone",
        None,
        f"LookupError: Unknown checker 'gone'; the settings have feed, http, {', '.join(NAMES)}.",
    ),
    "a checker that fails to start": ("unready", None, "ConnectionError: The service does not know us."),
    "a checker that never starts": ("neverready", None, "TimeoutError: The checker was not ready within 0.1 s."),
    "an error with NUL and of a megabyte": (
        "effortless",
        (queries, "fetch_pending", RuntimeError("a\0b\ud800" + "long " * 200_000)),
        f"RuntimeError: ab{'long ' * 400}"[:MAX_ERROR],
    ),
    "a record that breaks a constraint": (
        "effortless",
        (results, "update_profiles", IntegrityError("violates a constraint")),
        "IntegrityError: violates a constraint",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_batch_that_cannot_be_worked_on_goes_to_error_and_the_next_one_runs(kind, configure, before):
    checker, fault, error = BROKEN[kind]
    configure(lease_seconds=0.1)
    batch = make_batch("broken", 2, checker="effortless")
    Batch.objects.filter(pk=batch.pk).update(checker=checker)
    make_batch("next", 2, checker="effortless")
    if fault:
        owner, name, exception = fault
        before(owner, name, failing(1, exception))
    work()
    assert statuses() == {"broken": Status.ERROR, "next": Status.DONE}
    assert values_of(batch.pk)["error"] == error
    assert log(batch)[-1] == ("handle_error", error)
    assert row_statuses(batch) == ["pending"] * 2
    assert_consistent()


def test_a_batch_without_rows_is_done_if_its_total_is_0_and_otherwise_goes_to_error(configure, caplog):
    make_batch("empty", checker="effortless")
    Batch.objects.create(name="hollow", total_profiles=7, checker="effortless")
    work()
    assert statuses() == {"empty": Status.DONE, "hollow": Status.ERROR}
    assert "“hollow” failed: The batch expects 7 profiles but has no rows to check." in caplog.messages


# -- Runs that somebody ends ------------------------------------------------------------------------------------------


def test_after_a_pause_nothing_is_recorded_and_the_batch_continues_from_there_when_it_is_queued_again(
    configure, script, elsewhere, caplog
):
    configure(record_size=3, concurrency=4)
    batch = of_many_hosts(30)
    make_batch("next", 2, checker="effortless")

    def pause_and_look():
        assert BatchManager().pause_batch(batch.pk)
        return values_of(batch.pk), row_statuses(batch)

    async def pause_at_the_tenth(profile):
        if len(checked) == 10:
            while (await elsewhere(row_statuses, batch)).count("ok") < 3:
                pass
            await elsewhere(pause_and_look)
        await asyncio.sleep(0)

    checked = script(pause_at_the_tenth)
    work()
    assert statuses() == {"it": Status.PAUSED, "next": Status.DONE}
    assert (values_of(batch.pk), row_statuses(batch)) == elsewhere.calls[-1].result()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    pending = list(batch.profiles.filter(status="pending").values_list("profile__url", flat=True))
    assert 0 < len(pending) < 30
    BatchManager().queue_batch(batch.pk)
    checked = script()
    checked.clear()
    work()
    assert sorted(checked) == sorted(pending)
    assert row_statuses(batch) == ["ok"] * 30
    assert_consistent()


def test_a_pause_cancels_running_checks_and_is_logged(configure, script, elsewhere, around, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "batches")
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    configure(check_timeout=3600.0, record_seconds=3600.0)
    batch, leased = scripted(1), asyncio.Event()
    make_batch("next", 1, checker="effortless")

    async def note(*_):
        leased.set()

    async def pause_and_wait(profile):
        await leased.wait()  # with its last call the run could notice the pause itself
        await elsewhere(BatchManager().pause_batch, batch.pk)
        await asyncio.Event().wait()

    around("share_run", end=note)
    script(pause_and_wait)
    work()
    assert statuses() == {"it": Status.PAUSED, "next": Status.DONE}
    assert row_statuses(batch) == ["pending"]
    assert f"“it”: {Fenced().refusal}" in caplog.messages
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_error_of_an_ended_run_does_not_stop_the_next_run(script, before):
    batch = scripted(1)

    def pause_and_fail(*_):
        assert BatchManager().pause_batch(batch.pk)
        raise RuntimeError("It broke.")

    before(queries, "fetch_pending", pause_and_fail)
    work()
    assert statuses() == {"it": Status.PAUSED}
    assert log(batch)[-1][0] == "pause_batch"


# -- Stopped -----------------------------------------------------------------------------------------------------------


def test_checks_that_do_not_end_within_the_grace_period_are_cancelled(configure, script):
    configure(grace_seconds=0.05)
    batch = scripted(5)

    async def stop_at_the_third(profile):
        if len(checked) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        if len(checked) >= 3:
            await asyncio.Event().wait()

    checked = script(stop_at_the_third)
    assert work().stopped_by == signal.SIGTERM
    assert row_statuses(batch) == ["ok"] * 2 + ["pending"] * 3
    assert_released(batch)


def test_a_stopped_worker_leaves_the_rest_to_others_while_its_running_checks_end(configure, script, elsewhere):
    """What it has read, and what it has not."""
    configure(concurrency=1, page_size=4)
    batch = of_many_hosts(20)
    worker = Worker(finished=lambda: bool(checked))

    def wait_until_the_rest_is_free():
        wait_until(lambda: batch.leases.get().partitions.count() == 1)
        return True

    async def stop(profile):
        worker._run.stop(3600.0)
        await elsewhere(wait_until_the_rest_is_free)

    checked = script(stop)
    worker.work()
    assert sorted(row_statuses(batch)) == ["ok"] + ["pending"] * 19
    assert_released(batch)


def test_a_worker_that_is_stopped_while_it_claims_a_run_starts_no_check(script, before):
    batch = scripted(3)
    checked = script()
    worker = Worker(finished=nothing_left)

    def be_stopped(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: worker.stopped_by)

    before(BatchManager, "claim_run", be_stopped)
    worker.work()
    assert checked == []
    assert_released(batch)


def test_a_worker_that_is_stopped_while_it_reads_profiles_does_not_check_them(script, around):
    batch = scripted(3)
    checked = script()
    worker = Worker(finished=nothing_left)

    async def be_stopped(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        await worker._stop.wait()

    around("fetch_pending", end=be_stopped)
    worker.work()
    assert checked == []
    assert_released(batch)


def assert_released(batch):
    """It is running without an owner, so the next worker need not wait."""
    left = values_of(batch.pk)
    assert (left["status"], batch.leases.exists()) == (Status.RUNNING, False)
    assert log(batch)[-1][0] == "release_run"


# -- The database fails ------------------------------------------------------------------------------------------------


GONE = OperationalError("server closed the connection")
READ_ONLY = InternalError("cannot execute UPDATE in a read-only transaction")  # of PostgreSQL


@pytest.mark.parametrize(
    ("owner", "call", "fault"),
    [
        (BatchManager, "claim_run", GONE),
        (BatchManager, "claim_run", READ_ONLY),
        (BatchManager, "record_results", GONE),
        (BatchManager, "finish_run", GONE),
        (queries, "fetch_pending", GONE),
    ],
)
def test_a_worker_waits_for_a_database_that_does_not_answer(owner, call, fault, script, before, monkeypatch, caplog):
    monkeypatch.setattr(worker, "FIRST_WAIT", 0.001)
    before(owner, call, failing(3, fault))
    batch = scripted(5)
    checked = script()
    work()
    assert statuses() == {"it": Status.DONE}
    assert Counter(checked) == Counter(urls(5))
    assert row_statuses(batch) == ["ok"] * 5
    waits = [record.getMessage() for record in caplog.records if "Database error" in record.getMessage()]
    assert waits == [f"Database error, next attempt in {wait} s: {fault}" for wait in ("0.001", "0.002", "0.004")]


def test_a_connection_is_not_reused_after_a_failed_call(script, before, monkeypatch):
    """SQLite keeps refusing every write if the file could not be written when it was opened."""
    monkeypatch.setattr(worker, "FIRST_WAIT", 0.001)
    used = []

    def fail_once(*_):
        connection.ensure_connection()
        used.append(connection.connection)
        if len(used) == 1:
            raise OperationalError("attempt to write a readonly database")

    before(BatchManager, "claim_run", fail_once)
    scripted(1)
    work()
    assert used[0] is not used[1]


def test_a_worker_that_is_stopped_while_the_database_is_away_does_not_wait_for_it(script, before, monkeypatch):
    monkeypatch.setattr(worker, "FIRST_WAIT", 60.0)
    attempts = []

    def fail_and_be_stopped(*_):
        attempts.append(len(attempts))
        if attempts == [0]:
            os.kill(os.getpid(), signal.SIGTERM)
        raise OperationalError("away")

    before(BatchManager, "record_results", fail_and_be_stopped)
    scripted(1)
    with pytest.raises(OperationalError, match="away"):
        work()


def test_an_idle_worker_leaves_the_queue_as_it_is(script):
    work()
    before = list(Queue.objects.values("version", "held"))
    work()
    assert list(Queue.objects.values("version", "held")) == before
