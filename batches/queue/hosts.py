"""The limits that hosts ask for, such as a pause: a run stores them, and later runs read them."""

from collections.abc import Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Greatest, Now

from batches.checking.checkers.politeness import HostNote
from batches.limits import MAX_HOST
from batches.models import Host

#: Maximum hosts that a run reads, those with the longest pauses first.
MAX_RECALLED = 10_000
#: Workers read them every two seconds.
NEWS_SECONDS = 10.0
#: SQLite limits the parameters of a statement.
CHUNK = 100


def remember_hosts(notes: Sequence[HostNote]) -> None:
    """Store the limits, and forget hosts that no longer ask for any. Safe to repeat.

    Redirects lead several workers to the same hosts, so rows are written in the order of their names, and a row that
    another worker is writing is not deleted: they do not deadlock.
    """
    wishes = {note.name: note for note in notes if note.pause_seconds or note.interval or note.refusals}
    well = [note.name for note in notes if note.name not in wishes]
    rows = [
        # By the database's clock, since the next run may be on another machine.
        Host(
            name=name,
            not_before=Now() + timedelta(seconds=note.pause_seconds),
            interval=note.interval,
            refusals=note.refusals,
            last_status=note.last_status,
            noted_at=Now(),
        )
        for name, note in sorted(wishes.items())
        if len(name) <= MAX_HOST
    ]
    for start in range(0, len(well), CHUNK):
        with transaction.atomic():
            idle = Host.objects.filter(name__in=well[start : start + CHUNK]).select_for_update(skip_locked=True)
            Host.objects.filter(pk__in=[host.pk for host in idle]).delete()
    Host.objects.bulk_create(
        rows,
        CHUNK,
        update_conflicts=True,
        unique_fields=["name"],
        update_fields=["not_before", "interval", "refusals", "last_status", "noted_at"],
    )


def recall_hosts() -> list[HostNote]:
    """The limits that hosts asked for in earlier runs."""
    return _read_notes(Host.objects.all())


def hear_of_hosts() -> list[HostNote]:
    """The latest limits that any worker has stored. A caller that reads them every few seconds misses none."""
    return _read_notes(Host.objects.filter(noted_at__range=(Now() - timedelta(seconds=NEWS_SECONDS), Now())))


def _read_notes(rows: QuerySet[Host]) -> list[HostNote]:
    now = Greatest(Now(), F("noted_at"))  # a clock that was set back must not prolong a pause
    left = ExpressionWrapper(F("not_before") - now, DurationField())
    hosts = rows.order_by("-not_before", "name").values_list("name", left, "refusals", "interval", "last_status")
    return [HostNote(name, max(0.0, left.total_seconds()), *rest) for name, left, *rest in hosts[:MAX_RECALLED]]
