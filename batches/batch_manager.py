"""Makes every change of the queue's state, and nothing else.

Each transition is one transaction: lock the queue, read the batch again, check, write, log. Lock order: queue → batch →
leases → partitions → profiles; webhooks after the batch. Expected outcomes are returned (True, a batch, or a falsy
`Refusal`); bugs and database errors are raised.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Literal

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from .limits import MAX_ERROR
from .models import Action, Batch, Queue
from .queue.contents import (
    COUNTERS_AT_ZERO,
    Profiles,
    copy_profiles,
    hidden,
    prepare_rows,
    purge_deleted,
)
from .queue.editions import settle_all
from .queue.feeds import FeedCalls
from .queue.forgetting import ForgetCalls
from .queue.leases import lease_of, lock_head, lock_leases, lock_running
from .queue.lists import new_batch_of
from .queue.outages import OutageCalls
from .queue.redirect_calls import RedirectCalls
from .queue.refusals import Fenced, Refusal, at_once, refusable
from .queue.repairs import (
    absorb_leases,
    derive_repairs,
    describe_repairs,
    drop_leases,
    find_miscounted,
    find_orphans,
    renumber_queue,
)
from .queue.resets import begin_reset, finish_resets, reset_failed
from .queue.retries import Retry, choose_failed, recount
from .queue.schedules import ScheduleCalls
from .queue.sql import paced
from .queue.subscription_calls import SubscriptionCalls
from .queue.undo import UndoCalls
from .queue.values import (
    clean_name,
    find_batch,
    find_list,
    require_checker,
    require_flag,
    require_free_name,
    require_future,
    require_passed,
    require_position,
    require_priority,
    require_progress,
    require_startable,
)
from .queue.worker_calls import WorkerCalls
from .queue.writer import transition
from .text import clean_text, pluralise

Status = Batch.Status


class BatchManager(
    FeedCalls, ForgetCalls, OutageCalls, RedirectCalls, ScheduleCalls, SubscriptionCalls, UndoCalls, WorkerCalls
):
    """Changes batches, lists and the queue in the name of `actor`, who uses `channel`.

    The calls that change lists are in `ListCalls`, and others in `FeedCalls`, `ForgetCalls`, `OutageCalls`,
    `RedirectCalls`, `ScheduleCalls`, `SubscriptionCalls`, `UndoCalls` and `WorkerCalls`.
    """

    # Creating batches

    # A call that stores many rows has two halves, for callers who reveal the rows in their own transaction:
    # `preparing_…` stores them, and yields the call that reveals them. It raises Refused.

    @contextmanager
    def preparing_batch(
        self,
        name: str,
        profiles: Profiles = (),
        priority: int = 0,
        checker: str = "feed",
        queue: bool = True,
        id: uuid.UUID | None = None,
        keep: bool = False,
        count_first: bool = False,
    ) -> Iterator[Callable[[], Batch]]:
        """Create a batch, queued at the end of its priority band or (`queue=False`) paused. All or nothing.

        Unknown addresses become profiles, and duplicates are dropped. A queryset is read when the rows are inserted.
        Nobody sees the batch before its last row is stored.

        If the caller chooses the `id`, repeating the call is safe: the second one is refused as `already_exists`, even
        while the first is still in progress. The admin's form needs this; the API has `Idempotency-Key`, which covers
        every POST and repeats the first answer. With `keep` the batch is the first run of a new list of this name.
        `count_first`: the stories of a profile's first check count as new.
        """
        name = clean_name(name)
        require_priority(priority)
        require_checker(checker)
        require_flag(count_first)
        store_rows = prepare_rows(profiles)
        if keep:
            require_free_name(name)
        batch = Batch(id=id or uuid.uuid4(), name=name, priority=priority, checker=checker, count_first=count_first)
        with hidden(batch):
            total = store_rows(batch)
            if keep:
                with self._preparing_first_run(batch) as reveal_both:
                    yield lambda: reveal_both(total, queue)
            else:
                yield lambda: self._reveal(batch, Action.CREATE_BATCH, total, queue)

    create_batch = at_once(preparing_batch)

    @contextmanager
    def preparing_repeat(self, batch_id: object, id: uuid.UUID | None = None) -> Iterator[Callable[[], Batch]]:
        """Create a queued batch with the same profiles, linked to this one by `previous`.

        A run of a list is repeated with the list's current profiles. If the caller chooses the `id`, a second call is
        refused, as in `create_batch`.
        """
        source = find_batch(batch_id)
        batch = new_batch_of(source.list or source, id)

        def reveal() -> Batch:
            with Queue.objects.locked():
                # Refused if it or its list was deleted during the copy: some rows may be missing.
                find_batch(batch_id)
                if batch.list_id:
                    find_list(batch.list_id)
                # A batch without rows (its caller reports progress) is repeated without rows.
                total = copied if source.list else copied or source.total_profiles
                return self._reveal(batch, Action.REPEAT_BATCH, total, previous=source)

        with hidden(batch):
            copied = copy_profiles(source, batch)
            yield reveal

    repeat_batch = at_once(preparing_repeat)

    @transition(Action.RENAME_BATCH)
    def rename_batch(self, batch: Batch, name: str) -> Literal[True]:
        name = clean_name(name)
        if name != batch.name:
            self._apply(batch, Action.RENAME_BATCH, f"“{batch}” → “{name}”", name=name)
        return True

    # The queue's order

    @transition(Action.QUEUE_BATCH)
    def queue_batch(self, batch: Batch) -> Literal[True]:
        """Queue it at the end of its band. A done batch is checked again, a paused one continues where it stopped."""
        if batch.status == Status.QUEUED:
            return self._move(batch, Batch.objects.end_of_band(batch.priority, batch), Action.QUEUE_BATCH)
        is_done = batch.status == Status.DONE
        changes: dict[str, Any] = COUNTERS_AT_ZERO | {"run_seconds": 0.0} if is_done else {}
        self._enqueue(batch, Action.QUEUE_BATCH, error="", completed_at=None, **changes)
        if is_done:
            self._reset(batch)
        return True

    @transition(Action.MOVE_BATCH)
    def move_batch(self, batch: Batch, position: int) -> Literal[True]:
        """Move a queued batch to `position`, clamped to 1..n, and shift the others."""
        require_position(position)
        return self._move(batch, position, Action.MOVE_BATCH)

    @transition(Action.MOVE_BATCH)
    def move_batch_past(self, batch: Batch, distance: int, fingerprint: str) -> Literal[True]:
        """Move a queued batch by `distance` places if it passes exactly the batches of the `fingerprint_of` the page.

        Unlike with `expected_version`, other changes of the queue do not matter, and the head may have started.
        """
        require_passed(batch, distance, fingerprint)
        return self._move(batch, (batch.position or 0) + distance, Action.MOVE_BATCH)

    @transition(Action.SET_PRIORITY)
    def set_priority(self, batch: Batch, priority: int) -> Literal[True]:
        """Set the priority; a queued batch moves to the end of its new band."""
        require_priority(priority)
        if priority != batch.priority:
            if batch.status == Status.QUEUED:
                Batch.objects.move(batch, Batch.objects.end_of_band(priority, batch))
            self._apply(batch, Action.SET_PRIORITY, f"priority {batch.priority} → {priority}", priority=priority)
        return True

    def reorder_queue(self) -> Literal[True]:
        """Close gaps between the positions, if there are any."""
        with Queue.objects.locked():
            waiting = Batch.objects.queued().count()
            if waiting != Batch.objects.last_position():
                renumber_queue()
                Queue.objects.bump_version()
                self._log(
                    None, Action.REORDER_QUEUE, f"renumbered {pluralise(waiting, 'queued batch', 'queued batches')}"
                )
        return True

    @refusable
    def hold_queue(self, reason: str = "", until: datetime | None = None, stop_running: bool = False) -> Literal[True]:
        """Start no batch until `release_queue`, or until this time.

        The running batch continues. With `stop_running` it waits at position 1 instead, and the release starts it from
        any position, unless somebody has moved, queued, paused, completed or deleted it.
        """
        reason = clean_text(reason, MAX_ERROR).strip()
        require_future(until)
        require_flag(stop_running)
        with Queue.objects.locked() as queue:
            running = lock_running() if stop_running else None
            if running is not None:
                self._interrupt(running, f"stopped by the hold: {reason}" if reason else "stopped by the hold")
            if running or not (queue.held and (queue.hold_reason, queue.held_until) == (reason, until)):
                self._set_hold(reason, until, **({"stopped": running} if running else {}))
        return True

    def release_queue(self) -> Literal[True]:
        """Allow batches to start again. The batch that the hold stopped continues at once."""
        with Queue.objects.locked() as queue:
            if queue.held:
                self._release(queue, queue.hold_reason)
        return True

    # Starting and ending

    @transition(Action.START_BATCH)
    def start_batch(self, batch: Batch, preempt: bool = False) -> Literal[True]:
        """Make it the running batch, for the next worker that claims a run.

        With `preempt` it interrupts the running batch, which goes back to position 1 and continues afterwards.
        """
        running = lock_running()
        require_startable(running, preempt)
        if running is not None:
            self._interrupt(running, f"interrupted by “{batch}”")
            batch.refresh_from_db()  # the others have made room
        self._start(batch, Action.START_BATCH, f"interrupts “{running}”" if running else "")
        return True

    def promote_next_batch(self) -> Batch | None:
        """Start the head of the queue. None if a batch runs, the queue is empty or held."""
        with Queue.objects.locked() as queue:
            self._end_hold(queue)
            batch = None if queue.is_blocked or Batch.objects.running().exists() else lock_head()
            if batch is not None:
                self._start(batch, Action.PROMOTE_NEXT_BATCH)
        return batch

    @transition(Action.PAUSE_BATCH)
    def pause_batch(self, batch: Batch, reason: str = "") -> Literal[True]:
        """Take it out of the queue. Once this commits, no further result of its run is recorded.

        The log has the reason. A batch that is already paused does not change.
        """
        if batch.status != Status.PAUSED:
            self._leave(batch, Action.PAUSE_BATCH, Status.PAUSED, clean_text(reason, MAX_ERROR).strip())
        return True

    @transition(Action.COMPLETE_BATCH)
    def complete_batch(self, batch: Batch) -> Literal[True]:
        """Mark it as done, even if not every profile was checked."""
        self._complete(batch, Action.COMPLETE_BATCH)
        return True

    @transition(Action.HANDLE_ERROR)
    def handle_error(self, batch: Batch, message: object, run_token: uuid.UUID | None = None) -> Literal[True]:
        """Stop it with an error message, cleaned and cut to `MAX_ERROR`.

        A worker passes its `run_token`, so that an ended run cannot stop a later run.
        """
        if run_token is not None and not lease_of(batch.pk, run_token).exists():
            raise Fenced
        self._fail(
            batch, Action.HANDLE_ERROR, clean_text(message, MAX_ERROR).strip() or "Stopped without an error message."
        )
        return True

    @transition(Action.UPDATE_PROGRESS)
    def update_progress(self, batch: Batch, completed: int, successful: int, failed: int) -> Literal[True]:
        """Set the three counters. The batch is done when all profiles are completed.

        Only for batches without rows; otherwise the counters follow from the rows.
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

    @refusable
    def retry_failed(
        self,
        batch_id: object,
        reasons: Iterable[str] | None = None,
        profiles: Iterable[int] | None = None,
        **expected: Any,
    ) -> Literal[True] | Refusal:
        """Make its failed profiles pending again and queue it: all, or those that failed for one of these reasons,
        or those with these IDs. Their results stay as earlier attempts.
        """
        retry = choose_failed(batch_id, reasons, profiles)
        result: Literal[True] | Refusal = self._retry(batch_id, retry, **expected)
        return result

    @transition(Action.RETRY_FAILED)
    def _retry(self, batch: Batch, retry: Retry) -> Literal[True]:
        retry = recount(batch, retry)
        taken = retry.count if retry.takes_all else 0  # of some profiles only: each step adjusts the counters
        self._enqueue(
            batch,
            Action.RETRY_FAILED,
            retry.describe(),
            error="",
            completed_at=None,
            completed_profiles=F("completed_profiles") - taken,
            failed_checks=F("failed_checks") - taken,
        )
        if retry.rows is None:
            self._reset(batch, retry.reasons)
        else:
            reset_failed(batch, retry.find_rows(batch))
        return True

    def _reset(self, batch: Batch, reasons: Sequence[str] | None = None) -> None:
        if begin_reset(batch, reasons=reasons):
            transaction.on_commit(self.finish_resets)

    def finish_resets(self) -> None:
        """Finish all resets: make the remaining rows of batches that are checked again pending."""
        finish_resets()

    def delete_batch(self, batch_id: object, **expected: Any) -> Literal[True] | Refusal:
        """Delete it with its rows and its log. Its stories are kept, so that they never count as new again.

        The batch disappears when the first transaction commits. Its rows follow in small transactions without the
        queue's lock; if that is interrupted, `purge_deleted` completes it.
        """
        return self.delete_batches([batch_id], **expected)[0]

    def delete_batches(
        self, batch_ids: Iterable[object], should_stop: Callable[[], bool] = lambda: False, **expected: Any
    ) -> list[Literal[True] | Refusal]:
        """Delete several batches as `delete_batch` does, with a result for each; their rows follow together."""
        results = [self._delete_batch(batch_id, **expected) for batch_id in paced(batch_ids)]
        if any(results):
            # Inside a transaction of the caller (the admin's delete page), the queue stays locked until its commit.
            transaction.on_commit(partial(self.purge_deleted, should_stop))
        return results

    def purge_deleted(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Remove the rows that deleted batches and lists, and interrupted imports and edits, have left."""
        purge_deleted(should_stop)
        settle_all()

    @transition(Action.DELETE_BATCH)
    def _delete_batch(self, batch: Batch) -> Literal[True]:
        before = batch.status, batch.position
        self._leave_queue(batch, status=Status.PAUSED, position=None, deleted_at=Now())
        Queue.objects.bump_version(batch.pk)
        self._log(
            None,
            Action.DELETE_BATCH,
            f"“{batch}” ({batch.pk}) with {pluralise(batch.total_profiles, 'profile')}",
            before=before,
        )
        return True

    # Repairs of damage that `doctor` finds

    @transition(Action.REPAIR_BATCH)
    def repair_batch(self, batch: Batch) -> Literal[True]:
        """Correct the fields that contradict its status, its rows or its log.

        The status is kept, since a person or a worker set it; position, lease, error and times follow from it. Only a
        second running batch is paused.
        """
        logged = batch.logs.newest_first().values_list("to_status", "to_position").first() or ("", None)
        has_stray_leases = lock_leases(batch) and batch.status != Status.RUNNING
        batch.refresh_from_db()  # with what was just being recorded
        repairs = derive_repairs(batch)
        if repairs or has_stray_leases or logged[0] != batch.status:
            Batch.objects.filter(pk=batch.pk).update(**absorb_leases(batch) | repairs)
            if has_stray_leases or "status" in repairs:
                drop_leases(batch)
            Queue.objects.bump_version()
            batch.refresh_from_db()
            message = describe_repairs(repairs, has_stray_leases)
            self._log(batch, Action.REPAIR_BATCH, message, before=logged, after=(batch.status, batch.position))
            if "status" in repairs:
                self._notify(batch)
        return True

    def repair_rows(self) -> int:
        """Delete rows without a batch or profile, and finish interrupted deletions and resets.

        Returns the number of rows.
        """
        with Queue.objects.locked():
            gone = sum(rows.delete()[0] for rows in find_orphans())
            if gone:
                self._log(None, Action.REPAIR_ROWS, f"deleted {pluralise(gone, 'row')} without a batch or profile")
        for found in find_miscounted():
            self._recount(found.pk)
        self.purge_deleted()
        self.finish_resets()
        return gone
