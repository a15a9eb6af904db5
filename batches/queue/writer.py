"""The path of every change: lock the queue, read the batch again, check that the action is allowed, write, log."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from django.db.models import QuerySet
from django.utils import timezone

from batches.limits import MAX_ACTOR
from batches.models import Action, Batch, BatchLog, Channel, Event, Lease, Queue
from batches.notifications import outbox, subscriptions
from batches.text import clean_text, pluralise

from .contents import require_preparation
from .leases import end_run, lease_of, lock_queued, lock_running
from .refusals import Fenced, Refusal, refusable
from .transitions import require_allowed
from .values import find_batch, require_expected

P = ParamSpec("P")
R = TypeVar("R")

Status = Batch.Status

#: The event for webhooks when a batch enters a status.
EVENTS: Mapping[str, Event] = {
    Status.PAUSED: Event.BATCH_PAUSED,
    Status.DONE: Event.BATCH_DONE,
    Status.ERROR: Event.BATCH_ERROR,
}
#: The statuses that end a run, which subscriptions report.
ENDS = frozenset({Status.DONE, Status.ERROR})


def transition(
    action: Action,
) -> Callable[[Callable[Concatenate[Any, Batch, P], R]], Callable[..., R | Refusal]]:
    """Call the method with its batch, read under the queue's lock, if the action is allowed in its status.

    Each such method also takes the state that its caller saw, and is refused if it has changed:
    `expected_status` of the batch, `expected_version` of the queue, or `expected_in`, a queryset with the batch.
    """

    def guard(change: Callable[Concatenate[Any, Batch, P], R]) -> Callable[..., R | Refusal]:
        @wraps(change)
        def call(
            self: Any,
            batch_id: object,
            *args: Any,
            expected_status: str | None = None,
            expected_version: int | None = None,
            expected_in: QuerySet[Batch] | None = None,
            **kwargs: Any,
        ) -> R:
            with Queue.objects.locked() as queue:
                batch = find_batch(batch_id, lock=True)
                require_allowed(action, batch)
                require_expected(batch, queue, expected_status, expected_version, expected_in)
                return change(self, batch, *args, **kwargs)

        return refusable(call)

    return guard


def run_call(change: Callable[Concatenate[Any, Batch, Lease, P], R]) -> Callable[..., R | Refusal]:
    """Call the method with the batch and the lease of this token, read under the queue's lock, if it is still valid."""

    @wraps(change)
    def call(self: Any, batch_id: object, run_token: uuid.UUID, *args: P.args, **kwargs: P.kwargs) -> R:
        with Queue.objects.locked():
            lease = lease_of(batch_id, run_token).first()
            if lease is None:
                raise Fenced
            batch = find_batch(lease.batch_id, lock=True)
            return change(self, batch, lease, *args, **kwargs)

    return refusable(call)


class QueueWriter:
    """Writes changes with their log entries, in the name of `actor` and `channel`.

    Call every method under the queue's lock, with a batch that was read under it.
    """

    def __init__(self, actor: str = "", channel: str = Channel.CODE) -> None:
        self.actor = clean_text(actor, MAX_ACTOR)
        self.channel = Channel(channel)

    def _reveal(self, batch: Batch, action: Action, total: int, queue: bool = True, **changes: Any) -> Batch:
        """Show a hidden batch when its rows are complete."""
        with Queue.objects.locked():
            changes |= reserve_position(batch) if queue else {}
            hidden = Batch.everything.in_preparation().filter(pk=batch.pk)
            require_preparation(hidden.update(total_profiles=total, deleted_at=None, **changes))
            Queue.objects.bump_version()
            batch.refresh_from_db()
            after = batch.status, batch.position
            self._log(batch, action, pluralise(total, "profile"), after=after, list_id=batch.list_id)
        return batch

    def _apply(self, batch: Batch, action: Action, message: str = "", **changes: Any) -> None:
        """Write `changes` and a log entry, and refresh `batch`."""
        before = batch.status, batch.position
        _update(batch, **changes)
        batch.refresh_from_db()
        if before != (batch.status, batch.position) or "priority" in changes:
            Queue.objects.bump_version(batch.pk)
        self._log(batch, action, message, before=before, after=(batch.status, batch.position))

    def _enqueue(self, batch: Batch, action: Action, message: str = "", **changes: Any) -> None:
        self._apply(batch, action, message, **reserve_position(batch), takeovers=0, **changes)

    def _move(self, batch: Batch, position: int, action: Action, message: str = "") -> Literal[True]:
        target = max(1, min(position, Batch.objects.last_position()))
        if target != batch.position:
            before = batch.status, batch.position
            Batch.objects.move(batch, target)
            Queue.objects.bump_version(batch.pk)
            self._log(batch, action, message, before=before, after=(batch.status, target))
        return True

    def _start(self, batch: Batch, action: Action, message: str = "", **changes: Any) -> None:
        self._leave(batch, action, Status.RUNNING, message, started_at=timezone.now(), takeovers=0, **changes)

    def _interrupt(self, batch: Batch, message: str) -> None:
        """Move the running batch to position 1, with its results. It continues when its turn comes."""
        self._wait(batch, Action.INTERRUPT_BATCH, 1, message)

    def _wait(self, batch: Batch, action: Action, position: int, message: str) -> None:
        """Put it at this position of the queue."""
        if batch.status == Status.RUNNING:
            end_run(batch)
        Batch.objects.shift(position, by=1)
        self._apply(batch, action, message, status=Status.QUEUED, position=position, takeovers=0)

    def _complete(self, batch: Batch, action: Action, message: str = "") -> None:
        # Use our clock: SQLite's has only milliseconds, and the API's cursors need microseconds.
        self._leave(batch, action, Status.DONE, message, completed_at=timezone.now())

    def _fail(self, batch: Batch, action: Action, message: str) -> None:
        self._leave(batch, action, Status.ERROR, message, error=message)

    def _leave(self, batch: Batch, action: Action, status: str, message: str = "", **changes: Any) -> None:
        """Enter a status outside the waiting queue, and notify webhooks and subscribers."""
        self._enter(batch, action, status, message, **changes)
        self._notify(batch)

    def _enter(self, batch: Batch, action: Action, status: str, message: str, **changes: Any) -> None:
        """Enter a status outside the waiting queue: log it, and close the gap."""
        before = batch.status, batch.position
        if batch.status == Status.RUNNING:
            end_run(batch)
        position = 0 if status == Status.RUNNING else None
        self._leave_queue(batch, status=status, position=position, **changes)
        Queue.objects.bump_version(batch.pk)
        batch.refresh_from_db()
        self._log(batch, action, message, before=before, after=(status, position))

    def _set_hold(self, reason: str, until: datetime | None = None, **others: Any) -> None:
        """`others` are further fields: for the batch that it stopped, or for an outage."""
        hold = {"held": True, "held_by": self.actor, "held_at": timezone.now(), "held_until": until}
        Queue.objects.update(**hold | {"hold_reason": reason, "outage_since": None} | others)
        Queue.objects.bump_version()
        message = f"{reason} (until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC)".strip() if until else reason
        self._log(None, Action.HOLD_QUEUE, message)

    def _release(self, queue: Queue, message: str) -> None:
        """End the hold. The batch that it stopped continues, if nobody has changed it, and no other batch runs."""
        nobody = {"held_by": "", "held_at": None, "held_until": None, "hold_reason": ""}
        Queue.objects.update(held=False, stopped=None, outage_since=None, **nobody)
        Queue.objects.bump_version()
        self._log(None, Action.RELEASE_QUEUE, message)
        stopped = lock_queued(queue.stopped_id) if queue.stopped_id and not lock_running() else None
        if stopped is not None:
            self._start(stopped, Action.START_BATCH, "continues after the hold")

    def _end_hold(self, queue: Queue) -> None:
        """Release the queue if the end of the hold has passed."""
        if queue.hold_is_over:
            self._release(queue, "The end of the hold has come.")

    def _notify(self, batch: Batch) -> None:
        if batch.status in ENDS:
            subscriptions.write_run(batch)
        if batch.status in EVENTS:
            outbox.write_event(EVENTS[batch.status], batch)

    def _leave_queue(self, batch: Batch, **changes: Any) -> None:
        _update(batch, **changes)
        if batch.status == Status.QUEUED and batch.position is not None:
            Batch.objects.close_gap(batch.position)

    def _log(
        self,
        batch: Batch | None,
        action: Action,
        message: str = "",
        before: tuple[str, int | None] = ("", None),
        after: tuple[str, int | None] = ("", None),
        list_id: uuid.UUID | None = None,
    ) -> None:
        self._make_entry(batch, action, message, before, after, list_id).save()

    def _log_all(self, batches: Iterable[Batch], action: Action, message: str) -> None:
        """Log an entry for each batch, for a change that affects neither status nor position."""
        states = ((batch, (batch.status, batch.position)) for batch in batches)
        BatchLog.objects.bulk_create(self._make_entry(batch, action, message, state, state) for batch, state in states)

    def _make_entry(
        self,
        batch: Batch | None,
        action: Action,
        message: str,
        before: tuple[str, int | None],
        after: tuple[str, int | None],
        list_id: uuid.UUID | None = None,
    ) -> BatchLog:
        return BatchLog(
            batch=batch,
            list_id=list_id,
            action=action,
            actor=self.actor,
            channel=self.channel,
            from_status=before[0],
            from_position=before[1],
            to_status=after[0],
            to_position=after[1],
            message=message,
        )


def reserve_position(batch: Batch) -> dict[str, Any]:
    """Make room at the end of the batch's band. Returns the changes for the batch."""
    return {"status": Status.QUEUED, "position": Batch.objects.make_room(batch.priority)}


def _update(batch: Batch, **changes: Any) -> None:
    """Write on condition that the batch still has the status that was checked."""
    if changes and not Batch.objects.filter(pk=batch.pk, status=batch.status).update(**changes):
        raise RuntimeError(
            f"Batch {batch.pk} changed while the queue was locked. Something wrote without BatchManager."
        )
