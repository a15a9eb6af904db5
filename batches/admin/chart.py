"""The geometry of a batch's charts. Pure: takes counts, returns places in percent of the drawing.

Percentages let the drawing take any width, while the text beside it keeps its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from django.utils.timezone import localtime

#: (minute, ok, failed)
Minute = tuple[datetime, int, int]

#: The drawing has at most MAX_BARS bars and room for at least MIN_BARS: a single one would be as wide as the page.
MAX_BARS, MIN_BARS = 60, 12
HOUR, DAY = 60, 24 * 60
#: The minutes that a bar may cover; beyond that, whole weeks.
SIZES = (1, 2, 5, 10, 15, 30, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY)
WEEK = 7 * DAY
#: The share of its slot that a bar fills; the rest is the gap.
FILLED = 0.8


@dataclass(frozen=True, slots=True)
class Bar:
    """The checks of one interval. Places are measured from the left and from the top."""

    start: str
    end: str
    ok: int
    failed: int
    x: str
    ok_y: str
    ok_height: str
    failed_y: str
    failed_height: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Checks over time: the bars that are not empty, the labels of the axes, and a description in words."""

    bars: list[Bar]
    width: str
    size: str
    days: str
    top: int
    middle: int
    times: list[str]
    description: str


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, as a segment of one bar."""

    name: str
    count: int
    percent: str
    x: str
    width: str


def chart(minutes: Sequence[Minute]) -> Chart | None:
    """Draw the checks per minute, in order of time. None if there are none."""
    if not minutes:
        return None
    first, last = localtime(minutes[0][0]), localtime(minutes[-1][0])
    # Bars start at whole hours and days of local time; from there on they count minutes in UTC, which has no gaps.
    origin = first.replace(hour=0, minute=0).astimezone(UTC)
    counts = [((minute - origin) // timedelta(minutes=1), *checks) for minute, *checks in minutes]
    size = bar_minutes(counts[0][0], counts[-1][0])
    ok, failed = Counter[int](), Counter[int]()
    for minute, minute_ok, minute_failed in counts:
        ok[minute // size] += minute_ok
        failed[minute // size] += minute_failed
    start = min(ok)
    slots = max(max(ok) - start + 1, MIN_BARS)
    top = round_up(max((ok + failed).values()))
    edges = [origin + timedelta(minutes=(start + slot) * size) for slot in range(slots + 1)]
    times = _list_times(edges, size)
    bars = [
        Bar(
            start=times[slot - start],
            end=times[slot - start + 1],
            ok=ok[slot],
            failed=failed[slot],
            x=_percent((slot - start + (1 - FILLED) / 2) / slots),
            ok_y=_percent(1 - ok[slot] / top),
            ok_height=_percent(ok[slot] / top),
            failed_y=_percent(1 - (ok[slot] + failed[slot]) / top),
            failed_height=_percent(failed[slot] / top),
        )
        for slot in ok
    ]
    return Chart(
        bars,
        width=_percent(FILLED / slots),
        size=in_words(size),
        days=f"{first:%Y-%m-%d}" if first.date() == last.date() else f"{first:%Y-%m-%d} to {last:%Y-%m-%d}",
        top=top,
        middle=top // 2,
        times=[times[0], times[slots // 2], times[-1]],
        description=_describe(bars, in_words(size)),
    )


def bar_minutes(first: int, last: int) -> int:
    """The minutes that a bar covers, so that MAX_BARS are enough from the minute `first` to `last`."""
    weeks = WEEK * ceil((last + 1) / WEEK / MAX_BARS)
    return next((size for size in SIZES if last // size - first // size < MAX_BARS), weeks)


def round_up(count: int) -> int:
    """The next number that is easy to read and divisible by two: 2, 4, 6, 8, 10, 20, 40, …"""
    power = 1
    while count > 10 * power:
        power *= 10
    return next(step * power for step in (2, 4, 6, 8, 10) if count <= step * power)


def in_words(minutes: int) -> str:
    units = {"week": WEEK, "day": DAY, "hour": HOUR, "minute": 1}
    name, length = next((name, length) for name, length in units.items() if minutes % length == 0)
    return name if minutes == length else f"{minutes // length} {name}s"


def shares(parts: Iterable[tuple[str, int]]) -> list[Share]:
    """The parts of a whole side by side, as wide as their counts. If the whole is 0, all are empty."""
    parts = list(parts)
    whole = sum(count for _, count in parts) or 1
    before, drawn = 0, []
    for name, count in parts:
        drawn.append(Share(name, count, _share(count, whole), _percent(before / whole), _percent(count / whole)))
        before += count
    return drawn


def _describe(bars: Sequence[Bar], size: str) -> str:
    ok, failed = sum(bar.ok for bar in bars), sum(bar.failed for bar in bars)
    most = max(bars, key=lambda bar: bar.ok + bar.failed)
    return (
        f"{ok + failed:,} checks from {bars[0].start} to {bars[-1].end}: {ok:,} ok, {failed:,} failed. "
        f"Most per {size}: {most.ok + most.failed:,}, from {most.start}."
    )


def _list_times(moments: Sequence[datetime], size: int) -> list[str]:
    """The time of day within one day, otherwise with the date."""
    is_one_day = moments[-1] - moments[0] <= timedelta(days=1)
    layout = "%Y-%m-%d" if size >= DAY else "%H:%M" if is_one_day else "%m-%d %H:%M"
    return [f"{localtime(moment):{layout}}" for moment in moments]


def _share(count: int, whole: int) -> str:
    """100 % only if nothing is missing, 0 % only if nothing is there: 999 of 1,000 are 99.9 %."""
    if count in (0, whole):
        return f"{100 * count // whole} %"
    return f"{min(max(100 * count / whole, 0.1), 99.9):.1f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"
