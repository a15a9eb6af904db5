"""The failing profiles, whichever batch has found them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile
from batches.reports.failures import (
    Failures,
    Period,
    find_batches_with_failures,
    find_failing,
    start_of_day,
    summarise_failures,
)
from batches.tests.support.factories import check_batch, failed, make_batch, make_list, ok, run_list
from batches.tests.support.tables import explain, statements_of

pytestmark = pytest.mark.django_db


def fail(url, error="It answers with 500.", checked_at=None):
    """A profile that failed its last check, by default now."""
    now = timezone.now()
    return Profile.objects.create(
        url=url, last_error=error, last_checked_at=checked_at or now, failures=1, failing_since=now
    )


def test_a_profile_counts_by_its_last_check_whichever_batch_made_it():
    first = make_batch("first", 3)
    check_batch(first, failed("Gone."), failed("Gone."), failed("Slow."))
    assert BatchManager().complete_batch(first.pk)
    assert summarise_failures(Period.TODAY, 9) == Failures(3, [("Gone.", 2), ("Slow.", 1)], [("example.org", 3)])
    second = make_batch("second", 2)
    check_batch(second, ok(), failed("Slow."))
    assert summarise_failures(Period.TODAY, 9) == Failures(2, [("Slow.", 2)], [("example.org", 2)])


def test_the_most_frequent_come_first_and_the_total_counts_all():
    assert summarise_failures(Period.ALL, 2) == Failures(0, [], [])
    for number, host in enumerate(["b.example", "a.example", "c.example:8080", "c.example:8080"]):
        fail(f"https://{host}/{number}", error=host)
    assert summarise_failures(Period.ALL, 2) == Failures(
        4, [("c.example:8080", 2), ("a.example", 1)], [("c.example:8080", 2), ("a.example", 1)]
    )


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (Period.TODAY, {0}),
        (Period.YESTERDAY, {1, 2}),
        (Period.WEEK, {0, 1, 2, 3}),
        (Period.ALL, {0, 1, 2, 3, 4}),
    ],
)
def test_a_period_is_of_whole_days_of_the_projects_time_zone(period, expected, stopped_clock):
    instant = timedelta(microseconds=1)
    with timezone.override("Pacific/Auckland"):
        moments = [start_of_day(), start_of_day() - instant, start_of_day(1), start_of_day(6)]
        moments.append(start_of_day(6) - instant)
        found = [fail(f"https://example.org/{number}", checked_at=moment) for number, moment in enumerate(moments)]
        assert {found.index(profile) for profile in find_failing(period)} == expected
        assert summarise_failures(period, 9).total == len(expected)


def test_the_batches_of_a_day_with_most_failures_come_first():
    run_list(make_list("none failed", 1), ok())
    two = run_list(make_list("two", 2), failed(), failed())
    three = run_list(make_list("three", 3), failed(), failed(), failed())
    yesterday = run_list(make_list("yesterday", 1), failed())
    Batch.objects.filter(pk=yesterday.pk).update(completed_at=start_of_day(1))
    paused = make_batch("paused", 2)
    check_batch(paused, failed())
    assert BatchManager().pause_batch(paused.pk)
    assert list(find_batches_with_failures(Period.TODAY)) == [three, two, paused]
    assert list(find_batches_with_failures(Period.YESTERDAY)) == [yesterday]


def test_only_failing_profiles_are_read():
    fail("https://example.org/")
    for read in (lambda: summarise_failures(Period.TODAY, 9), lambda: list(find_failing(Period.ALL).by_address()[:9])):
        assert all("profile_failing" in explain(sql) for sql in statements_of(read))
