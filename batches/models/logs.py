"""The audit trail: who changed what, through which channel."""

from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_ACTION, MAX_ACTOR, MAX_STATUS


class Channel(models.TextChoices):
    """How a change came in."""

    ADMIN = "admin", _("Admin")
    API = "api", _("Api")
    COMMAND = "command", _("Command")
    WORKER = "worker", _("Worker")
    CODE = "code", _("Code")


class BatchLogQuerySet(models.QuerySet["BatchLog"]):
    def newest_first(self) -> Self:
        return self.order_by("-pk")

    def changes(self) -> Self:
        """The entries about changes of a status or a position, newest first."""
        stays = Q(from_position=F("to_position")) | Q(from_position=None, to_position=None)
        return self.exclude(stays, from_status=F("to_status")).newest_first()


class BatchLog(models.Model):
    """A change of a batch or a list, or (without them) of the queue: written in the transaction of the change."""

    batch = models.ForeignKey("Batch", models.CASCADE, null=True, related_name="logs", db_index=False)
    list = models.ForeignKey("ProfileList", models.SET_NULL, null=True, related_name="logs", db_index=False)
    action = models.CharField(max_length=MAX_ACTION)
    actor = models.CharField(max_length=MAX_ACTOR, blank=True)
    channel = models.CharField(max_length=MAX_STATUS, choices=Channel, default=Channel.CODE)
    from_status = models.CharField(max_length=MAX_STATUS, blank=True)
    to_status = models.CharField(max_length=MAX_STATUS, blank=True)
    from_position = models.IntegerField(null=True)
    to_position = models.IntegerField(null=True)
    message = models.TextField(blank=True)
    created_at = models.DateTimeField(_("time"), default=timezone.now)

    objects = models.Manager.from_queryset(BatchLogQuerySet)()

    class Meta:
        verbose_name = _("log entry")
        verbose_name_plural = _("log entries")
        indexes = [
            models.Index(fields=["batch", "id"], name="batchlog_keyset"),
            models.Index(fields=["list", "id"], name="batchlog_of_list", condition=Q(list__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S} {self.action}"
