"""Memory of failures: counted in a row, with their beginning and a rest, and undone after an outage of ours."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from batches.models import Profile, Queue
from batches.queue.failures import list_rests, undo_failures
from batches.queue.runs import end_run
from batches.tests.support.factories import (
    assert_consistent,
    failed,
    make_batch,
    ok,
    profile_ids,
    record,
    record_one,
    row_statuses,
    start_run,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def clock(monkeypatch):
    """The clock of the worker: each check is an hour after the previous one."""
    times = iter(NOON + number * HOUR for number in range(100))

    def go_on():
        moment = next(times)
        monkeypatch.setattr(timezone, "now", lambda: moment)

    return go_on


@pytest.fixture
def check(manager, clock):
    """Check one profile, an hour after the last time. Returns its failures, since when, and when the rest ends."""

    def check(result):
        clock()
        run = start_run(make_batch("it", 1))
        profile = record_one(run, result).profile
        assert manager.complete_batch(run.batch.pk)
        return profile.failures, profile.failing_since, profile.rests_until

    return check


@pytest.fixture
def rests(settings):
    def set_rests(after, first=6 * HOUR, longest=timedelta(days=7)):
        values = {"REST_AFTER": after, "FIRST_REST": first.total_seconds(), "LONGEST_REST": longest.total_seconds()}
        settings.BATCHES = settings.BATCHES | values

    return set_rests


def test_failures_in_a_row_are_counted_and_a_success_ends_them(check):
    assert check(failed()) == (1, NOON, None)
    assert check(failed()) == (2, NOON, None)
    assert check(ok()) == (0, None, None)
    assert check(failed()) == (1, NOON + 3 * HOUR, None)


def test_a_rest_is_twice_as_long_after_each_failure_up_to_the_longest(check, rests):
    rests(2, 3 * HOUR, 10 * HOUR)
    assert [check(failed())[2] for _ in range(5)] == [
        None,
        NOON + 1 * HOUR + 3 * HOUR,
        NOON + 2 * HOUR + 6 * HOUR,
        NOON + 3 * HOUR + 10 * HOUR,
        NOON + 4 * HOUR + 10 * HOUR,
    ]
    assert check(ok()) == (0, None, None)
    assert [check(failed())[2] for _ in range(2)] == [None, NOON + 7 * HOUR + 3 * HOUR]


@pytest.mark.parametrize(
    ("first", "longest", "hours"),
    [(1, 1, [1]), (5, 1, [1]), (1, 2, [1, 2]), (1, 5, [1, 2, 4, 5]), (6, 168, [6, 12, 24, 48, 96, 168])],
)
def test_the_lengths_of_rests(first, longest, hours, rests):
    rests(1, first * HOUR, longest * HOUR)
    assert list_rests() == [3600.0 * number for number in hours]


def test_a_profile_rests_after_one_failure_or_never_if_that_is_wanted(check, rests):
    rests(0)
    assert [check(failed()) for _ in range(3)] == [(number, NOON, None) for number in (1, 2, 3)]
    rests(1)
    assert check(ok())
    assert check(failed())[2] == NOON + 4 * HOUR + 6 * HOUR


def test_a_pause_of_the_host_is_neither_a_failure_nor_a_success(check, rests):
    rests(2)
    pause = failed("It asks for a pause.", host_paused=True)
    assert check(pause) == (0, None, None)
    assert check(failed()) == (1, NOON + HOUR, None)
    assert check(pause) == (1, NOON + HOUR, None)
    resting = check(failed())
    assert resting == (2, NOON + HOUR, NOON + 3 * HOUR + 6 * HOUR)
    assert check(pause) == resting


def test_the_first_read_is_remembered(check):
    def first_read_at():
        return Profile.objects.get().first_read_at

    check(failed())
    check(ok(reads_stories=False))
    assert first_read_at() is None
    check(ok())
    check(ok())
    assert first_read_at() == NOON + 2 * HOUR


def test_failures_are_undone_with_their_counters(check, clock, manager, rests):
    rests(2)
    check(failed("Earlier."))
    clock()
    run = start_run(make_batch("it", 4))
    ids = profile_ids(run.batch)
    record(run, zip(ids, [failed(), failed(), ok(), failed()], strict=True))
    rows = list(run.batch.profiles.order_by("pk").values_list("pk", flat=True))
    with Queue.objects.locked():
        end_run(run.batch)
        assert undo_failures(run.batch, rows[:3]) == 2
    assert manager.pause_batch(run.batch.pk)
    run.batch.refresh_from_db()
    assert row_statuses(run.batch) == ["pending", "pending", "ok", "failed"]
    assert_consistent()
    memories = Profile.objects.order_by("pk").values_list("failures", "failing_since", "rests_until", "last_error")
    assert list(memories) == [
        (1, NOON, None, "It answers with 500."),
        (0, None, None, ""),
        (0, None, None, ""),
        (1, NOON + HOUR, None, "It answers with 500."),
    ]


def test_a_rest_that_began_with_an_undone_failure_ends(check, rests):
    rests(1)
    run = start_run(make_batch("it", 1))
    row = record_one(run, failed())
    assert row.profile.rests_until is not None
    end_run(run.batch)
    assert undo_failures(run.batch, [row.pk]) == 1
    assert undo_failures(run.batch, [row.pk]) == 0
    row.profile.refresh_from_db()
    assert (row.profile.failures, row.profile.rests_until) == (0, None)
