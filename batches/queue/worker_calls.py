"""The calls of workers: claim a part of the running batch, record, renew, lease more, release, finish.

The first claim starts a run. Other workers join it while there are free partitions, and the worker that finds nothing
pending finishes it.
"""

import uuid
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from batches.checking.checkers.base import CheckResult
from batches.conf import get_config
from batches.limits import MAX_ACTOR
from batches.models import Action, Batch, Lease, Queue, StoryResult
from batches.text import Sentence, clean_text, pluralise

from . import workers
from .leases import (
    ClaimedRun,
    Workers,
    count_workers,
    end_expired,
    end_leases,
    has_pending,
    join_run,
    lease_of,
    lock_head,
    lock_leases,
    lock_running,
    renew_lease,
)
from .loans import Exchange, exchange
from .partitions import end_checks, lease_free_partitions, return_partitions
from .refusals import Code, Refused, refusable
from .results import record
from .sql import taking_turns
from .writer import QueueWriter, run_call

Status = Batch.Status


class WorkerCalls(QueueWriter):
    def claim_run(self, worker: str, processes: int = 1, is_task: bool = False) -> ClaimedRun | None:
        """Claim the share of one of `processes` in the running batch, or start the next batch.

        None if there is nothing to do yet. A worker that claims must have no running checks of earlier runs. Tasks
        start and end every half minute, so their claims are not logged.
        """
        worker = clean_text(worker, MAX_ACTOR)
        workers.note_worker(worker)
        with Queue.objects.locked() as queue:
            self._refresh_queue(queue)
            end_checks(worker)
            running = lock_running()
            if running is not None and running.reset_after is not None:
                return None
            if running is not None:
                claimed = self._join(running, worker, processes, is_task)
                if claimed or running.status == Status.RUNNING:
                    return claimed
            head = self._promote_head(queue, worker)
            return join_run(head, worker, processes) if head else None

    def ensure_run(self, worker: str, limit: int) -> Workers:
        """Promote the next batch if none is running. Returns how many workers the run has and can use, of `limit`.

        The caller sends tasks to other processes, so it need not send heartbeats.
        """
        worker = clean_text(worker, MAX_ACTOR)
        workers.note_visit(worker)
        with Queue.objects.locked() as queue:
            self._refresh_queue(queue)
            batch = lock_running() or self._promote_head(queue, worker)
            return count_workers(batch, limit) if batch else Workers(0, 0)

    def _refresh_queue(self, queue: Queue) -> None:
        Queue.objects.update(looked_at=Now())
        self._end_hold(queue)

    def _promote_head(self, queue: Queue, worker: str) -> Batch | None:
        head = None if queue.is_blocked else lock_head()
        if head is None or head.reset_after is not None:
            return None
        self._start(head, Action.PROMOTE_NEXT_BATCH, f"by worker {worker}")
        return head

    def _join(self, batch: Batch, worker: str, processes: int, is_task: bool) -> ClaimedRun | None:
        """Join the run, or stop a batch that was taken over too often without progress."""
        takeovers = end_expired(batch)
        if takeovers > get_config().max_takeovers:
            message = f"{takeovers} workers in a row sent no heartbeat, and the batch made no progress."
            self._fail(batch, Action.TAKE_OVER, message)
            return None
        claimed = join_run(batch, worker, processes)
        if claimed and takeovers:
            message = f"by worker {worker}: no heartbeat from the previous worker"
            self._apply(batch, Action.TAKE_OVER, message, takeovers=takeovers)
        elif claimed and not is_task:
            self._apply(batch, Action.CLAIM_RUN, f"by worker {worker}")
        return claimed

    @refusable
    def record_results(
        self, batch_id: object, run_token: uuid.UUID, results: Iterable[tuple[int, CheckResult]]
    ) -> Literal[True]:
        """Record the (profile_id, result) pairs of a run and renew its lease. All or nothing.

        Ignores results for profiles that already have one, so recording twice is safe, and for profiles in partitions
        of others. Takes neither the lock of the queue nor that of the batch.
        """
        by_profile = dict(results)
        with taking_turns(), transaction.atomic():
            renew_lease(batch_id, run_token)
            record(uuid.UUID(str(batch_id)), run_token, by_profile)
        return True

    @refusable
    def renew_lease(self, batch_id: object, run_token: uuid.UUID) -> Literal[True]:
        """The heartbeat of the run's worker."""
        renew_lease(batch_id, run_token)
        for worker in lease_of(batch_id, run_token).values_list("worker", flat=True):
            workers.note_worker(worker)
        return True

    def remove_old(self, old: QuerySet[Any], ids: Sequence[Any]) -> None:
        """Prune these rows, unless they are no longer old, or another transaction has locked them.

        A story is emptied instead: its ID is kept, so that it never counts as new again.
        """
        with taking_turns(), transaction.atomic():
            unlocked = old.order_by("pk").filter(pk__in=ids).select_for_update(skip_locked=True, of=("self",))
            rows = old.model._base_manager.filter(pk__in=[row.pk for row in unlocked.only("pk")])
            if old.model is StoryResult:
                rows.update(title="", url="", published_at=None, found_at=None)
            else:
                rows.delete()

    def start_worker(self, worker: str) -> None:
        """Note that a worker looks for work from now on. Called once; short-lived processes need not call it."""
        workers.start_worker(clean_text(worker, MAX_ACTOR))

    def note_worker(self, worker: str) -> None:
        """The heartbeat of an idle worker. Busy ones renew their lease instead."""
        workers.note_worker(clean_text(worker, MAX_ACTOR))

    def end_worker(self, worker: str) -> None:
        """Note that a worker claims nothing more, and has no running checks."""
        worker = clean_text(worker, MAX_ACTOR)
        end_checks(worker)
        workers.end_worker(worker)

    @refusable
    def share_run(
        self,
        batch_id: object,
        run_token: uuid.UUID,
        wanted: Collection[str] = (),
        spare: Collection[str] = (),
        checked: Iterable[int] = (),
        released: Iterable[int] = (),
        processes: int = 0,
    ) -> Exchange:
        """Return partitions, lease the share of one of `processes` in the free ones, and exchange slots of domains.

        `wanted` are all domains of others that it needs or uses: other loans end. `spare` are its own domains with a
        slot that it keeps free, see `queue/loans.py`. `checked` are the partitions in which nothing is pending,
        `released` those for others. A caller that lost the response can repeat the call.
        """
        with transaction.atomic():
            renew_lease(batch_id, run_token)
            lease = lease_of(batch_id, run_token).get()
            return_partitions(lease, checked, released)
            if processes:
                lease_free_partitions(lease, processes)
            return exchange(lease, wanted, spare)

    @run_call
    def release_run(
        self, batch: Batch, lease: Lease, checked: Iterable[int] = (), is_task: bool = False
    ) -> Literal[True]:
        """Release a run, so that the next worker continues at once instead of waiting for the lease to expire.

        `checked` are the partitions in which nothing is pending.
        """
        lock_leases(batch)  # before the partitions, as in `share_run`
        return_partitions(lease, checked, ())
        end_leases(batch, [lease.pk])
        if not is_task:
            self._apply(batch, Action.RELEASE_RUN, f"by worker {lease.worker}")
        return True

    @run_call
    def finish_run(self, batch: Batch, lease: Lease) -> Literal[True]:
        """Complete a run without pending profiles.

        A batch that expects profiles but has no rows goes to `error`, since nothing was checked.
        """
        is_short = batch.completed_profiles < batch.total_profiles
        if is_short and (batch.leases.exclude(pk=lease.pk).exists() or has_pending(batch)):
            raise Refused(Code.NOT_FINISHED, Sentence("“%(batch)s” still has pending profiles.", batch=batch))
        if is_short and not batch.has_rows:
            message = f"The batch expects {pluralise(batch.total_profiles, 'profile')} but has no rows to check."
            self._fail(batch, Action.FINISH_RUN, message)
        else:
            self._complete(batch, Action.FINISH_RUN, explain_end(batch))
        return True


def explain_end(batch: Batch) -> str:
    """The reason why a run that has checked nothing is done."""
    if not batch.total_profiles:
        return "The batch has no profiles."
    return "Every profile rests." if batch.skipped_profiles == batch.total_profiles else ""
