"""Failures in a row are remembered, and scheduled runs leave out the profiles that rest: never for good."""

from datetime import timedelta

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile
from batches.queue.failures import list_rests, undo_failures
from batches.reports.comparison import Change, compare, filter_by_change
from batches.tests.support.factories import (
    assert_consistent,
    assert_sound,
    check_batch,
    claim,
    failed,
    last_line,
    make_batch,
    make_list,
    ok,
    profile_ids,
    record,
    record_one,
    row_statuses,
    start_run,
    urls,
)

from .conftest import NOON

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
REASON = "It rests after 3 failures in a row. The last one: It is gone."


# The memory of failures


@pytest.fixture
def check(manager, clock):
    """Check one profile, each time an hour later. Returns its failures, since when, and when the rest ends."""

    def check(result):
        run = start_run(make_batch("it", 1))
        profile = record_one(run, result).profile
        assert manager.complete_batch(run.batch.pk)
        clock.now += HOUR
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


def test_failures_are_undone(check, rests):
    rests(2)
    check(failed("Earlier."))
    run = check_batch(make_batch("it", 4), failed(), failed(), ok(), failed())
    undo_failures(profile_ids(run.batch)[:3])
    memories = Profile.objects.order_by("pk").values_list("failures", "failing_since", "rests_until", "last_error")
    assert list(memories) == [
        (1, NOON, None, "It answers with 500."),
        (0, None, None, ""),
        (0, None, None, ""),
        (1, NOON + HOUR, None, "It answers with 500."),
    ]


# Scheduled runs


@pytest.fixture
def press(manager, clock):
    """A list that is due every day at noon, with three profiles."""
    found = make_list("Press", 3)
    assert manager.change_list(found.pk, schedule="0 12 * * *")
    return found


def rest(number, days):
    """Let the profile with this number rest for this many days from the first noon on."""
    Profile.objects.filter(url=urls(3)[number]).update(
        failures=3, failing_since=NOON, rests_until=NOON + timedelta(days=days), last_error="It is gone."
    )


def run_due(clock, day):
    """The run of the list on this day."""
    clock.now = NOON + timedelta(days=day)
    [pk] = BatchManager("the worker", "worker").queue_due_lists(clock.now)
    return Batch.objects.get(pk=pk)


def test_a_scheduled_run_leaves_out_those_that_rest(press, clock):
    rest(1, days=2)
    batch = run_due(clock, 1)
    assert_sound()
    assert row_statuses(batch) == ["pending", "skipped", "pending"]
    assert batch.profiles.filter(status="skipped").values_list("error", "checked_at").get() == (REASON, None)
    assert (batch.total_profiles, batch.completed_profiles, batch.skipped_profiles, batch.percent) == (3, 1, 1, 33)
    assert last_line().message == "3 profiles, 1 skipped (resting), due 2026-06-02 12:00:00 UTC"
    run = start_run(batch)
    pending = batch.profiles.filter(status="pending").values_list("profile_id", flat=True)
    record(run, [(pk, ok()) for pk in pending])
    assert BatchManager().finish_run(batch.pk, run.run_token)
    batch.refresh_from_db()
    assert (batch.status, batch.completed_profiles, batch.successful_checks) == ("done", 3, 2)
    assert batch.rate is None or batch.rate == 2 / batch.run_seconds
    assert_consistent()


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (timedelta(days=1, hours=1, microseconds=1), "skipped"),
        (timedelta(days=1, hours=1), "pending"),
        (timedelta(days=1), "pending"),
        (timedelta(0), "pending"),
    ],
)
def test_a_rest_that_ends_within_the_hour_keeps_nobody_out(length, status, press, clock):
    rest(0, days=0)
    Profile.objects.filter(failures=3).update(rests_until=NOON + length)
    assert row_statuses(run_due(clock, 1)) == [status, "pending", "pending"]


def test_a_run_without_anybody_to_check_is_done_when_its_turn_comes(press, clock):
    for number in range(3):
        rest(number, days=9)
    batch = run_due(clock, 1)
    assert_sound()
    assert batch.percent == 100
    run = claim()
    assert run.batch == batch
    assert BatchManager().finish_run(batch.pk, run.run_token)
    batch.refresh_from_db()
    assert (batch.status, batch.error, batch.rate) == ("done", "", None)
    assert last_line().message == "Every profile rests."
    assert_consistent()


def test_a_run_that_somebody_starts_checks_all(press, manager, clock):
    rest(1, days=9)
    batch = run_due(clock, 1)
    assert row_statuses(manager.repeat_batch(batch.pk)) == ["pending"] * 3
    assert manager.complete_batch(batch.pk)
    for other in Batch.objects.exclude(position=None):
        assert manager.complete_batch(other.pk)
    assert row_statuses(manager.run_list(press.pk)) == ["pending"] * 3


#: The results of the first and the last of three profiles, a call, and then the rows, and how many are completed and
#: skipped.
CALLS = {
    "retry": (ok(), failed(), BatchManager.retry_failed, ["ok", "skipped", "pending"], (2, 1)),
    "retry without a success": (
        failed(),
        failed(),
        BatchManager.retry_failed,
        ["pending", "skipped", "pending"],
        (1, 1),
    ),
    "again": (ok(), failed(), BatchManager.queue_batch, ["pending"] * 3, (0, 0)),
}


@pytest.mark.parametrize(("first", "last", "call", "rows", "counters"), CALLS.values(), ids=CALLS)
def test_skipped_profiles_are_checked_with_the_whole_batch(first, last, call, rows, counters, press, manager, clock):
    rest(1, days=9)
    batch = run_due(clock, 1)
    run = start_run(batch)
    one, _, three = profile_ids(batch)
    record(run, [(one, first), (three, last)])
    assert manager.finish_run(batch.pk, run.run_token)
    assert call(manager, batch.pk)
    batch.refresh_from_db()
    assert (row_statuses(batch), (batch.completed_profiles, batch.skipped_profiles)) == (rows, counters)
    assert set(batch.profiles.filter(status="pending").values_list("error", flat=True)) == {""}
    assert_consistent()


def test_skipped_profiles_are_not_compared(press, manager, clock):
    first = run_due(clock, 1)
    run = check_batch(first, ok(), failed(), ok())
    assert manager.finish_run(first.pk, run.run_token)
    rest(1, days=9)
    second = run_due(clock, 2)
    check_batch(second, ok(), ok(), ok())
    comparison = compare(second)
    assert (comparison.unchanged, comparison.recovered, comparison.not_compared) == (2, 0, 1)
    compared = {change: filter_by_change(second.profiles.all(), first, change).count() for change in Change}
    assert compared == {Change.UNCHANGED: 2, Change.NOT_COMPARED: 1, Change.RECOVERED: 0, Change.NEWLY_FAILING: 0}
