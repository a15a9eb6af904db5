"""Resets batches to check them again: their results are removed in bounded transactions, and kept as earlier attempts.

The decision is one transition, which sets status, position and counters at once, however many rows there are. The rows
follow, as after a deletion. Until then, `Batch.reset_after` is the last row that was reset:

- Readers see the new status and counters at once; rows behind `reset_after` still show their previous results.
- No results are recorded: while it is set, no worker can claim a run.
- The counters say which results are removed. A retry keeps the successful checks and the skipped profiles, checking
  again sets both counters to zero.
- Each step reads and moves `reset_after` under the lock of the batch, so several processes can continue it: the call
  itself, and after a kill each worker that looks for work. Other transitions do not change it, and checking again
  restarts it.

Two kinds of reset remove only a part, of unknown size, so each transaction adjusts the counters:

- A retry by reason (`reset_reasons`) removes the failures for these reasons.
- After an outage of our own (`outages.py`), failures without an answer since `reset_since` are removed. The profiles
  forget them too, and they are not kept as attempts: the sites were never asked.
"""

import uuid
from collections.abc import Collection
from datetime import datetime

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import F, QuerySet

from batches.models import Attempt, Batch, BatchProfile

from .contents import UNCHECKED
from .failures import undo_failures
from .sql import execute, reading_in_order, taking_turns

Status = BatchProfile.Status

#: Rows per transaction: it takes 20 to 50 ms with the copies of the results, while the queue is locked.
RESET_CHUNK = 500
#: Rows that one transaction searches: 40 of a million must not take as many transactions as all of them.
SEARCH_CHUNK = 10_000

ATTEMPT = Attempt._meta.db_table


def begin_reset(batch: Batch, since: datetime | None = None, reasons: Collection[str] | None = None) -> bool:
    """Reset the first rows: of all, or of those that failed without an answer since this time, or for these reasons.

    Returns whether there are more; `continue_reset` resets them after the commit.
    """
    batch.reset_since, batch.reset_reasons = since, reasons
    return _reset_chunk(batch, 0)


def finish_resets() -> None:
    """Finish all resets: make the remaining rows of batches that are checked again pending."""
    for pk in list(Batch.objects.to_reset().values_list("pk", flat=True)):
        continue_reset(pk)


def continue_reset(batch_id: uuid.UUID) -> None:
    has_more = True
    while has_more:
        with taking_turns(cut_log=True):
            has_more = _continue(batch_id)


def _continue(batch_id: uuid.UUID) -> bool:
    with transaction.atomic():
        batch = Batch.objects.to_reset().select_for_update(no_key=True).filter(pk=batch_id).first()
        return batch is not None and _reset_chunk(batch, batch.reset_after or 0)


def _reset_chunk(batch: Batch, after: int) -> bool:
    rows = BatchProfile.objects.of_batch(batch).filter(pk__gt=after)
    with reading_in_order():
        beyond = next(iter(rows.order_by("pk").values_list("pk", flat=True)[SEARCH_CHUNK : SEARCH_CHUNK + 1]), None)
    stale = _find_stale(batch, rows if beyond is None else rows.filter(pk__lt=beyond))
    ids = list(stale.order_by("pk").values_list("pk", flat=True)[: RESET_CHUNK + 1])
    done = ids[RESET_CHUNK - 1] if len(ids) > RESET_CHUNK else None if beyond is None else beyond - 1
    if ids:
        _reset_stale(batch, stale if done is None else stale.filter(pk__lte=done))
    if done is not None:
        state = {"reset_after": done, "reset_since": batch.reset_since}
        Batch.objects.filter(pk=batch.pk).update(**state, reset_reasons=batch.reset_reasons)
    elif batch.reset_after is not None:
        Batch.objects.filter(pk=batch.pk).update(reset_after=None, reset_since=None, reset_reasons=None)
    return done is not None


def _find_stale(batch: Batch, rows: QuerySet[BatchProfile]) -> QuerySet[BatchProfile]:
    failed = rows.filter(status=Status.FAILED)
    if batch.reset_since is not None:
        return failed.filter(http_status=None, checked_at__gte=batch.reset_since)
    if batch.reset_reasons is not None:
        return failed.filter(error__in=batch.reset_reasons)
    counted = {Status.OK: batch.successful_checks, Status.SKIPPED: batch.skipped_profiles}
    return rows.filter(status__in=[Status.FAILED, *(status for status, count in counted.items() if not count)])


def _reset_stale(batch: Batch, rows: QuerySet[BatchProfile]) -> None:
    if batch.reset_since is not None:
        undo_failures(list(rows.values_list("profile_id", flat=True)))
        _uncount(batch, rows.update(**UNCHECKED))
    elif batch.reset_reasons is not None:
        reset_failed(batch, rows)
    else:
        _reset(rows)


def reset_failed(batch: Batch, failed: QuerySet[BatchProfile]) -> None:
    """Make these failed rows of a batch that is not running pending, and subtract them from its counters."""
    _uncount(batch, _reset(failed))


def _uncount(batch: Batch, failures: int) -> None:
    less = {name: F(name) - failures for name in ("completed_profiles", "failed_checks")}
    Batch.objects.filter(pk=batch.pk).update(**less)


def _reset(rows: QuerySet[BatchProfile]) -> int:
    """Call it under the lock of the batch, while nobody records. Returns the number of rows."""
    checked = rows.filter(status__in=[Status.OK, Status.FAILED], checked_at__isnull=False).order_by("pk")
    columns = ("batch_id", "profile_id", *Attempt.RESULT)
    select, parameters = checked.values_list(*columns).query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
    execute(f"INSERT INTO {ATTEMPT} ({', '.join(columns)}) {select}", parameters)
    return rows.update(**UNCHECKED)
