"""Scheduled runs leave out the profiles that rest: counted, with the reason, and never for good."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile
from batches.reports.comparison import Change, compare, filter_by_change
from batches.tests.support.factories import (
    assert_consistent,
    assert_sound,
    claim,
    failed,
    last_line,
    make_list,
    ok,
    profile_ids,
    record,
    row_statuses,
    start_run,
    urls,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
REASON = "It rests after 3 failures in a row. The last one: It is gone."


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = NOON

    monkeypatch.setattr(timezone, "now", lambda: Clock.now)
    return Clock


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


def test_one_success_ends_the_rest(press, manager, clock):
    rest(1, days=9)
    by_hand = manager.run_list(press.pk)
    record(start_run(by_hand), [(pk, ok()) for pk in profile_ids(by_hand)])
    assert manager.complete_batch(by_hand.pk)
    assert row_statuses(run_due(clock, 1)) == ["pending"] * 3


@pytest.mark.slow
def test_a_site_that_dies_is_checked_more_and_more_rarely_but_at_least_once_a_week(press, clock):
    checked = []
    for day in range(1, 40):
        batch = run_due(clock, day)
        run = claim()
        gone = Profile.objects.get(url=urls(1)[0])
        pending = set(batch.profiles.filter(status="pending").values_list("profile_id", flat=True))
        checked += [day] if gone.pk in pending else []
        record(run, [(pk, failed() if pk == gone.pk else ok()) for pk in pending])
        assert BatchManager().finish_run(batch.pk, run.run_token)
    assert checked == [1, 2, 3, 4, 5, 6, 8, 12, 19, 26, 33]
    assert_sound()


#: The rows of a done run (ok, skipped, failed) after each call, and the counters: completed, skipped.
CALLS = {
    "retry": (BatchManager.retry_failed, ["ok", "skipped", "pending"], (2, 1)),
    "again": (BatchManager.queue_batch, ["pending"] * 3, (0, 0)),
}


@pytest.mark.parametrize(("call", "rows", "counters"), CALLS.values(), ids=CALLS)
def test_skipped_profiles_are_checked_with_the_whole_batch(call, rows, counters, press, manager, clock):
    rest(1, days=9)
    batch = run_due(clock, 1)
    run = start_run(batch)
    one, _, three = profile_ids(batch)
    record(run, [(one, ok()), (three, failed())])
    assert manager.finish_run(batch.pk, run.run_token)
    assert call(manager, batch.pk)
    batch.refresh_from_db()
    assert (row_statuses(batch), (batch.completed_profiles, batch.skipped_profiles)) == (rows, counters)
    assert set(batch.profiles.filter(status="pending").values_list("error", flat=True)) == {""}
    assert_consistent()


def test_a_retry_without_a_success_keeps_skipped_profiles(press, manager, clock):
    rest(1, days=9)
    batch = run_due(clock, 1)
    run = start_run(batch)
    record(run, [(pk, failed()) for pk in profile_ids(batch)])
    assert manager.finish_run(batch.pk, run.run_token)
    assert manager.retry_failed(batch.pk)
    assert row_statuses(batch) == ["pending", "skipped", "pending"]
    assert_consistent()


def test_a_failure_that_is_retried_and_fails_again_is_two(press, manager, clock):
    batch = run_due(clock, 1)
    for failures in (1, 2):
        run = start_run(batch)
        record(run, [(profile_ids(batch)[0], failed())])
        assert set(Profile.objects.order_by("pk").values_list("failures", flat=True)) == {failures, 0}
        assert manager.pause_batch(batch.pk)
        assert manager.retry_failed(batch.pk)


def test_skipped_profiles_are_not_compared(press, manager, clock):
    first = run_due(clock, 1)
    run = start_run(first)
    record(run, zip(profile_ids(first), [ok(), failed(), ok()], strict=True))
    assert manager.finish_run(first.pk, run.run_token)
    rest(1, days=9)
    second = run_due(clock, 2)
    run = start_run(second)
    record(run, [(pk, ok()) for pk in profile_ids(second)])
    comparison = compare(second)
    assert (comparison.unchanged, comparison.recovered, comparison.not_compared) == (2, 0, 1)
    compared = {change: filter_by_change(second.profiles.all(), first, change).count() for change in Change}
    assert compared == {Change.UNCHANGED: 2, Change.NOT_COMPARED: 1, Change.RECOVERED: 0, Change.NEWLY_FAILING: 0}
