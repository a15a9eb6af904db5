"""Read-only pages: results of checks, stories, the log and hosts."""

from collections import defaultdict
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from batches.limits import MAX_BULK
from batches.models import Attempt, Batch, BatchLog, BatchProfile, Host, StoryResult

from . import display
from .actions import get_manager
from .base import OrderedPaginator, ReadOnlyAdmin
from .filters import (
    BaselineFilter,
    BatchFilter,
    ChangeFilter,
    ErrorFilter,
    ListFilter,
    OutcomeFilter,
    ProfilesOfBatchFilter,
)
from .new_stories import NewStoriesPage
from .reports import HostsPage


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
class BatchProfileAdmin(ResultAdmin):
    about = gettext_lazy("Each profile of a batch appears here with the result of its check.")
    list_filter = (ProfilesOfBatchFilter, ("status", OutcomeFilter), ErrorFilter, ChangeFilter, "has_story")
    actions = ("recheck_selected",)

    @admin.action(permissions=["operate"], description=gettext_lazy("Recheck selected failed profiles"))
    def recheck_selected(self, request: HttpRequest, rows: QuerySet[BatchProfile]) -> HttpResponse | None:
        failed = rows.filter(status=BatchProfile.Status.FAILED).order_by("pk")
        chosen = list(failed.values_list("batch_id", "profile_id")[: MAX_BULK + 1])
        if len(chosen) > MAX_BULK:
            advice = _("Select at most %(count)s failed profiles, or recheck by reason on the page of their batch.")
            self.message_user(request, advice % {"count": display.number(MAX_BULK)}, messages.WARNING)
            return None
        if not chosen:
            self.message_user(request, _("None of the selected profiles has failed."), messages.WARNING)
            return None
        profiles = defaultdict(list)
        for batch_id, profile_id in chosen:
            profiles[batch_id].append(profile_id)
        for batch in Batch.objects.filter(pk__in=profiles).order_by("created_at"):
            self.recheck(request, batch, profiles[batch.pk])
        return redirect(request.get_full_path())

    def recheck(self, request: HttpRequest, batch: Batch, profiles: list[int]) -> None:
        result = get_manager(request).retry_failed(batch.pk, profiles=profiles)
        if not result:
            self.message_user(request, result.message, messages.WARNING)
            return
        sentence = ngettext(
            "“{batch}” was queued to recheck {count} failed profile.",
            "“{batch}” was queued to recheck {count} failed profiles.",
            len(profiles),
        )
        link, count = self.page_link(request, batch), display.number(len(profiles))
        self.message_user(request, format_html(sentence, batch=link, count=count), messages.SUCCESS)


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
