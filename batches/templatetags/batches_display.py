"""`{% load batches_display %}`: the filters of `admin.display` and `admin.actions` for the templates."""

from batches.admin.display import register

__all__ = ["register"]
