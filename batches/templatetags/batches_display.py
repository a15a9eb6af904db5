"""`{% load batches_display %}`: the filters of the admin for the templates."""

from batches.admin.display import register

__all__ = ["register"]
