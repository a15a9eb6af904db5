"""The partitions of the running batch, and the leases of the workers that share them.

Both exist only while the batch runs: leaving that status ends its leases in the same transaction. `EndedLease` then
remembers the partitions in which workers may still have running checks.
"""

import uuid
from typing import Self

from django.db import models
from django.db.models import Q

from batches.limits import MAX_ACTOR, MAX_HOST, MAX_VERSION, PARTITIONS

from .batches import Batch
from .workers import is_in_time


class LeaseQuerySet(models.QuerySet["Lease"]):
    def live(self) -> Self:
        return self.filter(is_in_time("lease_at"))

    def expired(self) -> Self:
        return self.exclude(is_in_time("lease_at"))


class Lease(models.Model):
    """One worker's part in a run: it owns partitions until it releases them or its heartbeats stop.

    When it ends, its counts are added to the batch. Until then every SELECT of the batch adds them, see `counters`.
    """

    run_token = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    batch = models.ForeignKey(Batch, models.CASCADE, related_name="leases")
    worker = models.CharField(max_length=MAX_ACTOR)
    #: The version of this software that the worker runs.
    version = models.CharField(max_length=MAX_VERSION, blank=True, db_default="")
    lease_at = models.DateTimeField("last heartbeat")
    run_seconds = models.FloatField(default=0.0)
    successful_checks = models.PositiveIntegerField("ok", default=0)
    failed_checks = models.PositiveIntegerField("failed", default=0)
    stories_found = models.PositiveIntegerField("new stories", default=0)

    objects = models.Manager.from_queryset(LeaseQuerySet)()

    def __str__(self) -> str:
        return f"{self.batch_id} by {self.worker}"


class Partition(models.Model):
    """The rows of a running batch with this partition number, until all of them are checked.

    All profiles of a registrable domain are in the same one, and only the worker that leases it checks them. So a
    limit that holds in one process holds across all.
    """

    batch = models.ForeignKey(Batch, models.CASCADE, related_name="partitions", db_index=False)
    number = models.PositiveSmallIntegerField()
    lease = models.ForeignKey(Lease, models.SET_NULL, null=True, blank=True, related_name="partitions", db_index=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["batch", "number"], name="one_row_per_partition"),
            models.CheckConstraint(name="partition_number_known", condition=Q(number__gte=0, number__lt=PARTITIONS)),
        ]

    def __str__(self) -> str:
        return f"{self.batch_id}/{self.number}"


class Loan(models.Model):
    """A worker's wish for a slot of a domain in another worker's partition, because a redirect led there.

    While it is granted, the worker may send one request at once to the domain, and its owner one less.
    """

    lease = models.ForeignKey(Lease, models.CASCADE, related_name="loans", db_index=False)
    domain = models.CharField(max_length=MAX_HOST)
    partition = models.PositiveSmallIntegerField()
    is_granted = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lease", "domain"], name="one_wish_per_domain"),
            models.UniqueConstraint(fields=["domain"], condition=Q(is_granted=True), name="one_loan_per_domain"),
            models.CheckConstraint(
                name="loan_partition_known", condition=Q(partition__gte=0, partition__lt=PARTITIONS)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.domain} for {self.lease_id}"


class EndedLease(models.Model):
    """A lease that was ended for its worker, by a pause for example. The worker learns this with its next heartbeat.

    Nobody gets these partitions of any batch until the worker has ended its checks and looks for work again, or the
    lease would have expired: otherwise their domains would be checked twice at once. A partition number stands for the
    same domains in all batches.
    """

    worker = models.CharField(max_length=MAX_ACTOR)
    partitions = models.JSONField(default=list)
    until = models.DateTimeField(help_text="The lease would have expired then.")

    def __str__(self) -> str:
        return f"{self.worker} until {self.until}"
