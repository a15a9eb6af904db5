"""Read-only pages: profiles, their results, stories and the log."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy

from batches.lists.exports import PROFILE_EXPORTERS
from batches.models import Attempt, Batch, BatchLog, BatchProfile, Host, Profile, StoryResult
from batches.reports import streams
from batches.web.downloads import stream_download

from . import display
from .base import OrderedPaginator, ReadOnlyAdmin
from .check_profiles import CheckProfilesAdmin
from .filters import (
    BaselineFilter,
    BatchFilter,
    ChangeFilter,
    CheckAgeFilter,
    ErrorFilter,
    HostFilter,
    LastCheckFilter,
    LastErrorFilter,
    ListFilter,
    OutcomeFilter,
    ProfilesOfBatchFilter,
    RestFilter,
    StoryAgeFilter,
)
from .forget_profiles import ForgetProfilesAdmin
from .new_stories import NewStoriesPage
from .profile_page import ProfilePage
from .recheck import RecheckAdmin
from .reports import FailuresPage, HostsPage


@admin.register(Profile)
class ProfileAdmin(CheckProfilesAdmin, ForgetProfilesAdmin, ProfilePage):
    about = gettext_lazy("A profile appears here with the first batch or list that contains it.")
    actions = ("check_selected", "forget_selected")
    ordering = ()
    list_display = (
        "url",
        "name",
        display.column("last_checked_at", gettext_lazy("last check"), display.moment),
        display.STORED["last_error"],
        display.column("failing_since", gettext_lazy("failing since"), display.moment),
        display.column("rests_until", gettext_lazy("next try"), display.moment),
        display.column("last_story_at", gettext_lazy("last new story"), display.moment),
    )
    list_filter = (LastCheckFilter, LastErrorFilter, RestFilter, CheckAgeFilter, StoryAgeFilter, HostFilter)
    search_fields = ("url", "name")
    search_help_text = gettext_lazy("Address or name")
    change_list_template = "admin/batches/profile/change_list.html"

    def get_urls(self) -> list[Any]:
        export = self.own_path("export/<slug:form>/", self.export_view, "export")
        return [*FailuresPage(self).urls, export, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Profile]:
        """Sort by the newest first, unless a filter has its own order."""
        return super().get_queryset(request).order_by("-pk")

    def export_view(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """All profiles that match the filters and the search of the list."""
        if form not in PROFILE_EXPORTERS:
            raise Http404
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            profiles = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:  # the list shows the problem
            return redirect(f"{self.address_of('profile_changelist')}?{request.GET.urlencode()}")
        return stream_download(PROFILE_EXPORTERS[form](streams.stream_profiles(profiles)), "profiles", form)


class ResultAdmin(ReadOnlyAdmin):
    """Results of checks. Not in the overview: they are reached from the page of their batch."""

    paginator = OrderedPaginator
    list_display = (
        "id",
        "profile_link",
        "status",
        display.STORED["error"],
        "http_status",
        "has_story",
        display.column("checked_at", gettext_lazy("checked"), display.moment),
        "batch_link",
    )
    list_select_related = ("batch", "profile")
    search_fields = ("profile__url", "profile__name", "error")
    search_help_text = gettext_lazy("Address, name or error")

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        return {}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Without those of hidden batches. A join would read the batch of each row that is counted."""
        return super().get_queryset(request).exclude(batch__in=Batch.everything.exclude(deleted_at=None))


@admin.register(BatchProfile)
class BatchProfileAdmin(RecheckAdmin, ResultAdmin):
    about = gettext_lazy("Each profile of a batch appears here with the result of its check.")
    list_filter = (ProfilesOfBatchFilter, ("status", OutcomeFilter), ErrorFilter, ChangeFilter, "has_story")
    actions = ("recheck_selected",)


@admin.register(Attempt)
class AttemptAdmin(ResultAdmin):
    """Earlier results. They need the permission to view the rows of batches."""

    about = gettext_lazy("A result appears here when its profile is checked again in the same batch.")
    list_filter = (BatchFilter, "status", "has_story")

    def has_view_permission(self, request: HttpRequest, obj: Attempt | None = None) -> bool:
        return request.user.has_perm("batches.view_batchprofile")


@admin.register(StoryResult)
class StoryResultAdmin(ReadOnlyAdmin):
    about = gettext_lazy("A story appears here when a check sees it for the first time.")
    paginator = OrderedPaginator
    list_display = (
        display.column("found_at", gettext_lazy("found"), display.moment),
        display.story_link,
        "profile_link",
        display.column("published_at", gettext_lazy("published"), display.moment),
        "batch_link",
    )
    list_select_related = ("batch", "profile")
    list_filter = (BatchFilter, BaselineFilter, "found_at")
    search_fields = ("title", "url", "profile__url", "profile__name")
    search_help_text = gettext_lazy("Title, or address or name of the profile")
    change_list_template = "admin/batches/storyresult/change_list.html"

    def get_urls(self) -> list[Any]:
        return [*NewStoriesPage(self).urls, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoryResult]:
        return super().get_queryset(request).filter(found_at__isnull=False)


@admin.register(BatchLog)
class BatchLogAdmin(ReadOnlyAdmin):
    about = gettext_lazy("Each change of a batch, of a list and of the queue appears here.")
    list_display = (
        display.AT,
        "batch_link",
        "of_list",
        "action",
        "actor",
        "channel",
        display.movement,
        display.STORED["message"],
    )
    list_filter = (BatchFilter, ListFilter, "channel", "created_at")
    list_select_related = ("batch", "list")
    search_fields = ("batch__name", "action", "actor", "message")
    search_help_text = gettext_lazy("Batch, action, person or message")


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HostsPage(self).page(request)
