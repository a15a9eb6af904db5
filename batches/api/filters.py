"""The query parameters of the lists. Unknown parameters are refused, never ignored."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.utils.datastructures import MultiValueDict
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField
from drf_spectacular.utils import extend_schema_field
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from batches.limits import (
    MAX_ACTION,
    MAX_ACTOR,
    MAX_CHECKER,
    MAX_ERROR,
    MAX_HOST_AND_PORT,
    MAX_ID,
    MAX_NAME,
    MAX_PRIORITY,
    MAX_WORDS,
    MIN_PRIORITY,
)
from batches.lists.addresses import InvalidAddress, address_prefixes
from batches.models import Batch, BatchProfile, Channel, Host, ListProfile, Profile, StoryResult, Subscription
from batches.models.profiles import ProfileQuerySet
from batches.reports.comparison import Change, filter_by_change, find_previous
from batches.reports.hosts import FailingHosts, find_failing_hosts
from batches.reports.queries import match_host
from batches.web.search import validate_words

from . import pagination

#: An error names at most this many unknown parameters.
MAX_UNKNOWN = 10

MAX_HOSTS = 100

TIME = "Without an offset it is in the server's time zone. A date without a time is the start of that day"
ANY_CASE = "case does not matter (on SQLite: the case of ASCII letters)."
NOT_BEFORE = f"This time or later. {TIME}, so that day is included."
NOT_AFTER = f"This time or earlier. {TIME}, so the rest of that day is excluded."


class MomentField(IsoDateTimeField):  # type: ignore[misc]
    """A time, converted to UTC: PostgreSQL does not accept every offset that ISO 8601 allows."""

    def clean(self, value: Any) -> datetime | None:
        moment: datetime | None = super().clean(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:  # the first or last day of the calendar, which UTC puts into another year
            raise forms.ValidationError("This time is out of range.") from error


def validate_host(host: str) -> None:
    try:
        address_prefixes(host)
    except InvalidAddress as error:
        raise forms.ValidationError(str(error)) from error


@extend_schema_field(int)
class IntegerFilter(filters.NumberFilter):  # type: ignore[misc]
    field_class = forms.IntegerField


class MomentFilter(filters.IsoDateTimeFilter):  # type: ignore[misc]
    """A time in ISO 8601."""

    field_class = MomentField

    def __init__(self, field_name: str, lookup_expr: str) -> None:
        help_text = NOT_BEFORE if lookup_expr == "gte" else NOT_AFTER
        super().__init__(field_name, lookup_expr, help_text=help_text)


@extend_schema_field(bool)
class FlagFilter(filters.TypedChoiceFilter):  # type: ignore[misc]
    """`true` or `false`. BooleanFilter ignores any other word."""

    def __init__(self, *args: Any, **options: Any) -> None:
        choices = [("true", "true"), ("false", "false")]
        super().__init__(*args, choices=choices, coerce=lambda text: text == "true", **options)


class ChoicesFilter(filters.MultipleChoiceFilter):  # type: ignore[misc]
    """Rows with one of these values."""

    def __init__(self, choices: list[Any]) -> None:
        super().__init__(choices=choices, distinct=False, help_text="Can be given more than once.")


class HostFilter(filters.CharFilter):  # type: ignore[misc]
    """Profiles on a host; `field_name` is their address."""

    def __init__(self, field_name: str) -> None:
        help_text = "The host of the profile, such as `example.org`, on any port; or with a port, `example.org:8080`."
        super().__init__(field_name, max_length=MAX_HOST_AND_PORT, validators=[validate_host], help_text=help_text)

    def filter(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        return rows.filter(match_host(self.field_name, value)) if value else rows


class SearchFilter(filters.CharFilter):  # type: ignore[misc]
    """Rows that contain each word in one of the fields."""

    def __init__(self, *fields: str, help_text: str) -> None:
        help_text = f"{help_text} At most {MAX_WORDS}."
        super().__init__(max_length=MAX_NAME, validators=[validate_words], help_text=help_text)
        self.fields = fields

    def filter(self, rows: QuerySet[Any], value: str) -> QuerySet[Any]:
        for word in value.split():
            rows = rows.filter(Q(*((f"{field}__icontains", word) for field in self.fields), _connector=Q.OR))
        return rows


class FilterSet(filters.FilterSet):  # type: ignore[misc]
    """Its errors name the choices of a parameter."""

    def get_form_class(self) -> Any:
        form = super().get_form_class()
        for field in form.base_fields.values():
            if choices := [value for value, _ in getattr(field, "choices", ()) if value]:
                field.error_messages["invalid_choice"] = f"Use one of {', '.join(choices)}."
        return form


class NamedFilters(FilterSet):
    """The filters of batches and of lists."""

    priority = IntegerFilter(min_value=MIN_PRIORITY, max_value=MAX_PRIORITY, help_text="Exactly this priority.")
    checker = filters.CharFilter(max_length=MAX_CHECKER, help_text="The name of the checker.")
    name = filters.CharFilter(lookup_expr="icontains", max_length=MAX_NAME, help_text=f"Part of the name; {ANY_CASE}")
    created_after = MomentFilter("created_at", "gte")
    created_before = MomentFilter("created_at", "lte")


class BulkFilters(NamedFilters):
    status = ChoicesFilter(Batch.Status.choices)
    completed_after = MomentFilter("completed_at", "gte")
    completed_before = MomentFilter("completed_at", "lte")
    list = filters.UUIDFilter(help_text="The list that the batch is a run of.")
    search = SearchFilter("name", "checker", "error", help_text="Words in the name, the checker or the error.")


class BatchFilters(BulkFilters):
    ordering = filters.OrderingFilter(
        fields=["position", "name", "status", "priority", "total_profiles", "created_at", "started_at", "completed_at"],
        help_text="Fields with commas between them; `-` reverses one. Batches without a value come last.",
    )


class ListFilters(NamedFilters):
    scheduled = FlagFilter(
        "next_run_at", "isnull", exclude=True, help_text="Whether the list has a schedule that is on."
    )
    search = SearchFilter("name", "checker", help_text="Words in the name or the checker.")
    ordering = filters.OrderingFilter(
        fields=["name", "priority", "created_at", "next_run_at"],
        help_text="Fields with commas between them; `-` reverses one. Lists without a value come last.",
    )


class MemberFilters(FilterSet):
    host = HostFilter("profile__url")
    failing = FlagFilter(method="filter_failing", help_text="Whether the last check failed.")
    search = SearchFilter("profile__url", "profile__name", help_text="Words in the address or the name.")

    def filter_failing(self, members: QuerySet[ListProfile], name: str, value: bool) -> QuerySet[ListProfile]:
        return members.exclude(profile__last_error="") if value else members.filter(profile__last_error="")


class FeedFilters(FilterSet):
    list = filters.UUIDFilter(help_text="Of the profiles of this list.")


class RedirectFilters(FilterSet):
    host = HostFilter("profile__url")
    search = SearchFilter("profile__url", "profile__name", "url", help_text="Words in an address or the name.")


class SubscriptionFilters(FilterSet):
    channel = ChoicesFilter(Subscription.Channel.choices)
    is_active = FlagFilter(help_text="Whether its messages are sent.")


class RowFilters(FilterSet):
    status = ChoicesFilter(BatchProfile.Status.choices)
    error = filters.CharFilter(max_length=MAX_ERROR, help_text="Exactly this error.")
    error_contains = filters.CharFilter(
        "error", "icontains", max_length=MAX_ERROR, help_text=f"Part of the error; {ANY_CASE}"
    )
    has_story = FlagFilter(help_text="Whether this check found a new story.")
    http_status = IntegerFilter(min_value=100, max_value=999, help_text="The HTTP status of the response.")
    host = HostFilter("profile__url")
    change = filters.ChoiceFilter(
        choices=Change.choices,
        method="filter_change",
        help_text="How the result changed since the previous batch.",
    )

    def filter_change(self, rows: QuerySet[BatchProfile], name: str, value: str) -> QuerySet[BatchProfile]:
        batch = self.request.parser_context["view"].owner
        return filter_by_change(rows, find_previous(batch), Change(value))


class AttemptFilters(FilterSet):
    status = filters.ChoiceFilter(choices=[("ok", "ok"), ("failed", "failed")], help_text="How the check ended.")
    error = filters.CharFilter(max_length=MAX_ERROR, help_text="Exactly this error.")
    profile = IntegerFilter(min_value=1, max_value=MAX_ID, help_text="The id of the profile.")


class NoFilters(FilterSet):
    """For a list without filters: it takes only the parameters of pages."""


class LogFilters(FilterSet):
    action = filters.CharFilter(max_length=MAX_ACTION, help_text="The name of the action, such as `pause_batch`.")
    channel = ChoicesFilter(Channel.choices)
    actor = filters.CharFilter(max_length=MAX_ACTOR, help_text="Exactly this user or worker.")
    created_after = MomentFilter("created_at", "gte")
    created_before = MomentFilter("created_at", "lte")


class BaselineFilter(filters.ChoiceFilter):  # type: ignore[misc]
    """New stories by default."""

    def __init__(self) -> None:
        help_text = "`include` adds the stories of first checks; `only` lists only those."
        super().__init__(choices=[("include", "include"), ("only", "only")], help_text=help_text)

    def filter(self, stories: QuerySet[StoryResult], value: str) -> QuerySet[StoryResult]:
        return stories if value == "include" else stories.filter(is_baseline=value == "only")


class BatchStoryFilters(FilterSet):
    baseline = BaselineFilter()
    profile = IntegerFilter(min_value=1, max_value=MAX_ID, help_text="The id of the profile.")
    found_after = MomentFilter("found_at", "gte")
    found_before = MomentFilter("found_at", "lte")
    published_after = MomentFilter("published_at", "gte")
    published_before = MomentFilter("published_at", "lte")
    search = SearchFilter("title", "url", help_text="Words in the title or the address.")


class StoryFilters(BatchStoryFilters):
    batch = filters.UUIDFilter(help_text="The batch that found the story.")


class ProfileFilters(FilterSet):
    host = HostFilter("url")
    failing = FlagFilter(method="filter_failing", help_text="Whether the last check failed.")
    resting = FlagFilter(method="filter_resting", help_text="Whether scheduled runs leave the profile out now.")
    checked = FlagFilter(
        "last_checked_at", "isnull", exclude=True, help_text="Whether the profile has ever been checked."
    )
    checked_after = MomentFilter("last_checked_at", "gte")
    checked_before = MomentFilter("last_checked_at", "lte")
    search = SearchFilter("url", "name", help_text="Words in the address or the name.")

    def filter_failing(self, profiles: QuerySet[Profile], name: str, value: bool) -> QuerySet[Profile]:
        return profiles.exclude(last_error="") if value else profiles.filter(last_error="")

    def filter_resting(self, profiles: ProfileQuerySet, name: str, value: bool) -> QuerySet[Profile]:
        return profiles.resting() if value else profiles.exclude(pk__in=profiles.resting())


class HostFilters(FilterSet):
    search = filters.CharFilter(max_length=MAX_HOST_AND_PORT, help_text="Part of the host's name.")
    limit = IntegerFilter(
        min_value=1, max_value=MAX_HOSTS, help_text=f"At most this many hosts; {MAX_HOSTS} unless given."
    )

    def filter_queryset(self, hosts: QuerySet[Host]) -> FailingHosts:
        """The figures, which are computed and not filtered."""
        values = self.form.cleaned_data
        return find_failing_hosts(values["limit"] or MAX_HOSTS, values["search"])


class StrictFilterBackend(filters.DjangoFilterBackend):  # type: ignore[misc]
    """Refuses parameters that neither the filters nor the pages have, and a second value where one is expected."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        of_pages = pagination.PARAMETERS if view.paginator else ()
        refuse_unusable(request.query_params, view.filterset_class.base_filters, of_pages)
        filtered = self.get_filterset(request, queryset, view)
        if filtered.errors:  # the library would fail to format a message with a percent sign
            raise ValidationError(filtered.errors)
        return filtered.qs  # type: ignore[no-any-return]


def refuse_unusable(parameters: MultiValueDict[str, Any], own: Mapping[str, Any], others: Iterable[str] = ()) -> None:
    """Empty values, too: a filter would ignore them, like a field of a form, and select everything."""
    known = own.keys() | set(others)
    if unknown := sorted(parameters.keys() - known):
        use = f"Use one of {', '.join(sorted(known))}." if known else "This call takes none."
        raise ValidationError({name: [f"Unknown parameter. {use}"] for name in unknown[:MAX_UNKNOWN]})
    for name, values in parameters.lists():
        if len(values) > 1 and not isinstance(own.get(name), filters.MultipleChoiceFilter):
            raise ValidationError({name: ["Give this parameter only once."]})
        if not all(value.strip() for value in values):
            raise ValidationError({name: ["Give this parameter a value, or leave it out."]})
