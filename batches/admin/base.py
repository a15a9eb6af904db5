"""What all lists of the admin have in common."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db import DataError
from django.db.models import Model
from django.http import HttpRequest


class ListAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list that stays quick with a million rows, and takes any query string."""

    list_per_page = 100
    # Counts per filter read the whole table once for each.
    show_facets = admin.ShowFacets.NEVER

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)
        except (DataError, ValueError) as error:
            # Django checks a filter's value as far as Python can; NUL on PostgreSQL and the year 999999 fail when the
            # query runs.
            raise IncorrectLookupParameters from error


class ReadOnlyAdmin(ListAdmin):
    ordering = ("-pk",)
    # Counting a million rows once is enough.
    show_full_result_count = False
    # No index would help; the newest rows are those that are looked for.
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
