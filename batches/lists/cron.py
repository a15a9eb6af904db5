"""The schedules of lists: a cron expression with five fields, in a time zone.

cronsim reads the expressions as Debian's cron does. When the clocks change, a job at a fixed hour runs once:
right after a skipped hour, or at the first of two equal hours. A job of every hour or minute follows real time.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from django.utils.translation import gettext_noop as _

from batches.limits import MAX_WANTED
from batches.text import Sentence, choose_plural, clean_text, is_whole, recognise

#: The number of run times with which a delay is compared.
COMPARED = 20


#: cronsim's words for the usual schedules. Those of other schedules are shown in English.
WORDS = (
    _("At the start of every hour"),
    _("Every minute"),
    _("Every %(nth)s minute of every hour"),
    _("At minute %(minute)s of every hour"),
    _("At minute %(minute)s past every %(nth)s hour"),
    _("At minute %(minute)s past every hour from %(first)s through %(last)s"),
    _("At %(times)s every day in %(months)s"),
    _("At %(times)s every day"),
    _("At %(times)s on the %(nth)s day of every month"),
    _("At %(times)s on the %(nth)s day of %(months)s"),
    _("At %(times)s on %(days)s"),
    _("%(first)s through %(last)s"),
    _("%(several)s, and %(last)s"),
    _("%(first)s and %(last)s"),
    _("%(several)s, %(last)s"),
    *(_("%(day)sth"), _("%(day)sst"), _("%(day)snd"), _("%(day)srd")),
    *(_("first"), _("second"), _("third"), _("fourth"), _("fifth"), _("sixth"), _("seventh"), _("eighth"), _("ninth")),
    _("last"),
    # Django's own
    *("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)

#: cronsim writes “31th”.
_ORDINAL = re.compile(r"(?<!1)([123])th\b")
_ENDINGS = {"1": "1st", "2": "2nd", "3": "3rd"}

#: What cronsim calls the fields in its errors.
FIELDS = (_("minute"), _("hour"), _("day of month"), _("month"), _("day of week"))


class InvalidSchedule(ValueError):
    """`str(error)` is a sentence that says what to write instead, `field` the field of the list to change."""

    def __init__(self, message: str, field: str = "schedule") -> None:
        super().__init__(message)
        self.field = field


def iterate_times(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """The times after that moment, in UTC. Raises InvalidSchedule."""
    for moment in _parse(expression, after.astimezone(find_zone(zone))):
        # In the second of two equal hours, cronsim would begin with a time in the past, and all times of a skipped hour
        # are equal.
        if (time := moment.astimezone(UTC)) > after:
            after = time
            yield time


def next_times(expression: str, zone: str, after: datetime, count: int = 3) -> list[datetime]:
    """At most `count` times after that moment, in UTC. Raises InvalidSchedule if it never comes."""
    times = list(islice(iterate_times(expression, zone, after), count))
    if not times:
        raise InvalidSchedule(
            Sentence("%(expression)s never comes. Choose a day that exists.", expression=_quote(expression))
        )
    return times


def require_schedule(expression: str, zone: str, delay: timedelta, after: datetime) -> None:
    """Raises InvalidSchedule if it is not valid, never occurs, or if a run could be delayed beyond the next one."""
    times = next_times(expression, zone, after, COMPARED)
    shortest = min((later - earlier for earlier, later in pairwise(times)), default=None)
    if delay and shortest is not None and delay >= shortest:
        message = choose_plural(
            "A delay has to be shorter than the time between two runs, %(count)s minute.",
            "A delay has to be shorter than the time between two runs, %(count)s minutes.",
            count=round(shortest.total_seconds() / 60),
        )
        raise InvalidSchedule(message, "delay_minutes")


def describe_schedule(expression: str) -> str:
    """The schedule in words, such as "At 06:00 on Monday". Raises InvalidSchedule."""
    words = _parse(expression, datetime.now(UTC)).explain()
    words = _ORDINAL.sub(lambda ending: _ENDINGS[ending[1]], words)
    found = recognise(words, WORDS)
    return found if is_whole(found) else words


def _parse(expression: str, after: datetime) -> CronSim:
    fields = expression.split()
    if len(fields) != 5:
        message = Sentence(
            "%(expression)s needs 5 fields, not %(count)s: "
            "minute, hour, day of the month, month and day of the week, such as “30 6 * * 1-5”.",
            expression=_quote(expression),
            count=len(fields),
        )
        raise InvalidSchedule(message)
    try:
        return CronSim(expression, after)
    except CronSimError as error:
        what = str(error).removeprefix("Bad ").replace("-", " ")
        message = Sentence(
            "The %(what)s of %(expression)s is not valid, or never comes.",
            what=Sentence(what),
            expression=_quote(expression),
        )
        raise InvalidSchedule(message) from error


def find_zone(name: object) -> ZoneInfo:
    """Raises InvalidSchedule for anything but the name of a time zone."""
    if not isinstance(name, str) or name not in known_zones():
        message = Sentence(
            "%(zone)s is not a known time zone. Write one such as Europe/Berlin or UTC.", zone=_quote(name)
        )
        raise InvalidSchedule(message, "time_zone")
    return ZoneInfo(name)


@cache
def known_zones() -> frozenset[str]:
    """The time zones of the system, read from the disk once."""
    return frozenset(available_timezones())


def _quote(text: object) -> str:
    return f"“{clean_text(text, MAX_WANTED)}”"
