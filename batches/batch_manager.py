"""Every write of queue state, and nothing else.

Each transition is one transaction: lock the queue, read the batch anew, check, write, log. The order of locks is always
queue → batch → profiles. Expected outcomes are returned (True, a batch, or a falsy `Refusal`); faults are raised.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, Literal

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from .checking.checkers.base import CheckResult
from .conf import get_config
from .limits import MAX_ACTOR, MAX_ERROR
from .lists.imports import ProfileAddress
from .models import Action, Batch, BatchProfile, Profile, Queue
from .queue.contents import (
    COUNTERS_AT_ZERO,
    UNCHECKED,
    copy_batch_profiles,
    insert_batch,
    insert_batch_profiles,
    insert_chosen_profiles,
    insert_profiles,
    names_by_url,
    purge_rows,
)
from .queue.refusals import Code, Refusal, Refused, fenced, refusable
from .queue.repairs import find_orphans, renumber_queue, repairs_of
from .queue.results import record
from .queue.runs import ClaimedRun, is_owned, lock_head, lock_running, renew_lease, run_seconds
from .queue.transitions import QueueWriter, find_batch, queued_last, run_call, transition
from .queue.values import is_int, require_checker, require_priority, require_progress, require_startable, usable_name
from .text import clean_text, pluralise

Status = Batch.Status

#: Deleted batches that go under one lock, when their rows are gone.
PURGED_AT_ONCE = 100


class BatchManager(QueueWriter):
    """Changes batches and the queue on behalf of `actor`, who came through `channel`."""

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
        name = usable_name(name)
        require_priority(priority)
        require_checker(checker)
        chosen = profiles if isinstance(profiles, QuerySet) else None
        names = {} if chosen is not None else names_by_url(profiles)
        batch = Batch(id=id or uuid.uuid4(), name=name, priority=priority, checker=checker, status=Status.PAUSED)
        with transaction.atomic():
            insert_batch(batch)
            # Before the queue is locked: 100,000 rows take a second, and nobody can see this batch yet.
            if chosen is not None:
                total = insert_chosen_profiles(batch.pk, chosen)
            else:
                insert_profiles(names.items())
                total = insert_batch_profiles(batch.pk, names)
            self._finish_creation(batch, total, queue, Action.CREATE_BATCH)
        return batch

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
            copied = copy_batch_profiles(source.pk, batch.pk)
            with Queue.objects.locked():
                find_batch(batch_id)  # deleted while it was copied, it may have lost rows before that
                # A batch whose caller keeps no rows is repeated without rows.
                self._finish_creation(batch, copied or source.total_profiles, True, Action.REPEAT_BATCH)
        return batch

    def _finish_creation(self, batch: Batch, total: int, queue: bool, action: Action) -> None:
        with Queue.objects.locked():
            changes: dict[str, Any] = {"total_profiles": total}
            if queue:
                changes |= queued_last(batch)
            Batch.objects.filter(pk=batch.pk).update(**changes)
            Queue.objects.bump_version()
            batch.refresh_from_db()
            self._log(batch, action, pluralise(total, "profile"), to=(batch.status, batch.position))

    @transition(Action.RENAME_BATCH)
    def rename_batch(self, batch: Batch, name: str) -> Literal[True]:
        """Give it another name."""
        name = usable_name(name)
        if name != batch.name:
            self._apply(batch, Action.RENAME_BATCH, f"“{batch}” → “{name}”", name=name)
        return True

    # The queue's order

    @transition(Action.QUEUE_BATCH)
    def queue_batch(self, batch: Batch) -> Literal[True]:
        """Queue it at the end of its band. A finished batch is checked anew, a paused one goes on where it stopped."""
        if batch.status == Status.QUEUED:
            return self._move(batch, Batch.objects.end_of_band(batch.priority, batch), Action.QUEUE_BATCH)
        changes: dict[str, Any] = {"error": "", "completed_at": None}
        if batch.status == Status.DONE:
            batch.profiles.update(**UNCHECKED)
            changes |= COUNTERS_AT_ZERO | {"run_seconds": 0.0}
        self._enqueue(batch, Action.QUEUE_BATCH, **changes)
        return True

    @transition(Action.MOVE_BATCH)
    def move_batch(self, batch: Batch, position: int, expected_version: int | None = None) -> Literal[True]:
        """Move a queued batch to `position`, clamped to 1..n; the others are shifted.

        With `expected_version` it is refused when order or status of anything changed since that `Queue.version`.
        """
        if not is_int(position) or not (expected_version is None or is_int(expected_version)):
            raise Refused(Code.BAD_VALUE, "The position and the version must be whole numbers.")
        if expected_version is not None and expected_version != Queue.objects.get().version:
            raise Refused(Code.STALE_VERSION, "The queue has changed. Check the new order and try again.")
        return self._move(batch, max(1, min(position, Batch.objects.last_position())), Action.MOVE_BATCH)

    @transition(Action.SET_PRIORITY)
    def set_priority(self, batch: Batch, priority: int) -> Literal[True]:
        """Store the priority; a queued batch goes to the end of its new band."""
        require_priority(priority)
        if priority != batch.priority:
            if batch.status == Status.QUEUED:
                Batch.objects.move(batch, Batch.objects.end_of_band(priority, batch))
            self._apply(batch, Action.SET_PRIORITY, f"priority {batch.priority} → {priority}", priority=priority)
        return True

    def reorder_queue(self) -> Literal[True]:
        """Close gaps in the order of position. Nothing changes where there are none."""
        with Queue.objects.locked():
            waiting = Batch.objects.queued().count()
            if waiting != Batch.objects.last_position():
                renumber_queue()
                Queue.objects.bump_version()
                self._log(
                    None, Action.REORDER_QUEUE, f"renumbered {pluralise(waiting, 'queued batch', 'queued batches')}"
                )
        return True

    def hold_queue(self, reason: str = "") -> Literal[True]:
        """Promote and start nothing until `release_queue`; the running batch goes on."""
        reason = clean_text(reason, MAX_ERROR).strip()
        with Queue.objects.locked() as queue:
            if not (queue.held and queue.hold_reason == reason):
                self._set_hold(Action.HOLD_QUEUE, reason, held=True, by=self.actor, at=timezone.now(), why=reason)
        return True

    def release_queue(self) -> Literal[True]:
        """Let batches be promoted and started again."""
        with Queue.objects.locked() as queue:
            if queue.held:
                self._set_hold(Action.RELEASE_QUEUE, queue.hold_reason, held=False, by="", at=None, why="")
        return True

    def _set_hold(self, action: Action, message: str, *, held: bool, by: str, at: Any, why: str) -> None:
        Queue.objects.update(held=held, held_by=by, held_at=at, hold_reason=why)
        Queue.objects.bump_version()
        self._log(None, action, message)

    # A batch's life

    @transition(Action.START_BATCH)
    def start_batch(self, batch: Batch) -> Literal[True]:
        """Make it the running batch now, for the next worker that looks. Refused while another runs or all is held."""
        require_startable()
        self._start(batch, Action.START_BATCH)
        return True

    def promote_next_batch(self) -> Batch | None:
        """Start the head of the queue. None if one runs, none waits, or the queue is held."""
        with Queue.objects.locked() as queue:
            batch = None if queue.held or Batch.objects.running().exists() else lock_head()
            if batch is not None:
                self._start(batch, Action.PROMOTE_NEXT_BATCH)
        return batch

    @transition(Action.PAUSE_BATCH)
    def pause_batch(self, batch: Batch) -> Literal[True]:
        """Set it aside. From the moment this commits no further result of its run is recorded."""
        if batch.status != Status.PAUSED:
            self._leave(batch, Action.PAUSE_BATCH, Status.PAUSED)
        return True

    @transition(Action.COMPLETE_BATCH)
    def complete_batch(self, batch: Batch) -> Literal[True]:
        """Close it as done, whether or not every profile was checked."""
        self._complete(batch, Action.COMPLETE_BATCH)
        return True

    @transition(Action.HANDLE_ERROR)
    def handle_error(self, batch: Batch, message: object, run_token: uuid.UUID | None = None) -> Literal[True]:
        """Stop it with an error that is kept, cleaned of what cannot be stored and cut.

        A worker gives its `run_token`, so that a run that is over cannot stop the one that followed it.
        """
        if run_token is not None and batch.run_token != run_token:
            raise fenced()
        self._fail(
            batch, Action.HANDLE_ERROR, clean_text(message, MAX_ERROR).strip() or "Stopped without an error message."
        )
        return True

    @transition(Action.UPDATE_PROGRESS)
    def update_progress(self, batch: Batch, completed: int, successful: int, failed: int) -> Literal[True]:
        """Set the three counters, absolutely; all profiles completed completes the batch.

        For callers that keep no rows of their profiles: the counters of a batch with rows are its rows' alone.
        """
        require_progress(batch, completed, successful, failed)
        counters = {
            "completed_profiles": completed,
            "successful_checks": successful,
            "failed_checks": failed,
        }
        Batch.objects.filter(pk=batch.pk).update(**counters)
        if completed == batch.total_profiles:
            self._complete(batch, Action.UPDATE_PROGRESS)
        return True

    @transition(Action.RETRY_FAILED)
    def retry_failed(self, batch: Batch) -> Literal[True]:
        """Make its failed profiles pending again, and queue it."""
        failed = batch.profiles.filter(status=BatchProfile.Status.FAILED).update(**UNCHECKED)
        if not failed and not batch.profiles.exists():
            failed = batch.failed_checks  # of a caller that keeps no rows
        if not failed:
            raise Refused(Code.NOTHING_TO_RETRY, f"“{batch}” has no failed profiles.")
        self._enqueue(
            batch,
            Action.RETRY_FAILED,
            f"retrying {pluralise(failed, 'failed profile')}",
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
            purge_rows(pk)
        for first in range(0, len(deleted), PURGED_AT_ONCE):
            with (
                Queue.objects.locked()
            ):  # their repeats forget them, and several of them at once may be in somebody's shift
                Batch.everything.filter(pk__in=deleted[first : first + PURGED_AT_ONCE]).delete()

    @transition(Action.DELETE_BATCH)
    def _delete_batch(self, batch: Batch) -> Literal[True]:
        was = batch.status, batch.position
        self._leave_queue(batch, status=Status.PAUSED, position=None, deleted_at=Now())
        Queue.objects.bump_version()
        self._log(
            None,
            Action.DELETE_BATCH,
            f"“{batch}” ({batch.pk}) with {pluralise(batch.total_profiles, 'profile')}",
            was=was,
        )
        return True

    # Repairs of what nothing should have been able to break; `doctor` finds it

    @transition(Action.REPAIR_BATCH)
    def repair_batch(self, batch: Batch) -> Literal[True]:
        """Make it agree with its status, its rows and its log again. What agrees already is not touched.

        The status stands, since it is what somebody decided: place, lease, error and times follow from it. Only a
        second running batch cannot stay what it is: it is paused.
        """
        logged = batch.logs.order_by("-pk").values_list("to_status", "to_position").first() or ("", None)
        repairs = repairs_of(batch)
        if repairs or logged[0] != batch.status:
            Batch.objects.filter(pk=batch.pk).update(**repairs)
            Queue.objects.bump_version()
            batch.refresh_from_db()
            message = "set " + ", ".join(sorted(repairs)) if repairs else "the log did not record this status"
            self._log(batch, Action.REPAIR_BATCH, message, was=logged, to=(batch.status, batch.position))
            if "status" in repairs:
                self._notify(batch)
        return True

    def repair_rows(self) -> int:
        """Delete rows that belong to no batch or no profile, and finish interrupted deletions. Returns how many."""
        with Queue.objects.locked():
            gone = sum(rows.delete()[0] for rows in find_orphans())
            if gone:
                self._log(None, Action.REPAIR_ROWS, f"deleted {pluralise(gone, 'row')} without a batch or profile")
        self.purge_deleted()
        return gone

    # The worker's own calls

    def claim_run(self, worker: str) -> ClaimedRun | None:
        """Take over the running batch if nobody owns it, else promote the next one. None if there is nothing to do."""
        worker = clean_text(worker, MAX_ACTOR)
        token = uuid.uuid4()
        with Queue.objects.locked() as queue:
            Queue.objects.update(worker=worker, worker_seen_at=Now())
            running = lock_running()
            if running is not None and is_owned(running):
                return None
            if running is not None and self._take_over(running, worker, token):
                return ClaimedRun(running, token)
            head = None if queue.held else lock_head()
            if head is None:
                return None
            self._start(head, Action.PROMOTE_NEXT_BATCH, f"by worker {worker}", run_token=token, lease_at=Now())
            return ClaimedRun(head, token)

    def _take_over(self, batch: Batch, worker: str, token: uuid.UUID) -> bool:
        """Own the run that nobody owns; or stop a batch that was taken over too often without any progress."""
        if batch.run_token is None:  # started by somebody, or given back
            self._apply(batch, Action.CLAIM_RUN, f"by worker {worker}", run_token=token, lease_at=Now())
            return True
        lost = batch.takeovers + 1
        if lost > get_config().max_takeovers:
            message = f"{lost} workers in a row sent no heartbeat, and the batch made no progress."
            self._fail(batch, Action.TAKE_OVER, message)
            return False
        message = f"by worker {worker}: no heartbeat from the previous worker"
        self._apply(batch, Action.TAKE_OVER, message, run_token=token, lease_at=Now(), takeovers=lost)
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
            renew_lease(batch_id, run_token)
            record(uuid.UUID(str(batch_id)), by_profile)
        return True

    @refusable
    def renew_lease(self, batch_id: object, run_token: uuid.UUID) -> Literal[True]:
        """Say that the run's worker is alive."""
        renew_lease(batch_id, run_token)
        return True

    @run_call
    def release_run(self, batch: Batch) -> Literal[True]:
        """Give a run back, so that the next worker goes on at once instead of waiting for the lease to run out."""
        self._apply(batch, Action.RELEASE_RUN, run_seconds=run_seconds(), run_token=None, lease_at=None)
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
            message = f"The batch expects {pluralise(batch.total_profiles, 'profile')} but has no rows to check."
            self._fail(batch, Action.FINISH_RUN, message)
        else:
            self._complete(batch, Action.FINISH_RUN, "" if batch.total_profiles else "The batch has no profiles.")
        return True
