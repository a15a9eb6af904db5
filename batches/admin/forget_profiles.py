"""Forget profiles: those selected in their list, all that match its filters, or the one on its own page."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.limits import MAX_BULK
from batches.models import Profile
from batches.queue.forgetting import count_traces
from batches.text import choose_plural

from .actions import get_manager
from .base import ListAdmin, identify_rows


class ForgetProfilesAdmin(ListAdmin):
    """The list of profiles, with the action that forgets some. The button on a profile's page posts the same action."""

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.delete_profile")

    @admin.action(permissions=["forget"], description=gettext_lazy("Forget selected profiles"))
    def forget_selected(self, request: HttpRequest, profiles: QuerySet[Profile]) -> HttpResponse | None:
        """Forget the profiles that the question showed. If the selection has changed since, ask again."""
        chosen = list(profiles.order_by("pk")[:MAX_BULK])
        shown = identify_rows(chosen, "pk", "url")
        if not self.is_confirmed(request, shown, _("The profiles have changed. Check them again.")):
            more = {**self.chosen_context(profiles, chosen), "traces": count_traces(chosen)}
            return self.ask(request, "profile/forget.html", _("Forget profiles?"), "forget_selected", shown, **more)
        manager = get_manager(request)
        results = [manager.forget_profile(profile.pk) for profile in chosen]
        done = sum(map(bool, results))
        forgotten = choose_plural("%(count)s profile forgotten.", "%(count)s profiles forgotten.", count=done)
        self.show_results(request, forgotten, results)
        return None
