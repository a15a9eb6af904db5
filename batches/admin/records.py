"""Read-only pages: profiles, their results, stories and the log."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from batches.lists.addresses import host_of
from batches.models import BatchLog, BatchProfile, Profile, StoryResult

from . import display
from .base import ReadOnlyAdmin
from .check_profiles import CheckProfilesAdmin
from .filters import (
    BatchFilter,
    ChangeFilter,
    CheckAgeFilter,
    ErrorFilter,
    HostFilter,
    LastCheckFilter,
    OutcomeFilter,
    StoryAgeFilter,
)


@admin.register(Profile)
class ProfileAdmin(CheckProfilesAdmin, ReadOnlyAdmin):
    list_display = ("url", "name", "last_checked_at", "last_error", "last_story_at")
    list_filter = (LastCheckFilter, CheckAgeFilter, StoryAgeFilter, HostFilter)
    search_fields = ("url", "name")
    search_help_text = "Address or name"
    readonly_fields = ("checks_and_stories",)

    @admin.display(description="checks")
    def checks_and_stories(self, profile: Profile) -> str:
        return format_html(
            '<a href="{}?profile__id__exact={}">checks</a>, <a href="{}?profile__id__exact={}">stories</a>, '
            '<a href="{}?{}">profiles of the same host</a>',
            reverse("admin:batches_batchprofile_changelist"),
            profile.pk,
            reverse("admin:batches_storyresult_changelist"),
            profile.pk,
            reverse("admin:batches_profile_changelist"),
            urlencode({"host": host_of(profile.url)}),
        )


class BatchRowAdmin(ReadOnlyAdmin):
    """Rows that belong to a batch."""

    @admin.display(description="batch")
    def batch_link(self, row: BatchProfile | StoryResult | BatchLog) -> str:
        return display.page_link(row.batch)

    @admin.display(description="profile")
    def profile_link(self, row: BatchProfile | StoryResult) -> str:
        return display.page_link(row.profile)


@admin.register(BatchProfile)
class BatchProfileAdmin(BatchRowAdmin):
    list_display = ("id", "profile_link", "status", "error", "http_status", "has_story", "checked_at", "batch_link")
    list_select_related = ("batch", "profile")
    list_filter = (BatchFilter, ("status", OutcomeFilter), ErrorFilter, ChangeFilter, "has_story")
    search_fields = ("profile__url", "profile__name", "error")
    search_help_text = "Address, name or error"

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        # Not in the overview: these rows are reached from the page of their batch.
        return {}


@admin.register(StoryResult)
class StoryResultAdmin(BatchRowAdmin):
    list_display = ("found", "story", "profile_link", "published", "batch_link")
    list_select_related = ("batch", "profile")
    list_filter = (BatchFilter, "found_at")
    search_fields = ("title", "url", "profile__url", "profile__name")
    search_help_text = "Title, or address or name of the profile"

    @admin.display
    def found(self, story: StoryResult) -> str:
        return display.moment(story.found_at)

    @admin.display
    def published(self, story: StoryResult) -> str:
        return display.moment(story.published_at) if story.published_at else display.NOTHING

    @admin.display
    def story(self, story: StoryResult) -> str:
        return display.story_link(story)


@admin.register(BatchLog)
class BatchLogAdmin(BatchRowAdmin):
    list_display = ("at", "batch_link", "action", "actor", "channel", "movement", "message")
    list_filter = (BatchFilter, "channel", "created_at")
    list_select_related = ("batch",)
    search_fields = ("batch__name", "action", "actor", "message")
    search_help_text = "Batch, action, person or message"

    @admin.display
    def at(self, log: BatchLog) -> str:
        return display.moment(log.created_at)

    @admin.display(description="from → to")
    def movement(self, log: BatchLog) -> str:
        return display.movement(log)
