"""Checking a batch again: its previous results are removed in bounded transactions.

The decision is one transition: it sets status, position and counters at once, however many rows there are, and the rows
follow, as those of a deleted batch do. Until then `Batch.reset_after` is the last row that was reset:

- Readers see the new status and counters at once; rows behind `reset_after` still show their previous results.
- Nobody records: while it is set, no worker can claim a run, and a constraint rules out a run token.
- The counters say what has to go. A retry keeps the successful checks and the profiles that were skipped, checking
  again sets both to zero.
- Whoever continues reads and moves `reset_after` under the lock of the batch, so several can at any time: the call
  itself, and after a kill each worker that looks for work. Other transitions leave it alone, and checking again
  restarts it.

After an outage of our own (`outages.py`) only what failed without an answer since `reset_since` is removed, with what
the profiles remember of it. How much that is turns out on the way, so the counters follow with each transaction.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from batches.models import Batch, BatchProfile

from .contents import UNCHECKED
from .failures import undo_failures
from .sql import taking_turns

Status = BatchProfile.Status

#: Rows per transaction, since a caller waits for it with the queue locked: 10 to 30 ms on either database.
RESET_CHUNK = 1_000


def begin_reset(batch: Batch, since: datetime | None = None) -> bool:
    """Reset the first rows, all or only those that failed without an answer since this time.

    Returns whether there are more; `continue_reset` does them after the commit.
    """
    return _reset_chunk(batch, 0, since)


def finish_resets() -> None:
    """Make the rows of the batches that are checked again pending, where that is still to be done."""
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
        return batch is not None and _reset_chunk(batch, batch.reset_after or 0, batch.reset_since)


def _reset_chunk(batch: Batch, after: int, since: datetime | None) -> bool:
    rows = batch.profiles.filter(pk__gt=after)
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[: RESET_CHUNK + 1])
    has_more = len(ids) > RESET_CHUNK
    if ids:
        _reset_rows(batch, rows.filter(pk__lte=ids[:RESET_CHUNK][-1]), since)
    state = (ids[RESET_CHUNK - 1], since) if has_more else (None, None)
    if state != (batch.reset_after, batch.reset_since):
        Batch.objects.filter(pk=batch.pk).update(reset_after=state[0], reset_since=state[1])
    return has_more


def _reset_rows(batch: Batch, rows: QuerySet[BatchProfile], since: datetime | None) -> None:
    if since is not None:
        lost = rows.filter(status=Status.FAILED, http_status=None, checked_at__gte=since)
        undo_failures(batch, list(lost.values_list("pk", flat=True)))
        return
    counted = {Status.OK: batch.successful_checks, Status.SKIPPED: batch.skipped_profiles}
    stale = [Status.FAILED, *(status for status, count in counted.items() if not count)]
    rows.filter(status__in=stale).update(**UNCHECKED)
