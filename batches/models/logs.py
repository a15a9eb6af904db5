"""The audit trail: who changed what, through which channel."""

from typing import Self

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from batches.limits import MAX_ACTION, MAX_ACTOR, MAX_STATUS


class Action(models.TextChoices):
    """The call of BatchManager that the log names, or the part of it that made the change. Pages show the label."""

    CREATE_BATCH = "create_batch", _("Created")
    REPEAT_BATCH = "repeat_batch", _("Created as a new run")
    RENAME_BATCH = "rename_batch", _("Renamed")
    SET_PRIORITY = "set_priority", _("Priority changed")
    QUEUE_BATCH = "queue_batch", _("Queued")
    MOVE_BATCH = "move_batch", _("Moved in the queue")
    START_BATCH = "start_batch", _("Started")
    INTERRUPT_BATCH = "interrupt_batch", _("Interrupted")
    PROMOTE_NEXT_BATCH = "promote_next_batch", _("Started in its turn")
    PAUSE_BATCH = "pause_batch", _("Paused")
    COMPLETE_BATCH = "complete_batch", _("Completed")
    HANDLE_ERROR = "handle_error", _("Stopped with an error")
    UPDATE_PROGRESS = "update_progress", _("Progress reported")
    RETRY_FAILED = "retry_failed", _("Queued again")
    UNDO_CHANGE = "undo_change", _("Change undone")
    DELETE_BATCH = "delete_batch", _("Batch deleted")
    HOLD_QUEUE = "hold_queue", _("Queue held")
    RELEASE_QUEUE = "release_queue", _("Queue released")
    REORDER_QUEUE = "reorder_queue", _("Queue renumbered")
    CLAIM_RUN = "claim_run", _("Claimed")
    TAKE_OVER = "take_over", _("Taken over")
    RELEASE_RUN = "release_run", _("Left")
    FINISH_RUN = "finish_run", _("Done")
    REPAIR_BATCH = "repair_batch", _("Repaired")
    REPAIR_ROWS = "repair_rows", _("Rows repaired")
    CREATE_LIST = "create_list", _("List created")
    CHANGE_LIST = "change_list", _("List changed")
    ADD_PROFILES = "add_profiles", _("Profiles added")
    REMOVE_PROFILES = "remove_profiles", _("Profiles removed")
    CORRECT_ADDRESS = "correct_address", _("Address corrected")
    SYNC_LIST = "sync_list", _("Profiles replaced")
    RUN_LIST = "run_list", _("Created as a run of its list")
    DELETE_LIST = "delete_list", _("List deleted")
    ACCEPT_REDIRECT = "accept_redirect", _("Redirect accepted")
    FORGET_PROFILE = "forget_profile", _("Profile forgotten")
    SUBSCRIBE = "subscribe", _("Subscribed")
    CHANGE_SUBSCRIPTION = "change_subscription", _("Subscription changed")
    UNSUBSCRIBE = "unsubscribe", _("Unsubscribed")
    CREATE_FEED = "create_feed", _("Feed created")
    REVOKE_FEED = "revoke_feed", _("Feed revoked")


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
