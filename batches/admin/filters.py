"""Filters of the lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

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


class ChoiceFilter(admin.SimpleListFilter):
    """One of some named conditions. A value that is none of them is refused: a batch may be made of what matches."""

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        """Label and condition by the value in the address."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, label) for value, (label, _) in self.conditions().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        try:
            return queryset.filter(self.conditions()[value][1])
        except KeyError as error:
            raise IncorrectLookupParameters from error


class OutcomeFilter(ChoiceFilter):
    title = "last check"
    parameter_name = "check"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {
            "never": ("Never checked", Q(last_checked_at=None)),
            "ok": ("Ok", Q(last_checked_at__isnull=False, last_error="")),
            "failed": ("Failed", ~Q(last_error="")),
        }


class CheckAgeFilter(ChoiceFilter):
    title = "time since last check"
    parameter_name = "unchecked_days"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {str(days): (label, not_since("last_checked_at", days)) for days, label in AGES.items()}


class StoryAgeFilter(ChoiceFilter):
    title = "time since last new story"
    parameter_name = "quiet_days"

    def conditions(self) -> Mapping[str, tuple[str, Q]]:
        return {str(days): (label, not_since("last_story_at", days)) for days, label in AGES.items()}


AGES = {1: "More than a day", 7: "More than a week", 30: "More than a month", 365: "More than a year"}


def not_since(field: str, days: int) -> Q:
    """That it happened longer ago than that, or never."""
    return Q(**{field: None}) | Q(**{f"{field}__lt": timezone.now() - timedelta(days=days)})


class HostFilter(admin.SimpleListFilter):
    """The profiles of one host, to which each profile's page links: `?host=example.org`. In sight only while in use."""

    title = "host"
    parameter_name = "host"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        value = self.value()
        return [] if value is None else [(value, value)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        return queryset.filter(at_host(value))


def at_host(host: str) -> Q:
    """That an address begins with this host, by either scheme. PostgreSQL finds it in the index; SQLite reads all."""
    return Q(url__startswith=f"http://{host}/") | Q(url__startswith=f"https://{host}/")
