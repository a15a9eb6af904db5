"""The actions, by the names that the log stores."""

from django.db import models
from django.utils.translation import gettext_lazy as _


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
    RELEASE_RUN = "release_run", _("Released")
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
