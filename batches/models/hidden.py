"""Rows that are invisible while their parts are stored or removed in small steps.

They can be purged after `deleted_at`. It is in the future while they are being stored: a caller that stops renewing it
loses them.
"""

from typing import Self, TypeVar

from django.db import models
from django.db.models.functions import Now

M = TypeVar("M", bound=models.Model)


class HideableQuerySet(models.QuerySet[M]):
    def to_purge(self) -> Self:
        """Deleted rows, and rows that were never completed."""
        return self.filter(deleted_at__lte=Now())

    def in_preparation(self) -> Self:
        return self.filter(deleted_at__gt=Now())
