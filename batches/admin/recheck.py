"""Recheck failed profiles that are ticked in the list of a batch's profiles."""

from collections import defaultdict

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from batches.limits import MAX_BULK
from batches.models import Batch, BatchProfile

from .actions import get_manager
from .base import ListAdmin
from .display import number


class RecheckAdmin(ListAdmin):
    """The list of the profiles of batches, with the action that rechecks some of them in their batch."""

    @admin.action(permissions=["operate"], description=gettext_lazy("Recheck selected failed profiles"))
    def recheck_selected(self, request: HttpRequest, rows: QuerySet[BatchProfile]) -> HttpResponse | None:
        failed = rows.filter(status=BatchProfile.Status.FAILED).order_by("pk")
        chosen = list(failed.values_list("batch_id", "profile_id")[: MAX_BULK + 1])
        if len(chosen) > MAX_BULK:
            advice = _("Select at most %(count)s failed profiles, or recheck by reason on the page of their batch.")
            self.message_user(request, advice % {"count": number(MAX_BULK)}, messages.WARNING)
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
        link, count = self.page_link(request, batch), number(len(profiles))
        self.message_user(request, format_html(sentence, batch=link, count=count), messages.SUCCESS)
