"""The page of a profile: its data, its lists, and its checks in all batches."""

from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html_join

from batches.lists.addresses import host_of
from batches.models import ListProfile, Profile
from batches.reports.history import fetch_history, find_waiting

from . import display
from .base import ReadOnlyAdmin

#: Checks and lists on the page; it links to the rest.
SHOWN = 50
#: The most batches named that still have to check it.
SHOWN_WAITING = 5


class ProfilePage(ReadOnlyAdmin):
    change_form_template = "admin/batches/profile/change_form.html"

    def page_context(self, request: HttpRequest, profile: Profile) -> dict[str, Any]:
        may_view_rows = request.user.has_perm("batches.view_batchprofile")
        return {
            "title": str(profile),
            "subtitle": None,
            "host": host_of(profile.url),
            "checks": fetch_history(profile, SHOWN) if may_view_rows else None,
            "waiting": self.name_waiting(request, profile) if may_view_rows else "",
            "memberships": list_memberships(profile) if request.user.has_perm("batches.view_listprofile") else None,
        }

    def name_waiting(self, request: HttpRequest, profile: Profile) -> str:
        """The batches that still have to check it, with their status, for a sentence."""
        batches = find_waiting(profile)[:SHOWN_WAITING]
        names = [(self.page_link(request, each), display.status_word(each.status)) for each in batches]
        return format_html_join(", ", "{} ({})", names)


def list_memberships(profile: Profile) -> list[ListProfile]:
    return list(ListProfile.objects.filter(profile=profile).select_related("list").order_by("list__name")[:SHOWN])
