"""`{% load batches_messages %}`: the filters of `notifications.letters` for the templates of messages."""

from batches.notifications.letters import register

__all__ = ["register"]
