"""Undoes the latest change of a batch, for an operator who pressed the wrong button.

The log has the change. The batch goes back to its former place among the queued batches: workers may have started
batches from the head of the queue since. If others have changed the order up to there, the undo is refused.
"""

from typing import Literal
from uuid import UUID

from django.db.models import Q, QuerySet

from batches.models import STATUS_WORDS, Action, Batch, BatchLog, Queue
from batches.text import Sentence

from .leases import lock_queued, lock_running
from .refusals import Code, OrderChanged, Refused
from .transitions import RULES
from .values import require_startable
from .writer import QueueWriter, transition

Status = Batch.Status

#: Other actions lose results, or do not change the place of a batch.
UNDOABLE = frozenset({Action.QUEUE_BATCH, Action.START_BATCH, Action.PAUSE_BATCH, Action.MOVE_BATCH})


def find_latest_change(batch: Batch) -> BatchLog | None:
    return BatchLog.objects.changes().filter(batch=batch).first()


def can_be_undone(change: BatchLog | None) -> bool:
    """Whether it can be undone. Queueing a done batch cannot: it has removed the results."""
    return change is not None and change.action in UNDOABLE and change.from_status != Status.DONE


class UndoCalls(QueueWriter):
    @transition(Action.UNDO_CHANGE)
    def undo_change(self, batch: Batch, entry: int | None = None) -> Literal[True]:
        """Undo its latest change, if it was queued, started, paused or moved.

        It is refused if `entry`, the log entry that the caller saw, is no longer the latest change.
        """
        change = require_undoable(batch, entry)
        message = f"it had been {RULES[Action(change.action)].participle}"
        if change.from_status == Status.RUNNING:
            self._run_again(batch, message)
        elif change.from_status != Status.QUEUED:
            error = find_error(batch) if change.from_status == Status.ERROR else ""
            self._enter(batch, Action.UNDO_CHANGE, change.from_status, message, error=error)
        elif change.to_status == Status.QUEUED:
            self._move(batch, find_place(change), Action.UNDO_CHANGE, message)
        else:
            self._wait(batch, Action.UNDO_CHANGE, find_place(change), message)
        if change.to_status == Status.RUNNING:
            self._continue_interrupted(change, message)
        return True

    def _run_again(self, batch: Batch, message: str) -> None:
        """Run the batch again in place of a batch that a worker has started since, but not of one that a person has
        started.
        """
        running = lock_running()
        began = find_latest_change(running) if running else None
        require_startable(running, preempt=began is not None and began.action == Action.PROMOTE_NEXT_BATCH)
        if running is not None:
            self._interrupt(running, f"interrupted by “{batch}”")
        self._start(batch, Action.UNDO_CHANGE, message)

    def _continue_interrupted(self, start: BatchLog, message: str) -> None:
        """Restart the batch that this start had interrupted, if it still waits for that."""
        before = BatchLog.objects.changes().filter(pk__lt=start.pk).first()
        if before is None or before.action != Action.INTERRUPT_BATCH or Queue.objects.get().is_blocked:
            return
        batch = lock_queued(before.batch_id) if before.batch_id else None
        if batch is not None and find_latest_change(batch) == before:
            self._start(batch, Action.UNDO_CHANGE, message)


def require_undoable(batch: Batch, entry: object) -> BatchLog:
    """The latest change of the batch. Raises Refused if the caller saw another change, or if it cannot be undone."""
    change = find_latest_change(batch)
    if entry is not None and (change is None or change.pk != entry):
        message = Sentence(
            "“%(batch)s” has changed since, and is %(status)s now. Nothing was undone.",
            batch=batch,
            status=STATUS_WORDS[batch.status],
        )
        raise Refused(Code.STALE_VERSION, message)
    if change is None or not can_be_undone(change):
        message = Sentence(
            "The latest change of “%(batch)s” cannot be undone. Only queueing, starting, pausing and moving can.",
            batch=batch,
        )
        raise Refused(Code.NOTHING_TO_UNDO, message)
    return change


def find_place(change: BatchLog) -> int:
    """The position to which the batch goes back, which is lower by one for each head that has started since.

    Raises Refused if other batches have been added or removed ahead of it.
    """
    place = change.from_position or 1
    is_move = change.to_status == Status.QUEUED
    ahead = max(place, change.to_position or 1) if is_move else place - 1
    others = BatchLog.objects.changes().filter(pk__gt=change.pk).exclude(batch=change.batch_id).order_by("pk")
    touching = Q(from_position__range=(1, ahead)) | Q(to_position__range=(1, ahead))
    for begin, end in drop_undone(others.filter(touching)):
        if (begin, end) == (1, 0):
            place, ahead = place - 1, ahead - 1
        elif any(0 < (position or 0) <= ahead for position in (begin, end)):
            raise OrderChanged
        if not ahead:
            break
    return place


def drop_undone(changes: QuerySet[BatchLog]) -> list[tuple[int | None, int | None]]:
    """The positions before and after each change, without undone changes, which moved nothing in the end."""
    kept: dict[int, tuple[int | None, int | None]] = {}
    latest: dict[UUID | None, int] = {}
    rows = changes.values_list("pk", "batch", "action", "from_position", "to_position")
    for pk, batch, action, begin, end in rows:
        if action == Action.UNDO_CHANGE and batch in latest:
            del kept[latest.pop(batch)]
        else:
            latest[batch], kept[pk] = pk, (begin, end)
    return list(kept.values())


def find_error(batch: Batch) -> str:
    """The message of its latest error."""
    failed = BatchLog.objects.changes().filter(batch=batch, to_status=Status.ERROR).first()
    return failed.message if failed else "Stopped without an error message."
