"""What a list can be asked for: filters, search, order and page. Everything else is refused, never ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import F, Q, QuerySet
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request

from batches.models import MAX_NAME, MAX_PRIORITY, MIN_PRIORITY, Batch

#: Unknown parameters that an error names.
SHOWN_UNKNOWN = 10


class IntegerFilter(filters.Filter):  # type: ignore[misc]
    field_class = forms.IntegerField


class MomentField(IsoDateTimeField):  # type: ignore[misc]
    def clean(self, value: Any) -> datetime | None:
        moment: datetime | None = super().clean(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:  # the first or last day of the calendar, which is not yet or no more in UTC
            raise forms.ValidationError("This time is out of range.") from error


class MomentFilter(filters.Filter):  # type: ignore[misc]
    """A time in ISO 8601; without an offset it is in the time zone of the settings."""

    field_class = MomentField


class SameOrderEverywhere(filters.OrderingFilter):  # type: ignore[misc]
    """Rows without a value come last and ties keep one order, whatever the database and the direction."""

    def filter(self, rows: QuerySet[Any], value: list[str] | None) -> QuerySet[Any]:
        if not value:
            return rows
        terms = [self.get_ordering_value(term) for term in value]
        return rows.order_by(
            *(
                F(term[1:]).desc(nulls_last=True) if term.startswith("-") else F(term).asc(nulls_last=True)
                for term in terms
            ),
            "pk",
        )


class BatchFilters(filters.FilterSet):  # type: ignore[misc]
    """`status` may be given several times; ranges include their ends; `search` wants each of its words somewhere."""

    status = filters.MultipleChoiceFilter(choices=Batch.Status.choices, distinct=False)
    priority = IntegerFilter(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY)
    checker = filters.CharFilter(max_length=50)
    name = filters.CharFilter(lookup_expr="icontains", max_length=MAX_NAME)
    created_after = MomentFilter("created_at", "gte")
    created_before = MomentFilter("created_at", "lte")
    completed_after = MomentFilter("completed_at", "gte")
    completed_before = MomentFilter("completed_at", "lte")
    search = filters.CharFilter(method="filter_search", max_length=MAX_NAME)
    ordering = SameOrderEverywhere(
        fields=["position", "name", "status", "priority", "total_profiles", "created_at", "started_at", "completed_at"]
    )

    class Meta:
        model = Batch
        fields: list[str] = []

    def filter_search(self, batches: QuerySet[Batch], name: str, text: str) -> QuerySet[Batch]:
        for word in text.split():
            batches = batches.filter(Q(name__icontains=word) | Q(checker__icontains=word) | Q(error__icontains=word))
        return batches


class Pages(PageNumberPagination):
    """50 to a page, or `page_size`, which is at most 200."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        return whole_number(request, "page_size", default=self.page_size, highest=self.max_page_size)

    def get_page_number(self, request: Request, paginator: Any) -> int:
        return whole_number(request, "page", default=1)


class KnownParameters(filters.DjangoFilterBackend):  # type: ignore[misc]
    """The view's filters; 400 for a query parameter that neither they nor the pages know."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        known = view.filterset_class.base_filters.keys() | {"page", "page_size"}
        if unknown := sorted(request.query_params.keys() - known):
            message = f"There is no such parameter, only {', '.join(sorted(known))}."
            raise ValidationError({name: [message] for name in unknown[:SHOWN_UNKNOWN]})
        return super().filter_queryset(request, queryset, view)  # type: ignore[no-any-return]


def whole_number(request: Request, name: str, *, default: int, highest: int | None = None) -> int:
    """The query parameter as a number from 1 to `highest`. Raises ValidationError that names it."""
    if name not in request.query_params:
        return default
    try:
        return int(forms.IntegerField(min_value=1, max_value=highest).clean(request.query_params[name]))
    except forms.ValidationError as error:
        raise ValidationError({name: error.messages}) from error
