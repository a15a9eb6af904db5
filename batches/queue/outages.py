"""An outage of our own: the run stops, and unreachable profiles are not recorded as failed."""

from datetime import datetime, timedelta
from typing import Literal

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from batches.limits import MAX_ERROR
from batches.models import Action, Batch, BatchLog, Channel, Lease, Queue
from batches.text import clean_text

from .resets import begin_reset, continue_reset
from .writer import QueueWriter, run_call


class OutageCalls(QueueWriter):
    @run_call
    def report_outage(self, batch: Batch, lease: Lease, reason: str, since: datetime) -> Literal[True]:
        """Stop a run because the machine of its worker is offline, and hold the queue until `end_outage`.

        The batch goes back to position 1. Rows that failed without an answer since this time become pending again,
        whichever worker checked them: the first ones now, the others in bounded transactions, before any worker can
        claim the batch. An existing hold is not changed.
        """
        reason = clean_text(reason, MAX_ERROR)
        is_held = Queue.objects.get().is_blocked
        self._interrupt(batch, reason)
        if begin_reset(batch, since):
            transaction.on_commit(lambda: continue_reset(batch.pk))
        if not is_held:
            now = timezone.now()
            self._set_hold(reason, held_at=now, outage_since=now, probed_at=Now())
        return True

    def end_outage(self) -> Literal[True]:
        """Release the queue if it is held for an outage: hosts answer again."""
        with Queue.objects.locked() as queue:
            if queue.outage_since is not None:
                self._release(queue, "This machine is online again.")
        return True


def take_probe(seconds: float) -> bool:
    """Whether the queue is held for an outage, and it is this worker's turn to probe, once in `seconds`."""
    held = Queue.objects.filter(outage_since__isnull=False)
    interval = timedelta(seconds=seconds)
    due = held.exclude(probed_at__range=(Now() - interval, Now() + interval))
    return held.exists() and due.update(probed_at=Now()) > 0


def have_others_continued() -> bool:
    """Whether another worker has released the queue, so it is online, and nobody has held the queue since."""
    released = BatchLog.objects.filter(action=Action.RELEASE_QUEUE).order_by("-pk").first()
    return released is not None and released.channel == Channel.WORKER and not Queue.objects.filter(held=True).exists()
