"""`{% load batches_terminal %}`: the filters of `management.output` for the templates of the commands."""

from batches.management.output import register

__all__ = ["register"]
