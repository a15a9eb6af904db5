"""Adding a batch from a list: a preview that stores nothing, and then the batch.

Both are answers to the same form. What the preview showed comes back as a digest of the list, so that no other list is
stored than the one that was looked at; and the list itself comes back with the form, since nothing of it is kept here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.html import format_html, format_html_join

from batches.lists.imports import ImportResult, ProfileAddress, Reject
from batches.lists.preview import Preview
from batches.models import Batch, Profile
from batches.queue.contents import count_known
from batches.queue.refusals import Code, Refusal
from batches.reports.outlook import forecast_queue
from batches.text import pluralise

from . import display
from .actions import manager
from .base import BatchAdminBase
from .forms import AddBatchForm, NewBatchForm
from .queue_page import clock

SHOWN_REJECTS = 10


class AddingAdmin(BatchAdminBase):
    """The view that adds a batch. Not Django's own: that reads the list within a transaction, and on SQLite nobody
    could write meanwhile."""

    add_form_template = "admin/batches/adding/add.html"

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = AddBatchForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
        shown: dict[str, Any] = {}
        if form.is_valid():
            if is_confirmed(request, form.imported):
                answer = make_batch(request, form, form.imported.profiles, form.imported.digest)
                if not isinstance(answer, Refusal):
                    return respond_to_addition(self, request, *answer, form.imported)
                form.add_error(None, answer.message)
            else:
                shown = preview_context(request, form)
        return self.render_add_form(request, form, form_url, {**shown, **(extra_context or {})})

    def render_add_form(
        self, request: HttpRequest, form: Any, form_url: str, extra_context: dict[str, Any]
    ) -> HttpResponse:
        if request.headers.get("X-Requested-With") == "fetch":  # add.js, whose page keeps the form as it is
            return render(request, "admin/batches/adding/answer.html", {"form": form, **extra_context})
        form.keep_file()
        shown = helpers.AdminForm(form, [(None, {"fields": form.field_order})], {}, model_admin=self)
        context = {
            **self.admin_site.each_context(request),
            "title": "Add batch",
            "adminform": shown,
            "errors": helpers.AdminErrorList(form, []),
            "inline_admin_formsets": [],
            "media": self.media + shown.media,
            "preserved_filters": self.get_preserved_filters(request),
            **extra_context,
        }
        return self.render_change_form(request, context, add=True, form_url=form_url)


def is_confirmed(request: HttpRequest, imported: ImportResult) -> bool:
    """Whether the list is to be added, and is the one that was previewed."""
    return "add" in request.POST and request.POST.get("previewed") == imported.digest


def preview_context(request: HttpRequest, form: AddBatchForm) -> dict[str, Any]:
    # One look into the unique index for each address: a million took 3 s.
    known = count_known(profile.url for profile in form.imported.profiles)
    found = Preview(form.imported, known)
    return {
        "preview": found,
        "counted": pluralise(found.profiles, "profile"),
        "counts": list(counts(found)),
        "more_profiles": display.number(found.more_profiles),
        "more_rejects": display.number(found.more_rejects),
        "when": when_it_starts(form.cleaned_data["priority"]) if form.cleaned_data["queue"] else "",
        "is_other_list": "add" in request.POST,
    }


def counts(found: Preview) -> Iterable[tuple[str, str]]:
    host, most = found.busiest
    yield "Profiles", display.number(found.profiles)
    yield "New", display.number(found.new)
    yield "Known already", display.number(found.known)
    yield "Duplicates left out", display.number(found.duplicates)
    yield "Rejected lines", display.number(found.rejects)
    yield "Hosts", display.number(found.hosts) if found.hosts > 1 else host
    if found.hosts > 1 and most > 1:
        yield "Most at one host", f"{display.number(most)} at {host}"


def when_it_starts(priority: int) -> str:
    position, outlook = Batch.objects.end_of_band(priority), forecast_queue()
    start = outlook.start_at(position)
    where = f"Queued with priority {priority}, it will wait at position {position:,}"
    if outlook.queue.held:
        return f"{where}. The queue is held at present."
    return f"{where}, and start about {clock(start)}." if start else f"{where}."


# What adding from a list and checking selected profiles have in common


def make_batch(
    request: HttpRequest, form: NewBatchForm, profiles: QuerySet[Profile] | Sequence[ProfileAddress], *content: Any
) -> tuple[Batch, bool] | Refusal:
    """The batch that the form asks for, and whether it is made only now; `content` tells its profiles from others.

    A form that is sent twice makes one batch: the second finds it.
    """
    values = form.cleaned_data
    batch_id = form.batch_id(request.user.pk, *content)
    answer = manager(request).create_batch(
        values["name"],
        profiles,
        priority=values["priority"],
        checker=values["checker"],
        queue=values["queue"],
        id=batch_id,
    )
    if isinstance(answer, Batch):
        return answer, True
    made = Batch.objects.filter(pk=batch_id).first() if answer.code == Code.ALREADY_EXISTS else None
    return (made, False) if made else answer


def respond_to_addition(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    batch: Batch,
    is_new: bool,
    imported: ImportResult | None = None,
) -> HttpResponse:
    if is_new:
        model_admin.log_addition(request, batch, [{"added": {}}])
    said = _addition(batch, is_new, imported.duplicates if imported else 0)
    model_admin.message_user(request, said, messages.SUCCESS)
    if imported and imported.rejects:
        model_admin.message_user(request, _rejection(imported.rejects), messages.WARNING)
    if model_admin.admin_site.get_model_admin(Batch).has_view_permission(request, batch):
        return redirect("admin:batches_batch_change", batch.pk)
    return model_admin.response_post_save_add(request, batch)


def _addition(batch: Batch, is_new: bool, duplicates: int) -> str:
    where = f"waits at position {batch.position:,}" if batch.position else f"is {batch.status}"
    left_out = f" Duplicates left out: {duplicates:,}." if duplicates else ""
    once = "" if is_new else " The form was sent twice, and the batch was made once."
    return f"“{batch}” was added and {where}. Profiles: {batch.total_profiles:,}.{left_out}{once}"


def _rejection(rejects: Sequence[Reject]) -> str:
    lines = [(reject.line, reject.text, reject.reason) for reject in rejects[:SHOWN_REJECTS]]
    return format_html(
        "Left out, since they cannot be profiles: {}.{}{}",
        display.number(len(rejects)),
        format_html_join("", "<br>Line {}: “{}”. {}", lines),
        format_html("<br>… and {} more.", display.number(more)) if (more := len(rejects) - len(lines)) else "",
    )
