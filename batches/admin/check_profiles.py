"""Create a batch of known profiles: those selected in their list, or all that match its filters.

The confirmation works like Django's actions: the address keeps the filters and the search, and `select_across` says
that all matching profiles are selected. So no page contains 100,000 ids, and the batch gets the profiles that match at
the confirmation.
"""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, override

from batches.limits import MAX_NAME
from batches.models import Batch, Profile
from batches.text import choose_plural, pluralise

from .add_batch import create_batch, describe_start, respond_to_addition
from .base import ListAdmin, is_across, parse_number, ticked_keys
from .display import number
from .filters import ChoiceFilter
from .forms import NewBatchForm

SHOWN = 10
SHOWN_SEARCH = 100
VISIBLE = ["name", "priority", "checker", "queue", "count_first"]


class CheckProfilesAdmin(ListAdmin):
    """The list of profiles, with the action that creates a batch of them."""

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


def describe_selection(request: HttpRequest) -> tuple[Any, ...]:
    """Identifies the selection: its filters and search, and the ticked rows unless it means all."""
    selected = sorted(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME))
    return request.GET.urlencode(), None if is_across(request) else selected
