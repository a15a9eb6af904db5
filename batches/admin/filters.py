"""Filters of the lists."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from batches.batch_manager import find_batch
from batches.models import Batch
from batches.transitions import Refused


class BatchFilter(admin.SimpleListFilter):
    """The rows of one batch, to which its page links: `?batch=<id>`. In sight only while it is in use."""

    title = "batch"
    parameter_name = "batch"
    batch: Batch | None = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = self.value()
        if value is None:
            return []
        try:
            self.batch = find_batch(value)
        except Refused:
            return [(value, "unknown")]
        return [(value, str(self.batch))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(batch=self.batch) if self.batch else queryset.none()
