"""`{% load batches_messages %}`: the filters of `notifications.message_texts` for the templates of messages."""

from batches.notifications.message_texts import register

__all__ = ["register"]
