"""Queues a run of each due list, with the same number of statements for a thousand lists as for one.

The runs are stored like all new batches: hidden, in bounded transactions, and revealed together under the lock of the
queue. Their IDs are derived from the version of the list and its time, so if several workers see the same list, only
one creates its run. A list is due until its run is revealed: times that pass while an earlier run waits or runs, or
while no worker runs, cause one run. If a worker is killed, its rows are purged, and another worker begins again.
"""

import logging
import random
import uuid
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, F, Max, OuterRef, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from batches.limits import MAX_ERROR
from batches.lists.cron import InvalidSchedule, next_times
from batches.models import DETOUR, Action, Batch, BatchLog, BatchProfile, BatchQuerySet, ProfileList, Queue
from batches.text import clean_text, pluralise

from .contents import INSERT_CHUNK, PREPARATION, purge_deleted
from .partitions import partition_of
from .sql import (
    BATCH,
    MEMBER,
    PROFILE,
    ROW,
    as_json,
    execute,
    fetch_all,
    format_time,
    json_table,
    keeping,
    paced,
    time_parameter,
    uuid_parameter,
)
from .writer import QueueWriter

logger = logging.getLogger(__name__)

Status = BatchProfile.Status

LIST = ProfileList._meta.db_table
LOG = BatchLog._meta.db_table

#: Checks happen some time after their run was due, so a rest of one day would end just after the run of the next day
#: was created. A rest that ends this soon does not keep a profile out of a run.
ENDS_SOON = timedelta(hours=1)

#: A run that was created later than this shows that the clock was set back since: clocks of machines differ less.
SET_BACK = timedelta(hours=1)

#: Maximum runs that are stored and revealed together.
MAX_DUE = 1_000

RUN_ROW = {
    "number": "bigint",
    "batch": "uuid",
    "profile_id": "bigint",
    "partition": "integer",
    "status": "text",
    "reason": "text",
}


@dataclass(frozen=True, slots=True)
class DueRun:
    """A run to create: its ID, its list, the list's next due time, its current profiles, and the number of them that
    rest.
    """

    id: uuid.UUID
    list: ProfileList
    next_run_at: datetime
    total: int = 0
    skipped: int = 0


def choose_next_run(found: ProfileList, after: datetime) -> datetime:
    """The next time of its schedule, with a random delay. Raises InvalidSchedule."""
    [time] = next_times(found.schedule, found.time_zone, after, 1)
    return time + timedelta(seconds=random.randint(0, found.delay_minutes * 60))  # noqa: S311 — not a secret


class ScheduleCalls(QueueWriter):
    def queue_due_lists(
        self, moment: datetime | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> list[uuid.UUID]:
        """Queue a run of each list that is due at this moment (default: now). Returns the IDs of the runs.

        `should_stop` is called between the chunks. The next call creates the runs that were not revealed.
        """
        moment = moment or timezone.now()
        self._plan_earlier(moment)
        if not ProfileList.objects.due(moment).exists():  # the usual case, in a fifth of the time of `find_due`
            return []
        planned = self._plan_runs(find_due(moment), moment)
        made, revealed = insert_hidden_runs(planned), list[uuid.UUID]()
        try:
            if filled := fill_runs(made, moment, should_stop):
                revealed = self._reveal_runs(filled, moment)
            return revealed
        finally:
            if len(revealed) < len(planned):  # rows of this call, or of a worker that was killed
                in_preparation(made).update(deleted_at=Now())
                purge_deleted()

    def _plan_runs(self, due: Sequence[ProfileList], moment: datetime) -> list[DueRun]:
        planned = []
        for found in due:
            assert found.next_run_at is not None
            try:
                following = choose_next_run(found, moment)
            except InvalidSchedule as error:
                self._switch_off(found, str(error))
            else:
                # With the version: after the clock was set back, an edit can set the time of a run that exists.
                run_id = uuid.uuid5(found.pk, f"{found.next_run_at.isoformat()} {found.version}")
                planned.append(DueRun(run_id, found, following))
        return planned

    def _plan_earlier(self, moment: datetime) -> None:
        """Plan the next runs again that were planned when the clock was ahead: they could be a year away."""
        ahead = {"runs__created_at__gt": moment + SET_BACK, "next_run_at__gt": F("runs__created_at")}
        for found in ProfileList.objects.filter(**ahead):
            assert found.next_run_at is not None
            with suppress(InvalidSchedule):  # it is switched off when it is due
                following = choose_next_run(found, moment)
                if found.next_run_at - following > timedelta(minutes=found.delay_minutes):
                    self._change(found, "planned again, since the clock was set back", next_run_at=following)

    def _switch_off(self, found: ProfileList, reason: str) -> None:
        """Switch off a schedule that has become invalid, since its time zone was removed from the system."""
        if self._change(found, f"switched off: {reason}", schedule_active=False, next_run_at=None):
            logger.error("The schedule of the list “%s” was switched off: %s", found, reason)

    def _change(self, found: ProfileList, message: str, **values: Any) -> bool:
        """Returns whether nobody else has changed its next run."""
        with transaction.atomic():
            same = ProfileList.objects.filter(pk=found.pk, next_run_at=found.next_run_at)
            is_changed = same.update(version=F("version") + 1, **values) > 0
            if is_changed:
                self._log(None, Action.CHANGE_LIST, message, list_id=found.pk)
        return is_changed

    def _reveal_runs(self, runs: Sequence[DueRun], moment: datetime) -> list[uuid.UUID]:
        with Queue.objects.locked():
            # Somebody may have changed, run or deleted the lists while the rows were stored.
            lists = ProfileList.objects.filter(pk__in=[run.list.pk for run in runs])
            list(lists.select_for_update(no_key=True).order_by("pk"))
            still_due = {found.pk: found for found in find_due(moment, hidden_too=False)}
            runs = [run for run in runs if is_unchanged(run, still_due.get(run.list.pk))]
            if not runs:
                return []
            reveal(runs, {pk: found.latest for pk, found in still_due.items()})
            write_next_runs(runs)
            Queue.objects.bump_version()
            self._log_runs(runs)
        return [run.id for run in runs]

    def _log_runs(self, runs: Sequence[DueRun]) -> None:
        columns = {"batch": "uuid", "list": "uuid", "position": "integer", "message": "text"}
        positions = dict(Batch.objects.queued().values_list("pk", "position"))
        lines = [
            (
                key(run.id),
                key(run.list.pk),
                positions[run.id],
                f"{describe_size(run)}, due {run.list.next_run_at:%Y-%m-%d %H:%M:%S} UTC",
            )
            for run in runs
        ]
        execute(
            f"""INSERT INTO {LOG} (batch_id, list_id, action, actor, channel, from_status, to_status, to_position,
                                   message, created_at)
                SELECT batch, list, %s, %s, %s, '', %s, position, message, {time_parameter()}
                  FROM {json_table(columns)} AS line""",
            [
                Action.RUN_LIST.value,
                self.actor,
                self.channel.value,
                Batch.Status.QUEUED.value,
                format_time(timezone.now()),
                as_json(lines),
            ],
        )


def describe_size(run: DueRun) -> str:
    skipped = f", {run.skipped:,} skipped (resting)" if run.skipped else ""
    return pluralise(run.total, "profile") + skipped


def key(pk: uuid.UUID) -> str:
    """A UUID in the form of the database's column."""
    return str(uuid_parameter(pk))


def find_due(moment: datetime, *, hidden_too: bool = True) -> list[Any]:
    """The lists to run, longest due first, without lists with a run that waits, runs or is being stored.

    Each has its `latest` run, and the time of the database.
    """
    runs = Batch.everything.filter(list=OuterRef("pk"))
    latest = Batch.objects.filter(list=OuterRef("pk")).order_by("-created_at").values("pk")[:1]
    due = ProfileList.objects.due(moment).exclude(Exists(runs.filter(position__isnull=False)))
    if hidden_too:
        due = due.exclude(Exists(runs.filter(deleted_at__gt=Now())))
    return list(due.annotate(latest=Subquery(latest), now=Now()).order_by("next_run_at", "pk")[:MAX_DUE])


def is_unchanged(run: DueRun, now: ProfileList | None) -> bool:
    return now is not None and (now.version, now.next_run_at) == (run.list.version, run.list.next_run_at)


# Rows


def insert_hidden_runs(runs: Sequence[DueRun]) -> list[DueRun]:
    """Insert the runs of the remaining lists that no other worker is creating already."""
    if not runs:
        return []
    varying = {
        "id": "uuid",
        "list_id": "uuid",
        "name": "text",
        "priority": "integer",
        "checker": "text",
        "count_first": "boolean",
    }
    until = runs[0].list.now + PREPARATION  # type: ignore[attr-defined]
    template = Batch(status=Batch.Status.PAUSED, deleted_at=until)
    fixed = {
        str(field.column): field.get_db_prep_save(getattr(template, field.attname), connection)
        for field in Batch._meta.concrete_fields
        if field.column not in varying
    }
    lists = [(run.id, run.list) for run in runs]
    rows = [(key(pk), key(it.pk), it.name, it.priority, it.checker, it.count_first) for pk, it in lists]
    inserted = fetch_all(
        f"""INSERT INTO {BATCH} ({", ".join([*varying, *fixed])})
            SELECT {", ".join([*(f"run.{name}" for name in varying), *["%s"] * len(fixed)])}
              FROM {json_table(varying)} AS run JOIN {LIST} AS list ON list.id = run.list_id
             WHERE true {keeping("list")}
                ON CONFLICT (id) DO NOTHING
         RETURNING id""",
        [*fixed.values(), as_json(rows)],
    )
    ids = {uuid.UUID(str(pk)) for (pk,) in inserted}
    return [run for run in runs if run.id in ids]


def fill_runs(runs: Sequence[DueRun], moment: datetime, should_stop: Callable[[], bool]) -> list[DueRun]:
    """Store a row for each current profile of the lists, read in one statement. Empty if it was stopped.

    Profiles that rest at this moment get a row, too, as skipped, so that every run accounts for the whole list.
    """
    if not runs:
        return []
    numbers, profiles = read_members(runs)
    insert = f"""INSERT INTO {ROW} (batch_id, profile_id, partition, status, error, has_story)
                 SELECT row.batch, row.profile_id, row.partition, row.status, row.reason, false
                   FROM {json_table(RUN_ROW)} AS row ORDER BY row.number"""
    find = f"""SELECT wanted.number, profile.id, COALESCE(NULLIF(profile.feed_url, ''), profile.url),
                      profile.last_error, CASE WHEN profile.rests_until > {time_parameter()} THEN profile.failures END
                 FROM {json_table({"number": "bigint", "id": "bigint"})} AS wanted
                 JOIN {PROFILE} AS profile USING (id) ORDER BY wanted.number {keeping("profile")}"""
    keys, totals, skipped = [key(run.id) for run in runs], [0] * len(runs), [0] * len(runs)
    rest = format_time(moment + ENDS_SOON)
    for first in paced(range(0, len(profiles), INSERT_CHUNK)):
        if should_stop():
            return []
        chunk = range(first, min(first + INSERT_CHUNK, len(profiles)))
        with transaction.atomic():
            found = fetch_all(find, [rest, as_json([(index, profiles[index]) for index in chunk])])
            rows = [
                (index, keys[numbers[index]], pk, partition_of(address), *decide(error, failures))
                for index, pk, address, error, failures in found
            ]
            execute(insert, [as_json(rows)])
            if not keep_hidden(runs):
                return []
        for index, _, _, _, failures in found:
            totals[numbers[index]] += 1
            skipped[numbers[index]] += failures is not None
    counts = zip(runs, totals, skipped, strict=True)
    return [replace(run, total=total, skipped=resting) for run, total, resting in counts]


def decide(error: str, failures: int | None) -> tuple[str, str]:
    """The status of a row and its reason. `failures` is the number in a row of a profile that rests, otherwise None."""
    if failures is None:
        return Status.PENDING.value, ""
    why = clean_text(f"It rests after {pluralise(failures, 'failure')} in a row. The last one: {error}", MAX_ERROR)
    return Status.SKIPPED.value, why


def read_members(runs: Sequence[DueRun]) -> "tuple[array[int], array[int]]":
    """The number of the run, and the profile, for each member, in sixteen bytes each."""
    numbers, profiles = array("q"), array("q")
    statement = f"""SELECT wanted.number, member.profile_id
                      FROM {json_table({"number": "bigint", "list": "uuid"})} AS wanted
                      JOIN {LIST} AS list ON list.id = wanted.list
                      JOIN {MEMBER} AS member ON member.list_id = wanted.list
                                             AND list.edition BETWEEN member.first_edition AND member.last_edition
                     ORDER BY wanted.number, member.id"""
    with connection.cursor() as cursor:
        cursor.execute(statement, [as_json([(number, key(run.list.pk)) for number, run in enumerate(runs)])])
        while rows := cursor.fetchmany(INSERT_CHUNK):
            numbers.extend(number for number, _ in rows)
            profiles.extend(profile for _, profile in rows)
    return numbers, profiles


def in_preparation(runs: Sequence[DueRun]) -> BatchQuerySet:
    return Batch.everything.in_preparation().filter(pk__in=[run.id for run in runs])


def keep_hidden(runs: Sequence[DueRun]) -> bool:
    """A fence like `stay_hidden`: False if some rows may have been purged already."""
    return in_preparation(runs).update(deleted_at=Now() + PREPARATION) == len(runs)


# Revealing, under the lock of the queue


def reveal(runs: Sequence[DueRun], latest: dict[uuid.UUID, uuid.UUID | None]) -> None:
    """Put each after the last queued batch of at least its priority, all in one renumbering."""
    ends = dict(Batch.objects.queued().order_by().values_list("priority").annotate(Max("position")))
    new = [
        (
            number,
            key(run.id),
            max((position for priority, position in ends.items() if priority >= run.list.priority), default=0),
            run.list.priority,
            run.total,
            run.skipped,
            None if (previous := latest[run.list.pk]) is None else key(previous),
        )
        for number, run in enumerate(runs)
    ]
    columns = {
        "number": "integer",
        "id": "uuid",
        "behind": "integer",
        "priority": "integer",
        "total": "integer",
        "skipped": "integer",
        "previous": "uuid",
    }
    run = f"{json_table(columns)} AS run"
    rows = as_json(new)
    execute(
        f"""UPDATE {BATCH} AS batch SET total_profiles = run.total, completed_profiles = run.skipped,
                   skipped_profiles = run.skipped, previous_id = run.previous
              FROM {run} WHERE batch.id = run.id""",
        [rows],
    )
    execute(
        f"""UPDATE {BATCH} AS batch SET status = 'queued', deleted_at = NULL, position = placed.number + %s
              FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY behind, is_new, -priority, number) AS number
                      FROM (SELECT id, position AS behind, 0 AS is_new, 0 AS priority, 0 AS number
                              FROM {BATCH} WHERE position >= 1
                             UNION ALL
                            SELECT run.id, run.behind, 1, run.priority, run.number FROM {run}) AS everybody) AS placed
             WHERE batch.id = placed.id""",
        [DETOUR, rows],
    )
    Batch.objects.end_detour()


def write_next_runs(runs: Sequence[DueRun]) -> None:
    rows = [(key(run.list.pk), format_time(run.next_run_at)) for run in runs]
    execute(
        f"""UPDATE {LIST} AS list SET next_run_at = due.moment
              FROM {json_table({"id": "uuid", "moment": "timestamptz"})} AS due WHERE list.id = due.id""",
        [as_json(rows)],
    )
