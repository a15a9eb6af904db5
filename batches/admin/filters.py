"""Filters of the lists."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator, capfirst

from batches import comparison, queries
from batches.batch_manager import find_batch
from batches.models import Batch, BatchProfile
from batches.transitions import Refused

#: The most frequent reasons among which the list of a batch's profiles can be filtered, and how much of each is shown.
REASONS = 10
SHOWN_REASON = 60


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


class OutcomeFilter(admin.ChoicesFieldListFilter):
    """Named as the batch's page names it, so that it is not taken for the batch's status."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "outcome"


class OfBatchFilter(admin.SimpleListFilter):
    """One that is offered only while the rows of one batch are looked at."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        self.batch = asked_for(request)
        offered = dict(self.offered(self.batch)) if self.batch else {}
        value = self.value()
        if value is not None:
            offered.setdefault(value, Truncator(value).chars(SHOWN_REASON))
        return list(offered.items())

    def offered(self, batch: Batch) -> list[tuple[str, str]]:
        raise NotImplementedError


class ErrorFilter(OfBatchFilter):
    """The profiles that failed for one reason; the batch's most frequent ones are offered."""

    title = "error"
    parameter_name = "error"

    def offered(self, batch: Batch) -> list[tuple[str, str]]:
        return [
            (reason, f"{Truncator(reason).chars(SHOWN_REASON)} ({count:,})")
            for reason, count in queries.failure_reasons(batch, REASONS)
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(status=BatchProfile.Status.FAILED, error=self.value())


class ChangeFilter(OfBatchFilter):
    """What became of the profiles of a repeat since the batch before."""

    title = "change since the batch before"
    parameter_name = "change"

    def offered(self, batch: Batch) -> list[tuple[str, str]]:
        return [(change.value, capfirst(change.label)) for change in comparison.Change] if batch.previous_id else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if self.batch is None or value not in comparison.Change.values:
            return queryset.none()
        previous = comparison.previous_of(self.batch)
        return comparison.with_change(queryset, previous, comparison.Change(value))


def asked_for(request: HttpRequest) -> Batch | None:
    """The batch whose rows are looked at, if it is one."""
    try:
        return find_batch(request.GET.get(BatchFilter.parameter_name))
    except Refused:
        return None
