"""When a list runs by itself: a cron expression with five fields, in a time zone.

cronsim reads the expressions as Debian's cron does. Around a change of the clocks, a job at a fixed hour runs once: in
the hour that is skipped right after it, in the hour that comes twice the first time. A job of every hour or minute
follows real time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from batches.text import clean_text

#: Times that a delay is compared with.
COMPARED = 20


class InvalidSchedule(ValueError):
    """`str(error)` is a sentence that says what to write instead."""


def iterate_times(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """The times after that moment, in UTC. Raises InvalidSchedule."""
    for moment in _parse(expression, after.astimezone(_find_zone(zone))):
        # In the hour that comes twice, cronsim would begin with a time that is over, and of an hour that is skipped all
        # times are the same.
        if (time := moment.astimezone(UTC)) > after:
            after = time
            yield time


def next_times(expression: str, zone: str, after: datetime, count: int = 3) -> list[datetime]:
    return list(islice(iterate_times(expression, zone, after), count))


def require_schedule(expression: str, zone: str, delay: timedelta, after: datetime) -> None:
    """Raises InvalidSchedule if it cannot be read, never comes, or if a run could be delayed beyond the next one."""
    times = next_times(expression, zone, after, COMPARED)
    if not times:
        raise InvalidSchedule(f"{_quote(expression)} never comes. Choose a day that exists.")
    shortest = min((later - earlier for earlier, later in pairwise(times)), default=None)
    if delay and shortest is not None and delay >= shortest:
        minutes = shortest.total_seconds() / 60
        raise InvalidSchedule(f"A delay has to be shorter than the time between two runs, {minutes:,.0f} minutes.")


def describe_schedule(expression: str) -> str:
    """In words: "At 06:00 on Monday". Raises InvalidSchedule."""
    return str(_parse(expression, datetime.now(UTC)).explain())


def _parse(expression: str, after: datetime) -> CronSim:
    fields = expression.split()
    if len(fields) != 5:
        advice = "Write minute, hour, day of the month, month and day of the week, such as “30 6 * * 1-5”."
        raise InvalidSchedule(f"{_quote(expression)} has {len(fields)} fields, not 5. {advice}")
    try:
        return CronSim(expression, after)
    except CronSimError as error:
        what = str(error).removeprefix("Bad ").replace("-", " ")
        raise InvalidSchedule(f"The {what} of {_quote(expression)} is not valid, or never comes.") from error


def _find_zone(name: str) -> ZoneInfo:
    if name not in known_zones():
        raise InvalidSchedule(f"{_quote(name)} is not a known time zone. Write one such as Europe/Berlin or UTC.")
    return ZoneInfo(name)


@cache
def known_zones() -> frozenset[str]:
    """Read from the disk once."""
    return frozenset(available_timezones())


def _quote(text: str) -> str:
    return f"“{clean_text(text, 40)}”"
