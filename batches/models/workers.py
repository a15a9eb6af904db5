"""Worker processes and their heartbeats: idle ones, busy ones, and those that have died."""

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from batches.conf import get_config
from batches.limits import MAX_ACTOR, MAX_VERSION


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> Self:
        return self.filter(is_alive())

    def expected(self) -> Self:
        """The workers that have not ended in order. Some of them may have died."""
        return self.filter(ended_at=None)

    def last_seen(self) -> "Worker | None":
        """The worker with the latest heartbeat, which says whether any worker is alive."""
        return self.filter(is_not_ahead()).order_by("-seen_at").first()


def is_alive() -> Q:
    """Whether it is alive: it has sent a heartbeat recently, and has not ended in order."""
    return is_in_time("seen_at") & (Q(ended_at=None) | Q(ended_at__gt=Now()))


def is_in_time(field: str) -> Q:
    """Whether the heartbeat in this field is within the lease, by the database's clock."""
    return is_not_ahead(field) & Q(**{f"{field}__gte": Now() - timedelta(seconds=get_config().lease_seconds)})


def is_not_ahead(field: str = "seen_at") -> Q:
    """Whether the heartbeat is not too far in the future: the worker has died before the clock was set back."""
    return Q(**{f"{field}__lte": Now() + timedelta(seconds=get_config().lease_seconds)})


class Worker(models.Model):
    """A process that looks for work. Its current work is in `Lease`.

    Only its own heartbeats write the row, without any lock. The row is kept when the process ends, since it may have
    the latest heartbeat of all. A worker that starts a day later deletes it.
    """

    name = models.CharField(primary_key=True, max_length=MAX_ACTOR)
    #: The version of this software that it runs.
    version = models.CharField(max_length=MAX_VERSION, blank=True)
    started_at = models.DateTimeField()
    # Without an index, so that PostgreSQL's updates are HOT. The table has at most some thousand rows.
    seen_at = models.DateTimeField("last heartbeat")
    #: The time when it ended in order, or will end. No heartbeats are expected after it.
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = models.Manager.from_queryset(WorkerQuerySet)()

    class Meta:
        default_permissions = ()  # the permission to view batches is enough

    def __str__(self) -> str:
        return self.name
