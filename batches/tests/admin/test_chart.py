"""The geometry of the charts: nothing is lost, nothing is outside the drawing, and there are never too many bars."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from batches.admin.chart import MAX_BARS, MIN_BARS, chart, in_words, round_up, shares

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def minutes(*counts):
    """(minutes after noon, ok, failed) as the database counts them."""
    return [(NOON + timedelta(minutes=after), ok, failed) for after, ok, failed in counts]


def number(percent):
    assert percent.endswith("%")
    return float(percent[:-1])


def test_without_checks_there_is_no_chart():
    assert chart([]) is None


def test_a_bar_starts_at_the_bottom_with_failed_on_top_of_ok():
    [bar] = chart(minutes((0, 6, 2))).bars
    assert (bar.ok, bar.failed, bar.start, bar.end) == (6, 2, "12:00", "12:01")
    assert (bar.ok_y, bar.ok_height) == ("25.000%", "75.000%")
    assert (bar.failed_y, bar.failed_height) == ("0.000%", "25.000%")


def test_the_axes_have_counts_and_times():
    drawn = chart(minutes((0, 30, 7), (59, 80, 1)))
    assert (drawn.size, drawn.top, drawn.middle) == ("minute", 100, 50)
    assert drawn.times == ["12:00", "12:30", "13:00"]
    assert drawn.days == "2026-03-01"


def test_the_description_sums_up_the_chart():
    drawn = chart(minutes((0, 1000, 7), (3, 80, 1)))
    assert drawn.description == (
        "1,088 checks from 12:00 to 12:04: 1,080 ok, 8 failed. Most per minute: 1,007, from 12:00."
    )


@pytest.mark.parametrize(
    ("last", "size", "ends"),
    [
        (0, "minute", ["12:00", "12:12"]),
        (59, "minute", ["12:00", "13:00"]),
        (60, "2 minutes", ["12:00", "13:02"]),
        (299, "5 minutes", ["12:00", "17:00"]),
        (24 * 60, "30 minutes", ["03-01 12:00", "03-02 12:30"]),
        (59 * 24 * 60, "day", ["2026-03-01", "2026-04-30"]),
        (700 * 24 * 60, "2 weeks", ["2026-03-01", "2028-02-13"]),
    ],
)
def test_a_bar_covers_as_few_minutes_as_possible(last, size, ends):
    drawn = chart(minutes((0, 1, 0), (last, 0, 1)) if last else minutes((0, 1, 1)))
    assert (drawn.size, [drawn.times[0], drawn.times[-1]]) == (size, ends)


def test_bars_start_at_whole_hours_of_local_time():
    with timezone.override("Asia/Kathmandu"):  # 5:45 ahead
        drawn = chart(minutes((50, 1, 0), (50 + 50 * 60, 1, 0)))
    assert drawn.size == "hour"
    assert drawn.times[0] == "03-01 18:00"


counts = st.integers(0, 10**7)
some_minutes = st.dictionaries(
    st.integers(0, 3_000_000), st.tuples(counts, counts).filter(any), min_size=1, max_size=80
).map(lambda by_minute: minutes(*((after, *by_minute[after]) for after in sorted(by_minute))))


@given(some_minutes)
def test_all_checks_are_drawn_within_the_drawing(counted_minutes):
    drawn = chart(counted_minutes)
    assert sum(bar.ok for bar in drawn.bars) == sum(ok for _, ok, _ in counted_minutes)
    assert sum(bar.failed for bar in drawn.bars) == sum(failed for *_, failed in counted_minutes)
    assert len(drawn.bars) <= MAX_BARS
    right = -1.0
    for bar in drawn.bars:
        assert number(bar.x) > right  # side by side, from first to last
        right = number(bar.x) + number(drawn.width)
        assert 0 <= number(bar.failed_y) <= number(bar.ok_y) <= 100
        assert number(bar.ok_y) + number(bar.ok_height) == pytest.approx(100, abs=0.01)
        assert number(bar.failed_y) + number(bar.failed_height) == pytest.approx(number(bar.ok_y), abs=0.01)
    assert right <= 100
    assert number(drawn.width) <= 100 / MIN_BARS


@given(st.integers(1, 10**12))
def test_the_top_of_the_axis_is_the_next_round_number(count):
    top = round_up(count)
    assert count <= top <= max(2 * count, 2)
    assert top % 2 == 0
    assert str(top).rstrip("0") in {"1", "2", "4", "6", "8"}


@pytest.mark.parametrize(
    ("length", "words"),
    [(1, "minute"), (30, "30 minutes"), (60, "hour"), (720, "12 hours"), (1440, "day"), (30240, "3 weeks")],
)
def test_a_length_is_given_in_its_largest_whole_unit(length, words):
    assert in_words(length) == words


def test_the_parts_of_a_whole_are_side_by_side():
    ok, failed, pending = shares([("ok", 6), ("failed", 1), ("pending", 1)])
    assert [(share.x, share.width) for share in (ok, failed, pending)] == [
        ("0.000%", "75.000%"),
        ("75.000%", "12.500%"),
        ("87.500%", "12.500%"),
    ]
    assert [ok.percent, failed.percent] == ["75.0 %", "12.5 %"]


def test_a_share_is_100_percent_only_if_nothing_is_missing():
    assert [share.percent for share in shares([("ok", 99_999), ("failed", 1), ("pending", 0)])] == [
        "99.9 %",
        "0.1 %",
        "0 %",
    ]
    assert [share.percent for share in shares([("ok", 3), ("failed", 0)])] == ["100 %", "0 %"]
    assert [share.percent for share in shares([("ok", 0), ("failed", 0)])] == ["0 %", "0 %"]
