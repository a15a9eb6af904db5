"""The one row that is locked for every change of order or status."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from django.db import models, transaction
from django.db.models import F, Q, UUIDField, Value
from django.db.models.functions import NullIf
from django.utils import timezone

from batches.limits import MAX_ACTOR
from batches.metrics import LOCK_HELD, LOCK_WAIT
from batches.text import Sentence, join

#: The sentence that a page or a command adds to the reason of a hold for an outage.
END_OF_OUTAGE = Sentence("It is released as soon as sites answer again.")


class QueueManager(models.Manager["Queue"]):
    @contextmanager
    def locked(self) -> Iterator["Queue"]:
        """A transaction that locks the queue: on PostgreSQL by the row's lock, on SQLite by BEGIN IMMEDIATE."""
        began = perf_counter()
        with transaction.atomic():
            queue = self.select_for_update(no_key=True).first()
            if queue is None:  # a restored dump or a flushed test database may lack it
                self.get_or_create(pk=Queue.THE_ONE)
                queue = self.select_for_update(no_key=True).get()
            locked = perf_counter()
            LOCK_WAIT.observe(locked - began)
            yield queue
        LOCK_HELD.observe(perf_counter() - locked)

    def read_version(self) -> int:
        return self.values_list("version", flat=True).first() or 0

    def bump_version(self, decided: uuid.UUID | None = None) -> None:
        """Note that the order or a status has changed. `decided` is the batch that a person changed.

        Call it under the lock.
        """
        others = {"stopped": NullIf(F("stopped"), Value(decided, UUIDField()))} if decided else {}
        self.update(version=F("version") + 1, **others)


class Queue(models.Model):
    """The one row that is locked for every change of order or status."""

    THE_ONE = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=THE_ONE, editable=False)
    #: Grows with every change of order or status. A move that was decided from an older version can be refused.
    version = models.PositiveBigIntegerField(default=0)
    held = models.BooleanField(default=False)
    held_by = models.CharField(max_length=MAX_ACTOR, blank=True)
    held_at = models.DateTimeField(null=True, blank=True)
    #: When a worker releases it. NULL: a person must release it.
    held_until = models.DateTimeField(null=True, blank=True)
    hold_reason = models.TextField(blank=True)
    #: The batch that the hold stopped. The release starts it, unless somebody has moved or changed it since.
    stopped = models.ForeignKey(  # one row needs no index
        "Batch", models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    #: The time when a worker detected an outage of our own. Workers release the queue when hosts answer again.
    outage_since = models.DateTimeField(null=True, blank=True)
    #: The last time that a worker probed hosts during an outage.
    probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: The last time that a worker looked for work.
    looked_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: The last time that a worker found no free partition of the running batch.
    wanted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = QueueManager()

    class Meta:
        constraints = [
            models.CheckConstraint(name="only_one_queue", condition=Q(id=1)),
            models.CheckConstraint(
                name="queue_is_held_during_an_outage", condition=Q(outage_since__isnull=True) | Q(held=True)
            ),
            models.CheckConstraint(
                name="queue_is_held_while_a_batch_is_stopped", condition=Q(stopped__isnull=True) | Q(held=True)
            ),
        ]

    def __str__(self) -> str:
        return "the queue"

    @property
    def why_held(self) -> str:
        return self.explain_hold(self.hold_reason)

    def explain_hold(self, reason: str) -> str:
        """The reason as pages and commands show it, with the batch that it stopped, and the end of an outage of our
        own.
        """
        more = []
        if self.stopped:
            more.append(Sentence("“%(batch)s” is stopped until the release.", batch=self.stopped))
        if self.outage_since:
            more.append(END_OF_OUTAGE)
        if not reason:
            return join(more, " ")
        return join([f"{reason.rstrip('.')}.", *more], " ") if more else reason

    @property
    def hold_is_over(self) -> bool:
        """Whether its end has passed, although no worker has released it yet."""
        return self.held and self.held_until is not None and self.held_until <= timezone.now()

    @property
    def is_blocked(self) -> bool:
        """Whether no batch can start."""
        return self.held and not self.hold_is_over
