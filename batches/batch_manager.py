"""Every write of queue state, and nothing else.

Each transition is one transaction: lock the queue, read the batch anew, check, write, log. The order of locks is always
queue → batch → profiles. Expected outcomes are returned (True, a batch, or a falsy `Refusal`); faults are raised.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from hashlib import sha256
from typing import Any, Concatenate, Literal, ParamSpec, TypeGuard, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Case, Exists, F, Max, OuterRef, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Now
from django.utils import timezone

from batches.checking.checkers.base import CheckResult, Story
from batches.lists.addresses import InvalidAddress, normalise_address
from batches.lists.reading import ProfileAddress

from . import bulk
from .conf import get_config
from .models import (
    COUNTED_ROWS,
    MAX_ERROR,
    MAX_FINGERPRINT,
    MAX_MEMORY,
    MAX_NAME,
    MAX_PRIORITY,
    MAX_STORY_ID,
    MAX_TITLE,
    MAX_URL,
    MIN_PRIORITY,
    Batch,
    BatchLog,
    BatchProfile,
    Channel,
    Event,
    Profile,
    Queue,
    SecondsSince,
    StoryResult,
)
from .notifications import outbox
from .text import clean_text, counted
from .transitions import Code, Refusal, Refused, fenced, not_found, require_allowed

Status = Batch.Status

#: A range of positions that nobody uses. `position - 1` in one step breaks the unique constraint in 194 of 200 random
#: row orders, on both databases; through this range, in two steps, it broke it in none.
DETOUR = 1_000_000_000

#: Seconds. A check that claims to have taken longer (11 days) was not measured.
MAX_DURATION = 1e6

#: Rows deleted per transaction, so that deleting a batch of a million rows holds nobody up.
DELETE_CHUNK = 10_000
#: Deleted batches that go under one lock, when their rows are gone.
PURGED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that its claimer owns for as long as it renews the lease."""

    batch: Batch
    run_token: uuid.UUID


P = ParamSpec("P")
R = TypeVar("R")

#: A row of a batch as it was before its check.
UNCHECKED: dict[str, Any] = {
    "status": BatchProfile.Status.PENDING,
    "error": "",
    "http_status": None,
    "duration": None,
    "has_story": False,
    "checked_at": None,
}

#: The counters of a batch of which nothing is checked.
COUNTERS_AT_ZERO: dict[str, Any] = {
    "completed_profiles": 0,
    "successful_checks": 0,
    "failed_checks": 0,
    "stories_found": 0,
}


@contextmanager
def locked_queue() -> Iterator[Queue]:
    """A transaction that holds the queue: on PostgreSQL by the row's lock, on SQLite by BEGIN IMMEDIATE."""
    with transaction.atomic():
        queue = Queue.objects.select_for_update(no_key=True).first()
        if queue is None:  # a restored dump or a flushed test database may lack it
            Queue.objects.get_or_create(pk=Queue.THE_ONE)
            queue = Queue.objects.select_for_update(no_key=True).get()
        yield queue


def find_batch(batch_id: object, *, lock: bool = False) -> Batch:
    """The batch with this id. Raises Refused for anything that is no id of a batch, whatever it is."""
    pk = _as_uuid(batch_id)
    batches: QuerySet[Batch] = Batch.objects.select_for_update(no_key=True) if lock else Batch.objects.all()
    batch = batches.filter(pk=pk).first() if pk else None
    if batch is None:
        raise not_found(batch_id)
    return batch


def refusable(call: Callable[P, R]) -> Callable[P, R | Refusal]:
    """Give what is raised as `Refused` back as the refusal in it: an expected outcome, not an exception."""

    @wraps(call)
    def answer(*args: P.args, **kwargs: P.kwargs) -> R | Refusal:
        try:
            return call(*args, **kwargs)
        except Refused as refused:
            return refused.refusal

    return answer


def transition(
    change: Callable[Concatenate[BatchManager, Batch, P], R],
) -> Callable[Concatenate[BatchManager, object, P], R | Refusal]:
    """Give the change its batch, locked and read anew under the queue's lock, if it is allowed from its status."""

    @wraps(change)
    def call(self: BatchManager, batch_id: object, *args: P.args, **kwargs: P.kwargs) -> R:
        with locked_queue():
            batch = find_batch(batch_id, lock=True)
            require_allowed(change.__name__.removeprefix("_"), batch)
            return change(self, batch, *args, **kwargs)

    return refusable(call)  # type: ignore[return-value]


def run_call(
    change: Callable[[BatchManager, Batch], R],
) -> Callable[[BatchManager, object, uuid.UUID], R | Refusal]:
    """Give the change the batch of its run, locked under the queue's lock, as long as that run goes on."""

    @wraps(change)
    def call(self: BatchManager, batch_id: object, run_token: uuid.UUID) -> R:
        with locked_queue():
            batch = _run(batch_id, run_token).select_for_update(no_key=True).first()
            if batch is None:
                raise fenced()
            return change(self, batch)

    return refusable(call)


class BatchManager:
    """Changes batches and the queue on behalf of `actor`, who came through `channel`."""

    def __init__(self, actor: str = "", channel: str = Channel.CODE) -> None:
        self.actor = clean_text(actor, 150)
        self.channel = Channel(channel)

    # Making batches

    @refusable
    def create_batch(
        self,
        name: str,
        profiles: Iterable[ProfileAddress | Profile | str] = (),
        priority: int = 0,
        checker: str = "feed",
        queue: bool = True,
        id: uuid.UUID | None = None,
    ) -> Batch:
        """A new batch of these profiles, queued at the end of its band or (`queue=False`) paused.

        Addresses that are not known yet become profiles; duplicates collapse. All or nothing. Of a queryset of
        profiles those go in that match it now.

        With an `id` that the caller has chosen, the same order given twice makes one batch: the second is refused as
        `already_exists`, also while the first is still being carried out.
        """
        name = _usable_name(name)
        _require_priority(priority)
        _require_checker(checker)
        chosen = profiles if isinstance(profiles, QuerySet) else None
        names = {} if chosen is not None else _names_by_url(profiles)
        batch = Batch(id=id or uuid.uuid4(), name=name, priority=priority, checker=checker, status=Status.PAUSED)
        with transaction.atomic():
            _insert_new(batch)
            # Before the queue is locked: 100,000 rows take a second, and nobody can see this batch yet.
            if chosen is not None:
                total = bulk.insert_chosen_profiles(batch.pk, chosen)
            else:
                bulk.insert_profiles(names.items())
                total = bulk.insert_batch_profiles(batch.pk, names)
            self._finish_creation(batch, total, queue, "create_batch")
        return batch

    def insert_queued(self, batch: Batch, *args: Any, **kwargs: Any) -> None:
        """Insert an unsaved queued batch in its place at the end of its band. For `Batch.save`."""
        try:
            with locked_queue():
                batch.position = end_of_band(batch.priority)
                shift_positions(batch.position, None, by=1)
                batch.save(*args, **kwargs)
                _bump_version()
                self._log(batch, "create_batch", to=(Status.QUEUED, batch.position))
        except BaseException:
            batch.position = None
            raise

    @refusable
    def repeat_batch(self, batch_id: object) -> Batch:
        """A new queued batch with the same profiles, linked to this one by `previous`."""
        with transaction.atomic():
            source = find_batch(batch_id)
            batch = Batch(
                name=source.name,
                priority=source.priority,
                checker=source.checker,
                previous=source,
                status=Status.PAUSED,
            )
            batch.save(force_insert=True)
            copied = bulk.copy_batch_profiles(source.pk, batch.pk)
            with locked_queue():
                find_batch(batch_id)  # deleted while it was copied, it may have lost rows before that
                # A batch whose caller keeps no rows is repeated without rows.
                self._finish_creation(batch, copied or source.total_profiles, True, "repeat_batch")
        return batch

    def _finish_creation(self, batch: Batch, total: int, queue: bool, action: str) -> None:
        with locked_queue():
            changes: dict[str, Any] = {"total_profiles": total}
            if queue:
                changes |= _place(batch)
            Batch.objects.filter(pk=batch.pk).update(**changes)
            _bump_version()
            batch.refresh_from_db()
            self._log(batch, action, counted(total, "profile"), to=(batch.status, batch.position))

    @transition
    def rename_batch(self, batch: Batch, name: str) -> Literal[True]:
        """Give it another name."""
        name = _usable_name(name)
        if name != batch.name:
            self._apply(batch, "rename_batch", f"“{batch}” → “{name}”", name=name)
        return True

    # The queue's order

    @transition
    def queue_batch(self, batch: Batch) -> Literal[True]:
        """Queue it at the end of its band. A finished batch is checked anew, a paused one goes on where it stopped."""
        if batch.status == Status.QUEUED:
            return self._move(batch, end_of_band(batch.priority, batch), "queue_batch")
        changes: dict[str, Any] = {"error": "", "completed_at": None}
        if batch.status == Status.DONE:
            batch.profiles.update(**UNCHECKED)
            changes |= COUNTERS_AT_ZERO | {"run_seconds": 0.0}
        self._enqueue(batch, "queue_batch", **changes)
        return True

    @transition
    def move_batch(self, batch: Batch, position: int, expected_version: int | None = None) -> Literal[True]:
        """Move a queued batch to `position`, clamped to 1..n; the others are shifted.

        With `expected_version` it is refused when order or status of anything changed since that `Queue.version`.
        """
        if not _is_int(position) or not (expected_version is None or _is_int(expected_version)):
            raise Refused(Code.BAD_VALUE, "A position and a version are whole numbers.")
        if expected_version is not None and expected_version != Queue.objects.get().version:
            raise Refused(Code.STALE_VERSION, "The queue has changed meanwhile. Look at its new order first.")
        return self._move(batch, max(1, min(position, _last_position())), "move_batch")

    @transition
    def set_priority(self, batch: Batch, priority: int) -> Literal[True]:
        """Store the priority; a queued batch goes to the end of its new band."""
        _require_priority(priority)
        if priority != batch.priority:
            if batch.status == Status.QUEUED:
                _move_positions(batch, end_of_band(priority, batch))
            self._apply(batch, "set_priority", f"priority {batch.priority} → {priority}", priority=priority)
        return True

    def reorder_queue(self) -> Literal[True]:
        """Close gaps in the order of position. Nothing changes where there are none."""
        with locked_queue():
            waiting = Batch.objects.queued().count()
            if waiting != _last_position():
                bulk.renumber_queue(DETOUR)
                _bump_version()
                self._log(None, "reorder_queue", f"numbered anew: {counted(waiting, 'queued batch', 'queued batches')}")
        return True

    def hold_queue(self, reason: str = "") -> Literal[True]:
        """Promote and start nothing until `release_queue`; the running batch goes on."""
        reason = clean_text(reason, MAX_ERROR).strip()
        with locked_queue() as queue:
            if not (queue.held and queue.hold_reason == reason):
                self._set_hold("hold_queue", reason, held=True, by=self.actor, at=timezone.now(), why=reason)
        return True

    def release_queue(self) -> Literal[True]:
        """Let batches be promoted and started again."""
        with locked_queue() as queue:
            if queue.held:
                self._set_hold("release_queue", queue.hold_reason, held=False, by="", at=None, why="")
        return True

    def _set_hold(self, action: str, message: str, *, held: bool, by: str, at: Any, why: str) -> None:
        Queue.objects.update(held=held, held_by=by, held_at=at, hold_reason=why)
        _bump_version()
        self._log(None, action, message)

    # A batch's life

    @transition
    def start_batch(self, batch: Batch) -> Literal[True]:
        """Make it the running batch now, for the next worker that looks. Refused while another runs or all is held."""
        _require_startable()
        self._start(batch, "start_batch")
        return True

    def promote_next_batch(self) -> Batch | None:
        """Start the head of the queue. None if one runs, none waits, or the queue is held."""
        with locked_queue() as queue:
            batch = None if queue.held or Batch.objects.running().exists() else _head()
            if batch is not None:
                self._start(batch, "promote_next_batch")
        return batch

    @transition
    def pause_batch(self, batch: Batch) -> Literal[True]:
        """Set it aside. From the moment this commits no further result of its run is recorded."""
        if batch.status != Status.PAUSED:
            self._leave(batch, "pause_batch", Status.PAUSED)
            if self.channel == Channel.WORKER:  # a person who pauses it knows
                outbox.announce(Event.BATCH_PAUSED, batch)
        return True

    @transition
    def complete_batch(self, batch: Batch) -> Literal[True]:
        """Close it as done, whether or not every profile was checked."""
        self._complete(batch, "complete_batch")
        return True

    @transition
    def handle_error(self, batch: Batch, message: object, run_token: uuid.UUID | None = None) -> Literal[True]:
        """Stop it with an error that is kept, cleaned of what cannot be stored and cut.

        A worker gives its `run_token`, so that a run that is over cannot stop the one that followed it.
        """
        if run_token is not None and batch.run_token != run_token:
            raise fenced()
        self._fail(batch, "handle_error", clean_text(message, MAX_ERROR).strip() or "It stopped without saying why.")
        return True

    @transition
    def update_progress(self, batch: Batch, completed: int, successful: int, failed: int) -> Literal[True]:
        """Set the three counters, absolutely; all profiles completed completes the batch.

        For callers that keep no rows of their profiles: the counters of a batch with rows are its rows' alone.
        """
        _require_progress(batch, completed, successful, failed)
        counters = {
            "completed_profiles": completed,
            "successful_checks": successful,
            "failed_checks": failed,
        }
        Batch.objects.filter(pk=batch.pk).update(**counters)
        if completed == batch.total_profiles:
            self._complete(batch, "update_progress")
        return True

    @transition
    def retry_failed(self, batch: Batch) -> Literal[True]:
        """Make its failed profiles pending again, and queue it."""
        failed = batch.profiles.filter(status=BatchProfile.Status.FAILED).update(**UNCHECKED)
        if not failed and not batch.profiles.exists():
            failed = batch.failed_checks  # of a caller that keeps no rows
        if not failed:
            raise Refused(Code.NOTHING_TO_RETRY, f"“{batch}” has no failed profiles.")
        self._enqueue(
            batch,
            "retry_failed",
            f"to be checked again: {counted(failed, 'failed profile')}",
            error="",
            completed_at=None,
            completed_profiles=F("completed_profiles") - failed,
            failed_checks=F("failed_checks") - failed,
        )
        return True

    def delete_batch(self, batch_id: object) -> Literal[True] | Refusal:
        """Delete it with its rows and its log. Stories stay, since they are what makes the next sight of them old.

        It is gone for everybody when the first transaction commits; its rows follow in small steps without the queue's
        lock. Killed in between, `purge_deleted` finishes the work.
        """
        return self.delete_batches([batch_id])[0]

    def delete_batches(self, batch_ids: Iterable[object]) -> list[Literal[True] | Refusal]:
        """Delete several, each as `delete_batch` does and with an answer of its own; their rows follow together."""
        answers = [self._delete_batch(batch_id) for batch_id in batch_ids]
        if any(answers):
            # A caller with a transaction of its own (the admin's delete page) holds the queue until that commits.
            transaction.on_commit(self.purge_deleted)
        return answers

    def purge_deleted(self) -> None:
        """Remove the rows of deleted batches whose deletion was interrupted, and then the batches."""
        deleted = list(Batch.everything.exclude(deleted_at=None).values_list("pk", flat=True))
        for pk in deleted:
            _purge_rows(pk)
        for first in range(0, len(deleted), PURGED_AT_ONCE):
            with locked_queue():  # their repeats forget them, and several of them at once may be in somebody's shift
                Batch.everything.filter(pk__in=deleted[first : first + PURGED_AT_ONCE]).delete()

    @transition
    def _delete_batch(self, batch: Batch) -> Literal[True]:
        was = batch.status, batch.position
        self._leave_queue(batch, status=Status.PAUSED, position=None, deleted_at=Now())
        _bump_version()
        self._log(
            None, "delete_batch", f"“{batch}” ({batch.pk}) with {counted(batch.total_profiles, 'profile')}", was=was
        )
        return True

    # Repairs of what nothing should have been able to break; `doctor` finds it

    @transition
    def repair_batch(self, batch: Batch) -> Literal[True]:
        """Make it agree with its status, its rows and its log again. What agrees already is not touched.

        The status stands, since it is what somebody decided: place, lease, error and times follow from it. Only a
        second running batch cannot stay what it is: it is paused.
        """
        logged = batch.logs.order_by("-pk").values_list("to_status", "to_position").first() or ("", None)
        repairs = _repairs(batch)
        if repairs or logged[0] != batch.status:
            Batch.objects.filter(pk=batch.pk).update(**repairs)
            _bump_version()
            batch.refresh_from_db()
            message = "set " + ", ".join(sorted(repairs)) if repairs else "the log did not tell of this status"
            self._log(batch, "repair_batch", message, was=logged, to=(batch.status, batch.position))
        return True

    def repair_rows(self) -> int:
        """Delete rows that belong to no batch or no profile, and finish interrupted deletions. Returns how many."""
        with locked_queue():
            gone = sum(rows.delete()[0] for rows in orphans())
            if gone:
                self._log(None, "repair_rows", f"deleted {counted(gone, 'row')} that belonged to nothing")
        self.purge_deleted()
        return gone

    # The worker's own calls

    def claim_run(self, worker: str) -> ClaimedRun | None:
        """Take over the running batch if nobody owns it, else promote the next one. None if there is nothing to do."""
        worker = clean_text(worker, 150)
        token = uuid.uuid4()
        with locked_queue() as queue:
            Queue.objects.update(worker=worker, worker_seen_at=Now())
            running = _lock_running()
            if running is not None and _is_owned(running):
                return None
            if running is not None and self._take_over(running, worker, token):
                return ClaimedRun(running, token)
            head = None if queue.held else _head()
            if head is None:
                return None
            self._start(head, "promote_next_batch", f"by worker {worker}", run_token=token, lease_at=Now())
            return ClaimedRun(head, token)

    def _take_over(self, batch: Batch, worker: str, token: uuid.UUID) -> bool:
        """Own the run that nobody owns; or stop a batch that was taken over too often without any progress."""
        if batch.run_token is None:  # started by somebody, or given back
            self._apply(batch, "claim_run", f"by worker {worker}", run_token=token, lease_at=Now())
            return True
        lost = batch.takeovers + 1
        if lost > get_config().max_takeovers:
            message = f"{lost} workers in a row fell silent while working on this batch, without any progress."
            self._fail(batch, "take_over", message)
            return False
        message = f"by worker {worker}: the one before fell silent"
        self._apply(batch, "take_over", message, run_token=token, lease_at=Now(), takeovers=lost)
        return True

    @refusable
    def record_results(
        self, batch_id: object, run_token: uuid.UUID, results: Iterable[tuple[int, CheckResult]]
    ) -> Literal[True]:
        """Record the (profile_id, result) pairs of a run, and renew its lease. All or nothing.

        A profile that has its result already keeps it, so a result may be given twice. Never takes the queue's lock.
        """
        by_profile = dict(results)
        with transaction.atomic():
            _renew_lease(batch_id, run_token)
            pk = uuid.UUID(str(batch_id))
            rows = bulk.pending_rows(pk, by_profile)
            _record(pk, rows, {profile_id: _clean(by_profile[profile_id]) for profile_id in rows})
        return True

    @refusable
    def renew_lease(self, batch_id: object, run_token: uuid.UUID) -> Literal[True]:
        """Say that the run's worker is alive."""
        _renew_lease(batch_id, run_token)
        return True

    @run_call
    def release_run(self, batch: Batch) -> Literal[True]:
        """Give a run back, so that the next worker goes on at once instead of waiting for the lease to run out."""
        self._apply(batch, "release_run", run_seconds=_run_seconds(), run_token=None, lease_at=None)
        return True

    @run_call
    def finish_run(self, batch: Batch) -> Literal[True]:
        """Complete the batch of a run that has no pending profile left.

        A batch that claims profiles but has no rows for them goes to `error` instead of a hollow `done`.
        """
        rows = batch.profiles
        if rows.filter(status=BatchProfile.Status.PENDING).exists():
            raise Refused(Code.NOT_FINISHED, f"“{batch}” still has pending profiles.")
        if batch.completed_profiles < batch.total_profiles and not rows.exists():
            message = f"The batch says {counted(batch.total_profiles, 'profile')}, but it has no rows to check."
            self._fail(batch, "finish_run", message)
        else:
            self._complete(batch, "finish_run", "" if batch.total_profiles else "It has no profiles.")
        return True

    # How a change is written

    def _apply(self, batch: Batch, action: str, message: str = "", **changes: Any) -> None:
        """Write the changes and their log line; refresh `batch`."""
        was = batch.status, batch.position
        _update(batch, **changes)
        batch.refresh_from_db()
        if was != (batch.status, batch.position) or "priority" in changes:
            _bump_version()
        self._log(batch, action, message, was=was, to=(batch.status, batch.position))

    def _enqueue(self, batch: Batch, action: str, message: str = "", **changes: Any) -> None:
        self._apply(batch, action, message, **_place(batch), takeovers=0, **changes)

    def _move(self, batch: Batch, target: int, action: str) -> Literal[True]:
        if target != batch.position:
            was = batch.status, batch.position
            _move_positions(batch, target)
            _bump_version()
            self._log(batch, action, was=was, to=(batch.status, target))
        return True

    def _start(self, batch: Batch, action: str, message: str = "", **changes: Any) -> None:
        self._leave(batch, action, Status.RUNNING, message, started_at=timezone.now(), takeovers=0, **changes)

    def _complete(self, batch: Batch, action: str, message: str = "") -> None:
        # By our clock: SQLite's own has milliseconds, and a cursor of the API goes on behind a microsecond.
        self._leave(batch, action, Status.DONE, message, completed_at=timezone.now())
        outbox.announce(Event.BATCH_DONE, batch)

    def _fail(self, batch: Batch, action: str, message: str) -> None:
        self._leave(batch, action, Status.ERROR, message, error=message)
        outbox.announce(Event.BATCH_ERROR, batch)

    def _leave(self, batch: Batch, action: str, status: str, message: str = "", **changes: Any) -> None:
        """Leave the status it has for one outside the waiting queue; the queue closes the gap."""
        was = batch.status, batch.position
        if batch.status == Status.RUNNING:
            changes = {"run_seconds": _run_seconds(), "run_token": None, "lease_at": None} | changes
        position = 0 if status == Status.RUNNING else None
        self._leave_queue(batch, status=status, position=position, **changes)
        _bump_version()
        batch.refresh_from_db()
        self._log(batch, action, message, was=was, to=(status, position))

    def _leave_queue(self, batch: Batch, **changes: Any) -> None:
        _update(batch, **changes)
        if batch.status == Status.QUEUED and batch.position is not None:
            shift_positions(batch.position + 1, None, by=-1)

    def _log(
        self,
        batch: Batch | None,
        action: str,
        message: str = "",
        was: tuple[str, int | None] = ("", None),
        to: tuple[str, int | None] = ("", None),
    ) -> None:
        BatchLog.objects.create(
            batch=batch,
            action=action,
            actor=self.actor,
            channel=self.channel,
            from_status=was[0],
            from_position=was[1],
            to_status=to[0],
            to_position=to[1],
            message=message,
        )


# Positions. Set-based and in two steps, never by loading and saving rows: 10,000 waiting batches took 25-40 ms this way
# on SQLite, and more than a second that way.


def shift_positions(first: int, last: int | None, by: int) -> None:
    """Move the queued batches at `first`..`last` (None: the end) by so many places."""
    rows = Batch.objects.queued().filter(position__gte=first)
    if last is not None:
        rows = rows.filter(position__lte=last)
    _renumber(rows, F("position") + by)


def _move_positions(batch: Batch, target: int) -> None:
    """Put a queued batch at `target` and shift those in between by one."""
    place = batch.position or 0
    between = Batch.objects.queued().filter(position__range=sorted((place, target)))
    by = 1 if target < place else -1
    _renumber(between, Case(When(pk=batch.pk, then=Value(target)), default=F("position") + by))


def _renumber(rows: QuerySet[Batch], position: Combinable) -> None:
    if rows.update(position=position + DETOUR):
        Batch.objects.filter(position__gt=DETOUR).update(position=F("position") - DETOUR)


def end_of_band(priority: int, moving: Batch | None = None) -> int:
    """The place behind the last queued batch whose priority is at least this one; `moving` leaves its own first."""
    ahead = Batch.objects.queued().filter(priority__gte=priority)
    if moving is not None:
        ahead = ahead.exclude(pk=moving.pk)
    last = ahead.aggregate(last=Max("position"))["last"] or 0
    return last if moving is not None and last > (moving.position or 0) else last + 1


def _place(batch: Batch) -> dict[str, Any]:
    """Make room at the end of the batch's band; what to write to put it there."""
    position = end_of_band(batch.priority)
    shift_positions(position, None, by=1)
    return {"status": Status.QUEUED, "position": position}


def _last_position() -> int:
    return Batch.objects.queued().aggregate(last=Max("position"))["last"] or 0


def _head() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).queued().order_by("position").first()


# Repairs


def orphans() -> list[QuerySet[Any]]:
    """Rows whose batch or profile does not exist. The database refuses them; a damaged or hand-edited one has them."""
    no_batch = ~Exists(Batch.everything.filter(pk=OuterRef("batch_id")))
    no_profile = ~Exists(Profile.objects.filter(pk=OuterRef("profile_id")))
    return [
        BatchProfile.objects.filter(no_batch | no_profile),
        StoryResult.objects.filter((no_batch & Q(batch__isnull=False)) | no_profile),
        BatchLog.objects.filter(no_batch & Q(batch__isnull=False)),
    ]


def _repairs(batch: Batch) -> dict[str, Any]:
    """What has to be written so that the batch agrees with its status and its rows."""
    wanted = _as_its_status_wants(batch)
    if batch.profiles.exists():
        wanted |= batch.profiles.aggregate(**COUNTED_ROWS)
    return {field: value for field, value in wanted.items() if value != getattr(batch, field)}


def _as_its_status_wants(batch: Batch) -> dict[str, Any]:
    is_done, has_error = batch.status == Status.DONE, batch.status == Status.ERROR
    wanted: dict[str, Any] = {
        "completed_at": (batch.completed_at or timezone.now()) if is_done else None,
        "error": (batch.error or "It stopped without saying why.") if has_error else "",
    }
    if batch.status == Status.QUEUED:
        wanted |= {} if (batch.position or 0) >= 1 else _place(batch)
    elif batch.status != Status.RUNNING:
        wanted["position"] = None
    elif Batch.objects.running().exclude(pk=batch.pk).exists():
        wanted |= {"status": Status.PAUSED, "position": None, "run_token": None, "lease_at": None}
    else:
        wanted["position"] = 0
    if batch.status != Status.RUNNING:
        wanted |= {"run_token": None, "lease_at": None}
    return wanted


# Runs and leases


def _lock_running() -> Batch | None:
    return Batch.objects.select_for_update(no_key=True).running().first()


def _run(batch_id: object, run_token: object) -> QuerySet[Batch]:
    """The batch, as long as this run of it goes on."""
    pk, token = _as_uuid(batch_id), _as_uuid(run_token)
    if pk is None or token is None:  # a started batch that nobody claimed has no token: it is nobody's
        return Batch.objects.none()
    return Batch.objects.running().filter(pk=pk, run_token=token)


def _renew_lease(batch_id: object, run_token: object) -> None:
    """The fence: one conditional write that only the current run's worker can make."""
    if not _run(batch_id, run_token).update(lease_at=Now(), run_seconds=_run_seconds()):
        raise fenced()


def _is_owned(batch: Batch) -> bool:
    """Whether its worker showed itself within the lease, by the database's clock.

    A sign of life too far in the future is no better than one too long ago: a clock went back.
    """
    lease = timedelta(seconds=get_config().lease_seconds)
    return Batch.objects.filter(pk=batch.pk, lease_at__range=(Now() - lease, Now() + lease)).exists()


def _run_seconds() -> Combinable:
    """The time at work so far, grown by what passed since the last sign of life: at most a lease, since a worker that
    was silent for longer was not at work."""
    return F("run_seconds") + SecondsSince("lease_at", at_most=get_config().lease_seconds)


# Recording


def _record(batch_id: uuid.UUID, rows: Mapping[int, int], results: Mapping[int, CheckResult]) -> None:
    if not results:
        return
    stories = [
        (profile_id, story.id, story.title, story.url, story.published)
        for profile_id, result in results.items()
        for story in result.stories
    ]
    new = Counter(bulk.insert_stories(batch_id, stories) if stories else ())
    bulk.update_batch_profiles(
        [
            (
                rows[profile_id],
                BatchProfile.Status.OK if result.ok else BatchProfile.Status.FAILED,
                result.error,
                result.http_status,
                result.duration,
                profile_id in new,
            )
            for profile_id, result in results.items()
        ]
    )
    bulk.update_profiles(
        [
            (
                profile_id,
                result.error,
                result.feed_url,
                result.etag,
                result.last_modified,
                result.fingerprint,
                profile_id in new,
            )
            for profile_id, result in results.items()
        ]
    )
    successful = sum(result.ok for result in results.values())
    Batch.objects.filter(pk=batch_id).update(
        completed_profiles=F("completed_profiles") + len(results),
        successful_checks=F("successful_checks") + successful,
        failed_checks=F("failed_checks") + len(results) - successful,
        stories_found=F("stories_found") + new.total(),
        takeovers=0,
    )


def _clean(result: CheckResult) -> CheckResult:
    """The result as both databases can store it, whatever the checker made of what a stranger sent."""
    # Built anew: `dataclasses.replace` took an eighth of recording.
    return CheckResult(
        ok=result.ok,
        error="" if result.ok else clean_text(result.error, MAX_ERROR) or "The check failed without saying why.",
        http_status=_clean_http_status(result.http_status),
        # Infinity and "not a number" are no JSON.
        duration=result.duration if 0.0 <= result.duration <= MAX_DURATION else 0.0,
        stories=[_clean_story(story) for story in result.stories] if result.ok else (),
        feed_url=_clean_memory(result.feed_url, MAX_URL),
        etag=_clean_memory(result.etag, MAX_MEMORY),
        last_modified=_clean_memory(result.last_modified, MAX_MEMORY),
        fingerprint=_clean_memory(result.fingerprint, MAX_FINGERPRINT),
    )


def _clean_story(story: Story) -> Story:
    story_id = clean_text(story.id, MAX_STORY_ID + 1)
    if not 0 < len(story_id) <= MAX_STORY_ID:
        content = f"{story.id}\n{story.title}\n{story.url}"
        story_id = sha256(content.encode(errors="replace")).hexdigest()
    url = clean_text(story.url, MAX_URL + 1)
    url = url if len(url) <= MAX_URL else ""
    return Story(story_id, clean_text(story.title, MAX_TITLE), url, _clean_time(story.published))


def _clean_http_status(status: int | None) -> int | None:
    """What has not three digits, as HTTP wants it, is no status. 999 is one that a large site really sends."""
    return int(status) if status is not None and 100 <= status <= 999 else None


def _clean_time(moment: datetime | None) -> datetime | None:
    """In UTC, as which a time without an offset is read. The years 1 and 9999 are placeholders for an unknown time, and
    another time zone would push them out of the calendar."""
    if not isinstance(moment, datetime) or not 1 < moment.year < 9999:
        return None
    return (moment if timezone.is_aware(moment) else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _clean_memory(text: str | None, limit: int) -> str | None:
    """None stays None (keep what is remembered); what is too long to be given back whole is forgotten."""
    if text is None:
        return None
    cleaned = clean_text(text, limit + 1)
    return cleaned if len(cleaned) <= limit else ""


# What has to be so


def _require_startable() -> None:
    running = Batch.objects.running().first()
    if running is not None:
        raise Refused(Code.ANOTHER_RUNNING, f"“{running}” is running: one batch at a time. Pause it first.")
    queue = Queue.objects.get()
    if queue.held:
        why = f": {queue.hold_reason}" if queue.hold_reason else ""
        raise Refused(Code.QUEUE_HELD, f"The queue is held{why}. Release it first.")


def _require_priority(priority: object) -> None:
    if not _is_int(priority) or not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise Refused(Code.BAD_VALUE, f"A priority is a whole number from {MIN_PRIORITY:,} to {MAX_PRIORITY:,}.")


def _require_checker(checker: object) -> None:
    known = get_config().all_checkers
    if not isinstance(checker, str) or checker not in known:
        raise Refused(Code.BAD_VALUE, f"There is no checker {str(checker)[:50]!r}, only {', '.join(known)}.")


def _require_progress(batch: Batch, completed: object, successful: object, failed: object) -> None:
    if not (_is_int(completed) and _is_int(successful) and _is_int(failed)):
        raise Refused(Code.BAD_PROGRESS, "The three counters are whole numbers.")
    if min(completed, successful, failed) < 0 or successful + failed > completed or completed > batch.total_profiles:
        numbers = f"{successful} ok and {failed} failed of {completed} completed of {batch.total_profiles} profiles"
        raise Refused(Code.BAD_PROGRESS, f"{numbers} do not add up.")
    if batch.profiles.exists():
        raise Refused(Code.BAD_PROGRESS, f"The counters of “{batch}” are those of its rows: use record_results.")


def _usable_name(name: object) -> str:
    """The name on one line, without what cannot be stored."""
    usable = " ".join(clean_text(name, len(name)).split()) if isinstance(name, str) else ""
    if not 0 < len(usable) <= MAX_NAME:
        raise Refused(Code.BAD_VALUE, f"A batch needs a name of 1 to {MAX_NAME} characters.")
    return usable


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


# The rest


def _update(batch: Batch, **changes: Any) -> None:
    """Write, on condition that the batch still has the status that this was decided from."""
    if not Batch.objects.filter(pk=batch.pk, status=batch.status).update(**changes):
        raise RuntimeError(
            f"Batch {batch.pk} changed although the queue was locked: something wrote past BatchManager."
        )


def _bump_version() -> None:
    Queue.objects.update(version=F("version") + 1)


def _as_uuid(value: object) -> uuid.UUID | None:
    if isinstance(value, uuid.UUID):
        return value
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        return uuid.UUID(value)
    except ValueError:
        return None


def _insert_new(batch: Batch) -> None:
    """Raises Refused if its id is taken: by a batch that exists, or by a deleted one whose rows are not all gone."""
    try:
        with transaction.atomic():
            batch.save(force_insert=True)
    except IntegrityError as error:
        other = Batch.everything.filter(pk=batch.pk).first()
        if other is None:
            raise
        raise Refused(Code.ALREADY_EXISTS, f"“{other}” has this id already; nothing was added.") from error


def _names_by_url(profiles: Iterable[ProfileAddress | Profile | str]) -> dict[str, str]:
    """Names by normalised address, in the order of first appearance."""
    names: dict[str, str] = {}
    for profile in profiles:
        url, name = (_address(profile), "") if isinstance(profile, str) else (profile.url, profile.name)
        names[url] = names.get(url) or clean_text(name, MAX_NAME)
    return names


def _address(text: str) -> str:
    try:
        return normalise_address(text)
    except InvalidAddress as error:
        raise Refused(Code.BAD_VALUE, f"{clean_text(text, 200)!r} is no profile's address: {error}") from error


def _purge_rows(batch_id: uuid.UUID) -> None:
    """Remove the rows of a deleted batch, in transactions of a bounded size; its stories stay without a batch."""
    rows = BatchProfile.objects.filter(batch=batch_id)
    stories = StoryResult.objects.filter(batch=batch_id)
    while (last := _end_of_chunk(rows)) is not None:
        rows.filter(pk__lte=last).delete()
    while (last := _end_of_chunk(stories)) is not None:
        stories.filter(pk__lte=last).update(batch=None)


def _end_of_chunk(rows: QuerySet[Any]) -> int | None:
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:DELETE_CHUNK])
    return ids[-1] if ids else None
