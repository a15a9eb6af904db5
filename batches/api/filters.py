"""What a list can be asked for: filters, search and order. Everything else is refused, never ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import F, Q, QuerySet
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from batches.limits import MAX_ACTION, MAX_ACTOR, MAX_CHECKER, MAX_ERROR, MAX_NAME, MAX_PRIORITY, MIN_PRIORITY
from batches.lists.addresses import InvalidAddress, address_prefixes
from batches.models import Batch, BatchLog, BatchProfile, Channel, Profile, StoryResult
from batches.reports.comparison import Change, find_changed_rows
from batches.reports.queries import at_host

from . import pagination

#: Unknown parameters that an error names.
SHOWN_UNKNOWN = 10

#: Characters of a host name and its port.
MAX_HOST = 260

MAX_ID = 2**63 - 1


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


class FlagFilter(filters.ChoiceFilter):  # type: ignore[misc]
    """`true` or `false`. The library's own takes any other word for "do not filter"."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, choices=[("true", "true"), ("false", "false")], empty_label=None, **options)

    def filter(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        return super().filter(rows, value and value == "true")  # type: ignore[no-any-return]


class HostField(forms.CharField):
    """A host name or address, perhaps with a port."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=MAX_HOST, **options)

    def clean(self, value: Any) -> str:
        host: str = super().clean(value)
        try:
            if host:
                address_prefixes(host)
        except InvalidAddress as error:
            raise forms.ValidationError(str(error)) from error
        return host


class HostFilter(filters.Filter):  # type: ignore[misc]
    """Profiles of a host, at any port unless one is given; `field_name` is their address."""

    field_class = HostField

    def filter(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        return rows.filter(at_host(self.field_name, value)) if value else rows


class SearchFilter(filters.CharFilter):  # type: ignore[misc]
    """Rows that have each of the words somewhere in the fields."""

    def __init__(self, *fields: str, **options: Any) -> None:
        super().__init__(max_length=MAX_NAME, **options)
        self.fields = fields

    def filter(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        for word in value.split():
            rows = rows.filter(Q(*((f"{field}__icontains", word) for field in self.fields), _connector=Q.OR))
        return rows


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
    checker = filters.CharFilter(max_length=MAX_CHECKER)
    name = filters.CharFilter(lookup_expr="icontains", max_length=MAX_NAME)
    created_after = MomentFilter("created_at", "gte")
    created_before = MomentFilter("created_at", "lte")
    completed_after = MomentFilter("completed_at", "gte")
    completed_before = MomentFilter("completed_at", "lte")
    search = SearchFilter("name", "checker", "error")
    ordering = SameOrderEverywhere(
        fields=["position", "name", "status", "priority", "total_profiles", "created_at", "started_at", "completed_at"]
    )

    class Meta:
        model = Batch
        fields: list[str] = []


class OfBatch(filters.FilterSet):  # type: ignore[misc]
    """Filters of what one batch has."""

    def __init__(self, *args: Any, batch: Batch, **options: Any) -> None:
        super().__init__(*args, **options)
        self.batch = batch


class RowFilters(OfBatch):
    """`change` is what became of a profile since the batch that this one repeats, `host` where the profile is."""

    status = filters.MultipleChoiceFilter(choices=BatchProfile.Status.choices, distinct=False)
    error = filters.CharFilter(max_length=MAX_ERROR)
    error_contains = filters.CharFilter("error", "icontains", max_length=MAX_ERROR)
    has_story = FlagFilter()
    http_status = IntegerFilter(min_value=100, max_value=999)
    host = HostFilter("profile__url")
    change = filters.ChoiceFilter(choices=Change.choices, method="leave")

    class Meta:
        model = BatchProfile
        fields: list[str] = []

    def filter_queryset(self, rows: QuerySet[BatchProfile]) -> QuerySet[BatchProfile]:
        change = self.form.cleaned_data["change"]
        if change:
            rows = find_changed_rows(self.batch, Change(change)).select_related("profile").order_by("pk")
        return super().filter_queryset(rows)  # type: ignore[no-any-return]

    def leave(self, rows: QuerySet[BatchProfile], name: str, value: str) -> QuerySet[BatchProfile]:
        return rows  # it is chosen above which rows there are


class LogFilters(OfBatch):
    """`action` is the manager's call, such as `pause_batch`; `actor` the name of a user or worker."""

    action = filters.CharFilter(max_length=MAX_ACTION)
    channel = filters.MultipleChoiceFilter(choices=Channel.choices, distinct=False)
    actor = filters.CharFilter(max_length=MAX_ACTOR)
    created_after = MomentFilter("created_at", "gte")
    created_before = MomentFilter("created_at", "lte")

    class Meta:
        model = BatchLog
        fields: list[str] = []


class StoryRanges(filters.FilterSet):  # type: ignore[misc]
    profile = IntegerFilter(min_value=1, max_value=MAX_ID)
    found_after = MomentFilter("found_at", "gte")
    found_before = MomentFilter("found_at", "lte")
    published_after = MomentFilter("published_at", "gte")
    published_before = MomentFilter("published_at", "lte")
    search = SearchFilter("title", "url")

    class Meta:
        model = StoryResult
        fields: list[str] = []


class BatchStoryFilters(OfBatch, StoryRanges):
    """The stories that one batch was the first to see."""


class StoryFilters(StoryRanges):
    """Ranges include their ends; `search` wants each of its words in title or address."""

    batch = filters.UUIDFilter()


class ProfileFilters(filters.FilterSet):  # type: ignore[misc]
    """`failing`: the last check failed; `checked=false`: there was none yet."""

    host = HostFilter("url")
    failing = FlagFilter("last_error", method="filter_failing")
    checked = FlagFilter("last_checked_at", method="filter_checked")
    checked_after = MomentFilter("last_checked_at", "gte")
    checked_before = MomentFilter("last_checked_at", "lte")
    search = SearchFilter("url", "name")

    class Meta:
        model = Profile
        fields: list[str] = []

    def filter_failing(self, profiles: QuerySet[Profile], name: str, value: str) -> QuerySet[Profile]:
        return profiles.exclude(last_error="") if value == "true" else profiles.filter(last_error="")

    def filter_checked(self, profiles: QuerySet[Profile], name: str, value: str) -> QuerySet[Profile]:
        return profiles.filter(last_checked_at__isnull=value == "false")


class KnownParameters(filters.DjangoFilterBackend):  # type: ignore[misc]
    """The view's filters; 400 for a parameter that neither they nor the pages know, or that is given twice."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        own = view.filterset_class.base_filters
        known = own.keys() | (pagination.PARAMETERS if view.paginator else set())
        if unknown := sorted(request.query_params.keys() - known):
            message = f"There is no such parameter, only {', '.join(sorted(known))}."
            raise ValidationError({name: [message] for name in unknown[:SHOWN_UNKNOWN]})
        for name, values in request.query_params.lists():
            if len(values) > 1 and not isinstance(own.get(name), filters.MultipleChoiceFilter):
                raise ValidationError({name: ["It is given more than once."]})
        return super().filter_queryset(request, queryset, view)  # type: ignore[no-any-return]

    def get_filterset_kwargs(self, request: Request, queryset: QuerySet[Any], view: Any) -> dict[str, Any]:
        options: dict[str, Any] = super().get_filterset_kwargs(request, queryset, view)
        return options | {"batch": view.batch} if issubclass(view.filterset_class, OfBatch) else options
