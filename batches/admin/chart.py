"""The geometry of the charts of a batch and of a row of runs. Pure functions: they take counts and return places in
percent.

Percentages let the drawing take any width, while the text beside it keeps its size.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import ceil
from typing import Any

from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from batches.models import Batch, BatchProfile
from batches.text import format_duration

from .display import number, percent, status_word

#: (minute, ok, failed)
Minute = tuple[datetime, int, int]

#: The drawing has at most MAX_BARS bars and room for at least MIN_BARS, since a single bar would be as wide as the
#: page.
MAX_BARS, MIN_BARS = 60, 12
HOUR, DAY = 60, 24 * 60
#: The minutes that a bar may cover; beyond that, whole weeks.
SIZES = (1, 2, 5, 10, 15, 30, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY)
WEEK = 7 * DAY
#: The minutes of each unit, and its name with a number. A single unit has no number: "per hour".
UNITS = (
    (WEEK, ngettext_lazy("week", "%(count)s weeks", "count")),
    (DAY, ngettext_lazy("day", "%(count)s days", "count")),
    (HOUR, ngettext_lazy("hour", "%(count)s hours", "count")),
    (1, ngettext_lazy("minute", "%(count)s minutes", "count")),
)
#: The share of its slot that a bar fills; the rest is the gap.
FILLED = 0.8
#: The number of profiles by outcome, in words.
COUNTED = {
    BatchProfile.Status.OK: gettext_lazy("%(count)s ok"),
    BatchProfile.Status.FAILED: gettext_lazy("%(count)s failed"),
    BatchProfile.Status.SKIPPED: gettext_lazy("%(count)s skipped"),
    BatchProfile.Status.PENDING: gettext_lazy("%(count)s pending"),
}
#: The runs that a row of bars shows, at most.
MAX_RUNS = 30
#: The height of the smallest bar that is not empty: 1 failure among 1,000,000 profiles is visible.
LEAST = 0.04


def chart(minutes: Sequence[Minute]) -> dict[str, Any] | None:
    """The drawing of the checks per minute, which are in order of time. None without checks.

    It has only bars that are not empty; their places are measured from the left and from the top.
    """
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
    slots = max(ok) - start + 1
    room = max(slots, MIN_BARS)
    top = round_up(max((ok + failed).values()))
    edges = [origin + timedelta(minutes=(start + slot) * size) for slot in range(slots + 1)]
    times = _list_times(edges, size)
    bars = [
        {
            "start": times[slot - start],
            "end": times[slot - start + 1],
            "ok": ok[slot],
            "failed": failed[slot],
            "x": _percent((slot - start + (1 - FILLED) / 2) / room),
            "ok_y": _percent(1 - ok[slot] / top),
            "ok_height": _percent(ok[slot] / top),
            "failed_y": _percent(1 - (ok[slot] + failed[slot]) / top),
            "failed_height": _percent(failed[slot] / top),
        }
        for slot in ok
    ]
    return {
        "bars": bars,
        "width": _percent(FILLED / room),
        "end": _percent(slots / room),
        "size": in_words(size),
        "days": f"{first:%Y-%m-%d}" if first.date() == last.date() else _span(f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"),
        "top": top,
        "middle": top // 2,
        # Below a few bars there is room for one text.
        "times": [times[0], times[slots // 2], times[-1]] if slots == room else [_span(times[0], times[-1])],
        "description": _describe(ok, failed, times, in_words(size)),
    }


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
    """The time that a bar covers, in words: "week", "2 weeks"."""
    length, text = next(unit for unit in UNITS if minutes % unit[0] == 0)
    return str(text % {"count": minutes // length})


def shares(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The parts of a whole side by side, as wide as their counts. If the whole is 0, all are empty."""
    whole = sum(counts.values()) or 1
    ends = accumulate(counts.values())
    return [
        {
            "name": name,
            "count": count,
            "percent": percent(100 * count / whole),
            "x": _percent((end - count) / whole),
            "width": _percent(count / whole),
        }
        for (name, count), end in zip(counts.items(), ends, strict=True)
    ]


def runs_chart(latest: Iterable[Batch]) -> dict[str, Any] | None:
    """Rows of bars for the latest runs, given newest first: one bar in each row for each run, drawn oldest first.

    Each row has its own scale, since 40 failures of 5,000 would be invisible beside the others. None without runs.
    """
    runs = list(latest)[:MAX_RUNS][::-1]
    if not runs:
        return None
    slots = max(len(runs), MIN_BARS)
    places = [(run, _percent(slot / slots), _describe_run(run)) for slot, run in enumerate(runs)]
    rows: list[tuple[str, Callable[[Batch], Mapping[str, float]], Callable[[float], str]]] = [
        (_("Profiles"), lambda run: run.outcomes, number),
        (_("Failed"), lambda run: {"failed": run.failed_checks}, number),
        (_("New stories"), lambda run: {"stories": run.stories_found}, number),
        (_("Run time"), lambda run: {"time": run.run_seconds}, format_duration),
    ]
    drawn = []
    for name, count, write in rows:
        most = max(sum(count(run).values()) for run in runs)
        bars = [{"run": run, "x": x, "title": title, "parts": _pile(count(run), most)} for run, x, title in places]
        drawn.append({"name": name, "most": write(most), "bars": bars})
    return {"latest": runs[::-1], "rows": drawn, "slot": _percent(1 / slots), "first": runs[0], "last": runs[-1]}


def _pile(counts: Mapping[str, float], most: float) -> list[dict[str, str]]:
    """The parts of a bar from the bottom up."""
    top, parts = 1.0, []
    for mark, count in counts.items():
        if count:
            height = min(max(count / most, LEAST), top)
            top -= height
            parts.append({"mark": mark, "y": _percent(top), "height": _percent(height)})
    return parts


def _describe_run(run: Batch) -> str:
    counts = run.outcomes
    outcomes = ", ".join(text % {"count": number(counts[name])} for name, text in COUNTED.items() if counts[name])
    sentence = ngettext(
        "“%(run)s”, %(time)s, %(status)s: %(outcomes)s, %(count)s new story, run time %(duration)s",
        "“%(run)s”, %(time)s, %(status)s: %(outcomes)s, %(count)s new stories, run time %(duration)s",
        run.stories_found,
    )
    return sentence % {
        "run": run,
        "time": f"{localtime(run.created_at):%Y-%m-%d %H:%M}",
        "status": status_word(run.status),
        "outcomes": outcomes or _("no profiles"),
        "count": number(run.stories_found),
        "duration": format_duration(run.run_seconds),
    }


def _describe(ok: Counter[int], failed: Counter[int], times: Sequence[str], size: str) -> str:
    start, end, checks = min(ok), max(ok), ok + failed
    [(slot, most)] = checks.most_common(1)
    sentences = ngettext(
        "%(checks)s check from %(first)s to %(last)s: %(ok)s ok, %(failed)s failed. "
        "Most per %(size)s: %(most)s, from %(time)s.",
        "%(checks)s checks from %(first)s to %(last)s: %(ok)s ok, %(failed)s failed. "
        "Most per %(size)s: %(most)s, from %(time)s.",
        checks.total(),
    )
    return sentences % {
        "checks": number(checks.total()),
        "first": times[0],
        "last": times[end - start + 1],
        "ok": number(ok.total()),
        "failed": number(failed.total()),
        "size": size,
        "most": number(most),
        "time": times[slot - start],
    }


def _span(first: str, last: str) -> str:
    return _("%(first)s to %(last)s") % {"first": first, "last": last}


def _list_times(moments: Sequence[datetime], size: int) -> list[str]:
    """The time of day within one day, otherwise with the date. A day begins at 23:00 when the clock was set back."""
    if size >= DAY:
        return [f"{localtime(moment + timedelta(hours=2)):%Y-%m-%d}" for moment in moments]
    is_one_day = moments[-1] - moments[0] <= timedelta(days=1)
    layout = "%H:%M" if is_one_day else "%m-%d %H:%M"
    return [f"{localtime(moment):{layout}}" for moment in moments]


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"
