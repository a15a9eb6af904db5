"""Profiles: their list, the batch that is created of some of them, forgetting them, and the page of one.

The question before a batch works like Django's actions: the address keeps the filters and the search, and
`select_across` says that all matching profiles are selected. So no page contains 100,000 ids, and the batch gets the
profiles that match at the confirmation.
"""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, override

from batches.limits import MAX_BULK, MAX_NAME
from batches.lists.addresses import host_of
from batches.lists.exports import PROFILE_EXPORTERS
from batches.models import Batch, ListProfile, Profile
from batches.queue.forgetting import count_traces
from batches.reports import streams
from batches.reports.history import fetch_history
from batches.text import choose_plural, pluralise
from batches.web.downloads import stream_download

from . import display
from .actions import get_manager
from .add_batch import create_batch, describe_start, respond_to_addition
from .base import ReadOnlyAdmin, identify_rows, is_across, parse_number, ticked_keys
from .display import number
from .filters import (
    CheckAgeFilter,
    ChoiceFilter,
    HostFilter,
    LastCheckFilter,
    LastErrorFilter,
    RestFilter,
    StoryAgeFilter,
)
from .forms import NewBatchForm
from .reports import FailuresPage

#: The fields of the form that creates a batch, and what its page shows of the profiles and of the search.
VISIBLE = ["name", "priority", "checker", "queue", "count_first"]
SHOWN = 10
SHOWN_SEARCH = 100
#: Checks and lists on the page of a profile; it links to the rest.
SHOWN_CHECKS = 50


@admin.register(Profile)
class ProfileAdmin(ReadOnlyAdmin):
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

    # A batch of profiles

    def has_add_batch_permission(self, request: HttpRequest) -> bool:
        return self.admin_site.get_model_admin(Batch).has_add_permission(request)

    @admin.action(permissions=["add_batch"], description=gettext_lazy("Check selected profiles"))
    def check_selected(self, request: HttpRequest, profiles: QuerySet[Profile]) -> HttpResponse | None:
        count = profiles.count()
        if "confirmed" not in request.POST:
            return self.render_confirmation(request, profiles, count)
        form = NewBatchForm(request.POST)
        if form.is_valid() and (added := create_batch(request, form, profiles, *describe_selection(request))):
            self.warn_of_change(request, *added)
            return respond_to_addition(self, request, *added)
        return self.render_confirmation(request, profiles, count, form)

    def warn_of_change(self, request: HttpRequest, batch: Batch, is_new: bool) -> None:
        """Warn if the batch has another number of profiles than the confirmation page showed."""
        count = parse_number(request.POST.get("shown", ""))
        if is_new and count not in {None, batch.total_profiles}:
            changed = choose_plural(
                "%(count)s profile matched on the page, %(now)s when you confirmed.",
                "%(count)s profiles matched on the page, %(now)s when you confirmed.",
                count=count,
                now=batch.total_profiles,
            )
            self.message_user(request, changed, messages.WARNING)

    def render_confirmation(
        self, request: HttpRequest, profiles: QuerySet[Profile], count: int, form: Any = None
    ) -> HttpResponse:
        is_all, counted = is_across(request), {"count": number(count)}
        conditions = list(self.conditions(request)) if is_all else []
        if is_all:
            title = button = (
                ngettext("Check %(count)s matching profile", "Check all %(count)s matching profiles", count) % counted
            )
        else:
            title = ngettext("Check %(count)s selected profile", "Check %(count)s selected profiles", count) % counted
            button = _("Check selected")
        form = form or NewBatchForm(initial={"name": self.suggest_name(request, count)})
        context = {
            **self.form_context(request, form, VISIBLE),
            "title": title,
            "button": button,
            "count": count,
            "conditions": conditions,
            "first": profiles[:SHOWN],
            "more": count - SHOWN,
            "when": describe_start(0),
            "selected": ticked_keys(request),
            "is_all": is_all,
        }
        return TemplateResponse(request, "admin/batches/adding/check.html", context)

    def suggest_name(self, request: HttpRequest, count: int) -> str:
        """Always in English, since the name is stored and read by others."""
        with override("en"):
            if is_across(request):
                name = capfirst("; ".join(self.conditions(request))) or "All profiles"
            else:
                name = pluralise(count, "selected profile")
        return Truncator(name).chars(MAX_NAME)

    def conditions(self, request: HttpRequest) -> Iterator[str]:
        """The filters and the search of the address, in words."""
        listed = self.get_changelist_instance(request)
        if search := " ".join(listed.query.split()):
            yield _("search: “%(words)s”") % {"words": Truncator(search).chars(SHOWN_SEARCH)}
        for chosen in listed.filter_specs:
            if chosen.value() is not None:
                label = str(dict(chosen.lookup_choices).get(str(chosen.value())))
                yield f"{chosen.title}: {label[:1].lower() + label[1:] if isinstance(chosen, ChoiceFilter) else label}"

    # Forgetting

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

    # The page of a profile

    def page_context(self, request: HttpRequest, profile: Profile) -> dict[str, Any]:
        has_perm = request.user.has_perm
        lists = ListProfile.objects.filter(profile=profile).select_related("list").order_by("list__name")
        return {
            "title": str(profile),
            "subtitle": None,
            "host": host_of(profile.url),
            "checks": fetch_history(profile, SHOWN_CHECKS) if has_perm("batches.view_batchprofile") else None,
            "memberships": lists[:SHOWN_CHECKS] if has_perm("batches.view_listprofile") else None,
        }


def describe_selection(request: HttpRequest) -> tuple[Any, ...]:
    """Identifies the selection: its filters and search, and the ticked rows unless it means all."""
    selected = sorted(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))
    return request.GET.urlencode(), None if is_across(request) else selected
