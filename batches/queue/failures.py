"""Memory of failures: a profile that fails repeatedly rests. Scheduled runs leave it out, for longer each time.

Each check counts, for whatever reason it was made: a failed profile that fails again in a retry has two failures. A
pause that a host asks for is not a failure.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Case, F, TextField, Value, When

from batches.checking.checkers.base import CheckResult
from batches.conf import get_config
from batches.models import Profile

from .sql import format_time, time_parameter


class Assignments(NamedTuple):
    """The assignments of an UPDATE of profiles, in SQL that ends with a comma, with their parameters."""

    sql: str
    parameters: list[str]


def remember_outcome(result: CheckResult) -> Callable[[datetime], Assignments]:
    """The update of the profile's memory for this result: one of few functions, by which results can be grouped."""
    if result.ok:
        return remember_read if result.reads_stories else remember_answer
    return remember_pause if result.host_paused else remember_failure


def remember_answer(moment: datetime) -> Assignments:
    recovered = "CASE WHEN profile.failures > 0 THEN {} ELSE profile.{} END"
    sql = f"""failures = 0, failing_since = NULL, rests_until = NULL,
              recovered_from = {recovered.format("profile.failures", "recovered_from")},
              recovered_at = {recovered.format(time_parameter(), "recovered_at")}, """
    return Assignments(sql, [format_time(moment)])


def remember_read(moment: datetime) -> Assignments:
    first_read = f"first_read_at = COALESCE(profile.first_read_at, {time_parameter()}), "
    answer = remember_answer(moment)
    return Assignments(answer.sql + first_read, [*answer.parameters, format_time(moment)])


def remember_pause(moment: datetime) -> Assignments:
    return Assignments("", [])


def remember_failure(moment: datetime) -> Assignments:
    rest, ends = write_rest("profile.failures + 1", moment)
    since = f"failing_since = COALESCE(profile.failing_since, {time_parameter()})"
    return Assignments(
        f"failures = profile.failures + 1, {since}, rests_until = {rest}, ", [format_time(moment), *ends]
    )


def write_rest(failures: str, moment: datetime) -> tuple[str, list[str]]:
    """SQL for the end of the rest that begins at this moment after `failures`, with its parameters.

    The CASE has an arm for each length, so that no database has to add to a time.
    """
    config = get_config()
    if not config.rest_after:
        return "NULL", []
    ends = [format_time(moment + timedelta(seconds=seconds)) for seconds in list_rests()]
    arms = [
        f"WHEN {failures} = {number} THEN {time_parameter()}" for number, _ in enumerate(ends[1:], config.rest_after)
    ]
    sql = f"CASE WHEN {failures} < {config.rest_after} THEN NULL {' '.join(arms)} ELSE {time_parameter()} END"
    return sql, ends


def list_rests() -> list[float]:
    """The lengths of the rests in seconds, each twice the previous one, up to the longest."""
    config = get_config()
    rest, longest = config.first_rest, config.longest_rest
    rests = []
    while rest < longest:
        rests.append(rest)
        rest *= 2
    return [*rests, longest]


def undo_failures(profile_ids: Collection[int]) -> None:
    """Forget the last failure of a few hundred profiles, as if their checks had never been made.

    A profile without earlier failures counts as answering again; others keep their last error, and do not rest.
    """
    Profile.objects.filter(pk__in=profile_ids, failures__gt=0).update(
        failures=F("failures") - 1,
        failing_since=Case(When(failures=1, then=None), default=F("failing_since")),
        last_error=Case(When(failures=1, then=Value("")), default=F("last_error"), output_field=TextField()),
        rests_until=None,
    )
