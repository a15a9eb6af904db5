"""Forget profiles: those selected in their list, all that match its filters, or the one on its own page."""

from collections.abc import Iterable
from hashlib import sha256

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.limits import MAX_BULK
from batches.models import Profile
from batches.queue.forgetting import count_traces
from batches.queue.refusals import Refusal
from batches.text import counted

from .actions import get_manager
from .base import ListAdmin

SHOWN = 20


class ForgetProfilesAdmin(ListAdmin):
    """The list of profiles, with the action that forgets some. The button on a profile's page posts the same action."""

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.delete_profile")

    @admin.action(permissions=["forget"], description=gettext_lazy("Forget selected profiles"))
    def forget_selected(self, request: HttpRequest, profiles: QuerySet[Profile]) -> HttpResponse | None:
        """Forget what the question showed. If the selection has changed since, ask again."""
        chosen = list(profiles.order_by("pk")[:MAX_BULK])
        shown = digest_of(chosen)
        if request.POST.get("confirmed") != shown:
            if "confirmed" in request.POST:
                self.message_user(request, _("The profiles have changed. Check them again."), messages.WARNING)
            return self.ask(request, chosen, profiles.count() - len(chosen), shown)
        manager = get_manager(request)
        results = [manager.forget_profile(profile.pk) for profile in chosen]
        refusals = [result for result in results if isinstance(result, Refusal)]
        done = len(results) - len(refusals)
        forgotten = counted("%(count)s profile forgotten.", "%(count)s profiles forgotten.", count=done)
        self.message_user(request, forgotten, messages.SUCCESS)
        for refusal in refusals[:SHOWN]:
            self.message_user(request, refusal.message, messages.WARNING)
        return None

    def ask(self, request: HttpRequest, chosen: list[Profile], left: int, shown: str) -> HttpResponse:
        context = {
            **self.question_context(request, _("Forget profiles?"), "forget_selected", shown),
            "count": len(chosen),
            "traces": count_traces(chosen),
            "first": chosen[:SHOWN],
            "more": len(chosen) - SHOWN,
            "left": left,
        }
        return render(request, "admin/batches/profile/forget.html", context)


def digest_of(profiles: Iterable[Profile]) -> str:
    return sha256("".join(f"{profile.pk} {profile.url}\n" for profile in profiles).encode()).hexdigest()
