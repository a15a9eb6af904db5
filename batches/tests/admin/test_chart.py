"""The geometry of the charts: nothing is lost, nothing is outside the drawing, and there are never too many bars."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from batches.admin.chart import MAX_BARS, MAX_RUNS, MIN_BARS, chart, round_up, runs_chart, shares
from batches.models import Batch

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def minutes(*counts):
    """(minutes after noon, ok, failed) as the database counts them."""
    return [(NOON + timedelta(minutes=after), ok, failed) for after, ok, failed in counts]


def number(percent):
    assert percent.endswith("%")
    return float(percent[:-1])


def test_a_chart_has_bars_axes_and_a_description():
    drawn = chart(minutes((0, 30, 10), (59, 80, 20)))
    first, last = drawn["bars"]
    assert (first["start"], first["end"], first["ok"], first["failed"]) == ("12:00", "12:01", 30, 10)
    assert (first["ok_y"], first["ok_height"]) == ("70.000%", "30.000%")  # from the bottom
    assert (first["failed_y"], first["failed_height"]) == ("60.000%", "10.000%")  # on top of it
    assert (last["start"], last["ok_y"], last["failed_y"]) == ("12:59", "20.000%", "0.000%")
    assert (drawn["size"], drawn["days"], drawn["top"], drawn["middle"]) == ("minute", "2026-03-01", 100, 50)
    assert drawn["times"] == ["12:00", "12:30", "13:00"]
    described = "140 checks from 12:00 to 13:00: 110 ok, 30 failed. Most per minute: 100, from 12:59."
    assert drawn["description"] == described
    assert chart([]) is None


def test_the_description_of_a_single_check_is_in_the_singular():
    assert chart(minutes((0, 1, 0)))["description"].startswith("1 check from 12:00 to 12:01: 1 ok, 0 failed.")


@pytest.mark.parametrize(
    ("last", "size", "ends"),
    [
        (0, "minute", ["12:00 to 12:01"] * 2),
        (10, "minute", ["12:00 to 12:11"] * 2),
        (59, "minute", ["12:00", "13:00"]),
        (60, "2 minutes", ["12:00", "13:02"]),
        (299, "5 minutes", ["12:00", "17:00"]),
        (59 * 60, "hour", ["03-01 12:00", "03-04 00:00"]),
        (24 * 60, "30 minutes", ["03-01 12:00", "03-02 12:30"]),
        (59 * 24 * 60, "day", ["2026-03-01", "2026-04-30"]),
        (180 * 24 * 60, "week", ["2026-03-01", "2026-08-30"]),
        (700 * 24 * 60, "2 weeks", ["2026-03-01", "2028-02-13"]),
    ],
)
def test_a_bar_covers_as_few_minutes_as_possible(last, size, ends):
    drawn = chart(minutes((0, 1, 0), (last, 0, 1)) if last else minutes((0, 1, 1)))
    assert (drawn["size"], [drawn["times"][0], drawn["times"][-1]]) == (size, ends)


def test_bars_start_at_whole_hours_of_local_time():
    with timezone.override("Asia/Kathmandu"):  # 5:45 ahead
        drawn = chart(minutes((50, 1, 0), (50 + 50 * 60, 1, 0)))
    assert drawn["size"] == "hour"
    assert drawn["times"][0] == "03-01 18:00"


def test_days_keep_their_names_after_the_clock_was_set_back():
    with timezone.override("America/Santiago"):  # on 5 April
        drawn = chart(minutes((0, 1, 0), (59 * 24 * 60, 0, 1)))
    assert (drawn["times"][0], drawn["times"][-1]) == ("2026-03-01", "2026-04-30")


counts = st.integers(0, 10**7)
some_minutes = st.dictionaries(
    st.integers(0, 3_000_000), st.tuples(counts, counts).filter(any), min_size=1, max_size=80
).map(lambda by_minute: minutes(*((after, *by_minute[after]) for after in sorted(by_minute))))


@given(some_minutes)
def test_all_checks_are_drawn_within_the_drawing(counted_minutes):
    drawn = chart(counted_minutes)
    assert sum(bar["ok"] for bar in drawn["bars"]) == sum(ok for _, ok, _ in counted_minutes)
    assert sum(bar["failed"] for bar in drawn["bars"]) == sum(failed for *_, failed in counted_minutes)
    assert len(drawn["bars"]) <= MAX_BARS
    right = -1.0
    for bar in drawn["bars"]:
        assert number(bar["x"]) > right  # side by side, from first to last
        right = number(bar["x"]) + number(drawn["width"])
        assert 0 <= number(bar["failed_y"]) <= number(bar["ok_y"]) <= 100
        assert number(bar["ok_y"]) + number(bar["ok_height"]) == pytest.approx(100, abs=0.01)
        assert number(bar["failed_y"]) + number(bar["failed_height"]) == pytest.approx(number(bar["ok_y"]), abs=0.01)
    assert right <= number(drawn["end"]) <= 100  # the axis ends with the data
    assert number(drawn["width"]) <= 100 / MIN_BARS


@given(st.integers(1, 10**12))
def test_the_top_of_the_axis_is_the_next_round_number(count):
    top = round_up(count)
    assert count <= top <= max(2 * count, 2)
    assert top % 2 == 0
    assert str(top).rstrip("0") in {"1", "2", "4", "6", "8"}


def test_the_parts_of_a_whole_are_side_by_side():
    parts = shares({"ok": 6, "failed": 1, "pending": 1})
    assert [(part["x"], part["width"], part["percent"]) for part in parts] == [
        ("0.000%", "75.000%", "75.0 %"),
        ("75.000%", "12.500%", "12.5 %"),
        ("87.500%", "12.500%", "12.5 %"),
    ]
    assert [part["percent"] for part in shares({"ok": 0, "failed": 0})] == ["0 %", "0 %"]


def run(days_ago=0, ok=0, failed=0, skipped=0, pending=0, **values):
    counts = {"successful_checks": ok, "failed_checks": failed, "skipped_profiles": skipped}
    total, moment = sum(counts.values()) + pending, NOON - timedelta(days=days_ago)
    return Batch(
        name="News",
        status="done",
        total_profiles=total,
        completed_profiles=total - pending,
        created_at=moment,
        **counts,
        **values,
    )


def test_a_row_of_runs_has_a_bar_for_each_run_in_each_row_with_a_separate_scale():
    latest = [run(0, 3, 1, 2, 2, stories_found=7, run_seconds=90), run(1, 4, stories_found=1, run_seconds=30)]
    drawn = runs_chart(latest)
    assert [(row["name"], row["most"]) for row in drawn["rows"]] == [
        ("Profiles", "8"),
        ("Failed", "1"),
        ("New stories", "7"),
        ("Run time", "1 min 30 s"),
    ]
    profiles, failed, stories, times = ([bar["parts"] for bar in row["bars"]] for row in drawn["rows"])
    assert [[(part["mark"], part["y"], part["height"]) for part in bar] for bar in profiles] == [
        [("ok", "50.000%", "50.000%")],  # the older one is on the left
        [
            ("ok", "62.500%", "37.500%"),
            ("failed", "50.000%", "12.500%"),
            ("skipped", "25.000%", "25.000%"),
            ("pending", "0.000%", "25.000%"),
        ],
    ]
    assert [[part["height"] for part in bar] for bar in failed] == [[], ["100.000%"]]
    assert [[part["height"] for part in bar] for bar in stories] == [["14.286%"], ["100.000%"]]
    assert [[part["height"] for part in bar] for bar in times] == [["33.333%"], ["100.000%"]]
    assert drawn["rows"][0]["bars"][1]["title"] == (
        "“News”, 2026-03-01 12:00, done: 3 ok, 1 failed, 2 skipped, 2 pending, 7 new stories, run time 1 min 30 s"
    )
    assert drawn["latest"] == latest


def test_a_row_of_runs_stays_within_its_drawing():
    assert runs_chart([]) is None
    assert runs_chart([run()])["rows"][0]["bars"][0]["parts"] == []  # nothing to check is nothing to draw
    drawn = runs_chart([run(number, ok=10**6, failed=1, skipped=1) for number in range(MAX_RUNS + 5)])
    assert len(drawn["latest"]) == MAX_RUNS
    for row in drawn["rows"]:
        assert number(row["bars"][-1]["x"]) + number(drawn["slot"]) == pytest.approx(100, abs=0.01)
        for bar in row["bars"]:
            assert all(0 <= number(part["y"]) <= 100 - number(part["height"]) + 0.01 for part in bar["parts"])
