"""Add a batch from a list: first a preview that stores nothing, then the batch.

Both are answers to the same form. Each request contains the list, since the server does not store it, and the digest of
the previewed list, so that only a previewed list is added.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from batches.lists.addresses import host_of
from batches.lists.exports import REJECT_COLUMNS, export_csv
from batches.lists.imports import ImportResult, Names, Reject
from batches.models import STATUS_WORDS, Batch, Profile
from batches.queue.contents import count_known
from batches.queue.refusals import Code
from batches.reports.forecast import forecast_queue
from batches.text import Sentence, choose_plural, join
from batches.web.downloads import stream_download

from .actions import BatchAdminBase, get_manager, is_from_script
from .display import clock, number
from .forms import AddBatchForm, ContentForm, NewBatchForm

SHOWN_REJECTS = 10


class AddBatchAdmin(BatchAdminBase):
    """The view that adds a batch. Django's own reads the list in a transaction, which would block writers on SQLite."""

    add_form_template = "admin/batches/adding/add.html"

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = AddBatchForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
        if not request.user.has_perm("batches.add_profilelist"):
            del form.fields["keep"]
        context: dict[str, Any] = {}
        is_valid = form.is_valid()
        if "rejected" in request.POST and form.rejects:
            return download_rejects(form)
        if is_valid:
            # Only a list that was previewed is added.
            if "add" in request.POST and request.POST.get("previewed") == form.imported.digest:
                if added := create_batch(request, form, form.imported.profiles, form.imported.digest):
                    return respond_to_addition(self, request, *added, form.imported)
            else:
                context = preview_context(request, form)
        return self.render_add_form(request, form, form_url, {**context, **(extra_context or {})})

    def render_add_form(
        self, request: HttpRequest, form: Any, form_url: str, extra_context: dict[str, Any]
    ) -> HttpResponse:
        if is_from_script(request):  # its page keeps the form
            return render(request, "admin/batches/adding/result.html", {"form": form, **extra_context})
        form.keep_file()
        context = {
            **self.form_context(request, form, [name for name in form.field_order if name in form.fields]),
            "title": _("Add batch"),
            "inline_admin_formsets": [],
            "preserved_filters": self.get_preserved_filters(request),
            **extra_context,
        }
        return self.render_change_form(request, context, add=True, form_url=form_url)


def preview_context(request: HttpRequest, form: AddBatchForm) -> dict[str, Any]:
    # One lookup in the unique index per address: 3 s for a million.
    known = count_known(form.imported.profiles)
    hosts = Counter(map(host_of, form.imported.profiles))
    return {
        "imported": form.imported,
        "known": known,
        "new": len(form.imported.profiles) - known,
        "first_profiles": list(islice(form.imported.profiles.items(), 5)),
        "hosts": len(hosts),
        "busiest_host": hosts.most_common(1)[0],
        "when": describe_start(form.cleaned_data["priority"]) if form.cleaned_data["queue"] else "",
        "is_other_list": "add" in request.POST,
    }


def describe_start(priority: int) -> str:
    position, outlook = Batch.objects.end_of_band(priority), forecast_queue()
    start = outlook.start_at(position)
    values = {"priority": priority, "position": number(position), "time": clock(start)}
    if outlook.queue.held:
        sentence = _("Queued with priority %(priority)s, it will wait at position %(position)s. The queue is held.")
    elif start:
        sentence = _(
            "Queued with priority %(priority)s, it will wait at position %(position)s and start about %(time)s."
        )
    else:
        sentence = _("Queued with priority %(priority)s, it will wait at position %(position)s.")
    return sentence % values


# Shared with the import into a list


def download_rejects(form: ContentForm) -> HttpResponseBase:
    """All invalid lines of the list in the form; its page shows only the first of them."""
    return stream_download(export_csv(form.rejects, REJECT_COLUMNS), "rejected lines", "csv")


# Shared with the action that checks selected profiles


def create_batch(
    request: HttpRequest, form: NewBatchForm, profiles: QuerySet[Profile] | Names, *content: Any
) -> tuple[Batch, bool] | None:
    """The batch of this form, and whether this request created it. If it is refused, the form has the reason.

    A form that is sent twice creates one batch: the second request finds it. `content` identifies the profiles.
    """
    values = form.cleaned_data
    batch_id = form.batch_id(str(request.user.pk), *content)
    result = get_manager(request).create_batch(
        values["name"],
        profiles,
        priority=values["priority"],
        checker=values["checker"],
        queue=values["queue"],
        id=batch_id,
        keep=values.get("keep", False),
        count_first=values["count_first"],
    )
    if isinstance(result, Batch):
        return result, True
    if result.code == Code.ALREADY_EXISTS and (existing := Batch.objects.filter(pk=batch_id).first()):
        return existing, False
    form.add_error(None, result.message)
    return None


def respond_to_addition(
    model_admin: Any, request: HttpRequest, batch: Batch, is_new: bool, imported: ImportResult | None = None
) -> HttpResponse:
    if is_new:
        model_admin.log_addition(request, batch, [{"added": {}}])
    sentence = _describe_addition(batch, is_new, imported.duplicates if imported else 0)
    model_admin.message_user(request, sentence, messages.SUCCESS)
    if imported and imported.rejects:
        model_admin.message_user(request, _describe_rejects(imported.rejects), messages.WARNING)
    if model_admin.admin_site.get_model_admin(Batch).has_view_permission(request, batch):
        return redirect(model_admin.address_of("batch_change", batch.pk))
    response: HttpResponse = model_admin.response_post_save_add(request, batch)
    return response


def _describe_addition(batch: Batch, is_new: bool, duplicates: int) -> str:
    count = batch.total_profiles
    if batch.position:
        added = choose_plural(
            "“%(batch)s” was added and waits at position %(position)s with %(count)s profile.",
            "“%(batch)s” was added and waits at position %(position)s with %(count)s profiles.",
            count=count,
            batch=batch,
            position=batch.position,
        )
    else:
        added = choose_plural(
            "“%(batch)s” was added and is %(status)s with %(count)s profile.",
            "“%(batch)s” was added and is %(status)s with %(count)s profiles.",
            count=count,
            batch=batch,
            status=STATUS_WORDS[batch.status],
        )
    sentences = [added]
    if duplicates:
        skipped = choose_plural("%(count)s duplicate skipped.", "%(count)s duplicates skipped.", count=duplicates)
        sentences.append(skipped)
    if not is_new:
        sentences.append(Sentence("The form was sent twice; only one batch was created."))
    return join(sentences, " ")


def _describe_rejects(rejects: Sequence[Reject]) -> str:
    summary = choose_plural(
        "%(count)s line skipped because it is not valid:",
        "%(count)s lines skipped because they are not valid:",
        count=len(rejects),
    )
    shown = [
        Sentence("Line %(line)s: “%(text)s”. %(reason)s", line=str(found.line), text=found.text, reason=found.reason)
        for found in rejects[:SHOWN_REJECTS]
    ]
    if (more := len(rejects) - SHOWN_REJECTS) > 0:
        shown.append(Sentence("… and %(more)s more.", more=more))
    return format_html("{}{}", summary, format_html_join("", "<br>{}", ((line,) for line in shown)))
