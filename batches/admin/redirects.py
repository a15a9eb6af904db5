"""Permanent redirects. Users accept selected redirects or all that match, after a confirmation."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.limits import MAX_BULK
from batches.models import Redirect
from batches.text import choose_plural

from . import display
from .actions import get_manager
from .base import ReadOnlyAdmin, identify_rows

#: What the question shows of a redirect.
QUESTION = ("pk", "profile.url", "url", "merges")


@admin.register(Redirect)
class RedirectAdmin(ReadOnlyAdmin):
    about = gettext_lazy(
        "The new address of a profile appears here when it has been redirected permanently for two days."
    )
    list_display = (
        "profile_link",
        display.column("url", gettext_lazy("new address"), str),
        "effect",
        "checks",
        display.column("first_seen_at", gettext_lazy("first seen"), display.moment),
        display.column("last_seen_at", gettext_lazy("last seen"), display.moment),
    )
    search_fields = ("profile__url", "profile__name", "url")
    search_help_text = gettext_lazy("Old or new address, or name")
    actions = ("accept_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Redirect]:
        return Redirect.objects.proposed()

    def has_accept_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.change_redirect")

    @admin.display(description=gettext_lazy("if accepted"))
    def effect(self, found: Any) -> str:
        return _("is merged into that profile") if found.merges else _("gets the new address")

    @admin.action(permissions=["accept"], description=gettext_lazy("Accept selected redirects"))
    def accept_selected(self, request: HttpRequest, redirects: QuerySet[Redirect]) -> HttpResponse | None:
        """Accept the redirects that the question showed. If the selection has changed since, ask again."""
        chosen = list(redirects[:MAX_BULK])
        shown = identify_rows(chosen, *QUESTION)
        if not self.is_confirmed(request, shown, _("The redirects have changed. Check them again.")):
            more = self.chosen_context(redirects, chosen)
            return self.ask(request, "redirect/accept.html", _("Accept redirects?"), "accept_selected", shown, **more)
        results = get_manager(request).accept_redirects(chosen)
        done = sum(map(bool, results))
        accepted = choose_plural("%(count)s redirect accepted.", "%(count)s redirects accepted.", count=done)
        self.show_results(request, accepted, results)
        return None
