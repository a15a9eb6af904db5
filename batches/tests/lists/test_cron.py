"""Cron expressions with time zones: their times, their words, and their refusals."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.lists.cron import InvalidSchedule, describe_schedule, iterate_times, next_times, require_schedule
from batches.text import Sentence

BERLIN = "Europe/Berlin"
NO_DELAY = timedelta(0)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def moment(text):
    return datetime.fromisoformat(f"{text}+00:00")


def times(expression, zone, after, count=3):
    return [f"{time:%m-%d %H:%M}" for time in next_times(expression, zone, moment(after), count)]


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("30 6 * * *", "UTC", "2026-06-01 06:29", ["06-01 06:30", "06-02 06:30", "06-03 06:30"]),
        ("30 6 * * *", "UTC", "2026-06-01 06:30", ["06-02 06:30", "06-03 06:30", "06-04 06:30"]),
        ("30 6 * * *", "Asia/Kolkata", "2026-06-01 00:00", ["06-01 01:00", "06-02 01:00", "06-03 01:00"]),
        ("0 9 * * MON-FRI", "UTC", "2026-06-05 10:00", ["06-08 09:00", "06-09 09:00", "06-10 09:00"]),
        # The clocks go forward at 01:00 UTC: 02:30 does not exist, and its run comes right after the gap.
        ("30 2 * * *", BERLIN, "2026-03-28 02:00", ["03-29 01:00", "03-30 00:30", "03-31 00:30"]),
        ("0,30 2 * * *", BERLIN, "2026-03-28 02:00", ["03-29 01:00", "03-30 00:00", "03-30 00:30"]),
        ("0 * * * *", BERLIN, "2026-03-28 23:30", ["03-29 00:00", "03-29 01:00", "03-29 02:00"]),
        # The clocks go back at 01:00 UTC: 02:30 comes twice, and runs once.
        ("30 2 * * *", BERLIN, "2026-10-24 12:00", ["10-25 00:30", "10-26 01:30", "10-27 01:30"]),
        ("30 2 * * *", BERLIN, "2026-10-25 00:30", ["10-26 01:30", "10-27 01:30", "10-28 01:30"]),
        # Also if somebody looks, or switches it on, in the second of the two hours.
        ("30 2 * * *", BERLIN, "2026-10-25 01:10", ["10-26 01:30", "10-27 01:30", "10-28 01:30"]),
        ("0 * * * *", BERLIN, "2026-10-24 23:30", ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
    ],
)
def test_the_next_times(expression, zone, after, expected):
    assert times(expression, zone, after) == expected


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("30 6 * * *", "At 06:30 every day"),
        ("0 9 * * MON-FRI", "At 09:00 on Monday through Friday"),
        ("*/15 8-17 * * *", "Every 15th minute from 08:00 through 17:59"),
        ("0 0 1 * *", "At 00:00 on the first day of every month"),
        ("0 0 13,22,31 * *", "At 00:00 on the 13th, the 22nd, and the 31st day of month"),
    ],
)
def test_a_schedule_in_words(expression, words):
    assert describe_schedule(expression) == words


def test_a_schedule_that_is_known_only_in_part_is_not_translated():
    known = ["0 6 * * 1-5", "*/5 * * * *", "0 6,18 * * *", "0 6 1 * *", "0 */2 * * *", "0 6 L * *"]
    for expression in known:
        assert isinstance(describe_schedule(expression), Sentence), expression
    for expression in ("0 0 1-31/2 * 1-5", "0 0 * * 5#3", "0 9-17 * * 1-5"):
        assert not isinstance(describe_schedule(expression), Sentence), expression


@pytest.mark.parametrize(
    ("expression", "zone", "message"),
    [
        ("0 0 30 2 *", "UTC", "The day of month of “0 0 30 2 *” is not valid, or never comes."),
        ("61 * * * *", "UTC", "The minute of “61 * * * *” is not valid, or never comes."),
        ("0 0 * * FOO", "UTC", "The day of week of “0 0 * * FOO” is not valid, or never comes."),
        ("every day", "UTC", "“every day” needs 5 fields, not 2: minute, hour,"),
        ("0 0 * * * *", "UTC", "“0 0 * * * *” needs 5 fields, not 6:"),
        ("", "UTC", "“” needs 5 fields, not 0:"),
        ("0 0 * * *", "Europe", "“Europe” is not a known time zone. Write one such as Europe/Berlin or UTC."),
        ("0 0 * * *", "../../etc/localtime", "“../../etc/localtime” is not a known time zone."),
        ("0 0 * * *", "\0", "“” is not a known time zone."),
    ],
)
def test_an_unreadable_schedule_is_refused_with_advice(expression, zone, message):
    with pytest.raises(InvalidSchedule) as refused:
        require_schedule(expression, zone, NO_DELAY, NOW)
    assert str(refused.value).startswith(message)


def test_a_delay_is_shorter_than_the_time_between_two_runs():
    require_schedule("0 * * * *", "UTC", timedelta(minutes=59), NOW)
    with pytest.raises(InvalidSchedule, match="shorter than the time between two runs, 60 minutes"):
        require_schedule("0 * * * *", "UTC", timedelta(minutes=60), NOW)
    with pytest.raises(InvalidSchedule, match="5 minutes"):
        require_schedule("0,5 6 * * *", "UTC", timedelta(minutes=30), NOW)
    with pytest.raises(InvalidSchedule, match=r"two runs, 1 minute\."):
        require_schedule("* * * * *", "UTC", timedelta(minutes=1), NOW)


FIELDS = st.text("0123456789*,-/#LWMONJAN ?", max_size=6)


@settings(max_examples=200)
@given(st.lists(FIELDS, min_size=4, max_size=6).map(" ".join) | st.text(max_size=30))
def test_no_text_causes_a_fault_and_an_accepted_one_has_times_and_words(expression):
    try:
        require_schedule(expression, BERLIN, NO_DELAY, NOW)
    except InvalidSchedule:
        pass
    else:
        assert describe_schedule(expression)
        assert next_times(expression, BERLIN, NOW)


@settings(max_examples=30)
@given(
    st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 1-3 * * *", "15 3 * * 0", "0,30 2 25-31 3,10 *"]),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
)
def test_times_only_go_forward_over_every_change_of_the_clocks(expression, zone, after):
    found = next_times(expression, zone, after, 200)
    assert all(earlier < later for earlier, later in pairwise([after, *found]))
    for index in range(0, len(found) - 1, 37):  # looking again from one of them continues with the next one
        assert next(iterate_times(expression, zone, found[index])) == found[index + 1]
