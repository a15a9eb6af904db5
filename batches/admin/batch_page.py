"""A batch's own page: its live part, the dearer one with charts and comparison, its buttons, and the exports.

What is dear reads every row of the batch: 0.6 s for a million of them, and 1.4 s more for the comparison of a repeat.
The page of a large batch therefore opens without it, and the script asks for it when something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID
from zlib import crc32

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.text import slugify
from django.views.decorators.gzip import gzip_page

from batches.lists.exports import EXPORTERS
from batches.models import Action, Batch, BatchLog, StoryResult
from batches.queue.actions import RULES
from batches.reports import comparison, queries
from batches.text import format_duration
from batches.web.downloads import stream_download

from . import display
from .actions import OPERATOR_ACTIONS, buttons, is_from_script, manager, respond
from .base import BatchView, requires_view
from .chart import chart, shares

#: Rows of each kind on the page; the full lists are linked.
SHOWN = 20
#: Profiles up to which what is dear takes some 50 ms at most, and is part of the page at once.
MAX_AT_ONCE = 20_000
View = Callable[..., HttpResponseBase]


class BatchPage(BatchView):
    """The views beside Django's own of the page, and what the page shows."""

    @property
    def urls(self) -> list[URLPattern]:
        views: dict[str, tuple[View, str]] = {
            "operate/": (self.operate, "operate"),
            # Read again and again. There is no secret in them that their length could give away.
            "live/": (gzip_page(self.live), "live"),
            "details/": (gzip_page(self.details), "details"),
            "export/<slug:form>/": (self.export, "export"),
        }
        wrap = self.batch_admin.admin_site.admin_view
        return [
            path(f"<uuid:batch_id>/{route}", wrap(view), name=f"batches_batch_{name}")
            for route, (view, name) in views.items()
        ]

    def shown(self, request: HttpRequest, batch: Batch) -> dict[str, Any]:
        """The context of the whole page; of a large batch without what is dear, unless the address asks for it."""
        at_once = batch.total_profiles <= MAX_AT_ONCE or "details" in request.GET
        return {
            **self.live_context(request, batch),
            **(details_of(batch) if at_once else {}),
            "has_details": at_once,
            "title": "Batch",
            "stories": stories(batch),
            "exports": list(EXPORTERS) if may_export(request) else [],
        }

    def live_context(self, request: HttpRequest, batch: Batch) -> dict[str, Any]:
        can_operate = self.batch_admin.has_operate_permission(request)
        previous = comparison.find_previous(batch)
        logs = list(queries.logs(batch)[:SHOWN])
        return {
            "batch": batch,
            "now": timezone.now(),
            "summary": summary(batch, logs),
            "can_operate": can_operate,
            "buttons": buttons(batch) if can_operate else [],
            "facts": list(facts(batch, previous)),
            "logs": [(log, display.movement(log)) for log in logs],
            "state": state(batch, previous),
        }

    @requires_view
    def live(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        context = self.live_context(request, get_object_or_404(Batch, pk=batch_id))
        return render(request, "admin/batches/batch/live.html", context)

    @requires_view
    def details(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        batch = get_object_or_404(Batch, pk=batch_id)
        context = {**details_of(batch), "batch": batch, "stories": stories(batch)}
        return render(request, "admin/batches/batch/dear.html", context)

    def operate(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        """The buttons. The script gets a new batch as a place to go to."""
        page = reverse("admin:batches_batch_change", args=[batch_id])
        if request.method != "POST":  # a login leads back here, and must not press the button
            return redirect(page)
        call = request.POST.get("call", "")
        if call not in OPERATOR_ACTIONS or not self.batch_admin.has_operate_permission(request):
            raise PermissionDenied
        batch = get_object_or_404(Batch, pk=batch_id)
        result = getattr(manager(request), call)(batch.pk)
        response = respond(request, result, RULES[Action(call)].success.format(batch), page)
        if not isinstance(result, Batch):
            return response
        address = reverse("admin:batches_batch_change", args=[result.pk])
        return HttpResponse(status=201, headers={"Location": address}) if is_from_script(request) else redirect(address)

    @requires_view
    def export(self, request: HttpRequest, batch_id: UUID, form: str) -> HttpResponseBase:
        if form not in EXPORTERS:
            raise Http404
        if not may_export(request):
            raise PermissionDenied
        batch = get_object_or_404(Batch, pk=batch_id)
        name = slugify(batch.name, allow_unicode=True)[:60] or "batch"
        return stream_download(EXPORTERS[form](queries.all_rows(batch)), f"{name}-{str(batch.pk)[:8]}", form)


def may_export(request: HttpRequest) -> bool:
    return request.user.has_perms(["batches.view_batchprofile", "batches.view_profile"])


def summary(batch: Batch, logs: list[BatchLog]) -> str:
    """Read out whenever it changes, which is when something happened to the batch."""
    status = f"{batch.get_status_display()}{f' at position {batch.position:,}' if batch.position else ''}."
    if not logs:
        return status
    latest = logs[0]
    by = f" by {latest.actor}" if latest.actor else ""
    return f"{status} Latest: {latest.action}{by}, {display.moment(latest.created_at)}."


def state(*batches: Batch | None) -> str:
    """Changes whenever what is dear may have: while it stays, nobody has to compute that again."""
    known = [
        (batch.completed_profiles, batch.failed_checks, batch.stories_found, batch.completed_at)
        for batch in batches
        if batch
    ]
    return " ".join(str(value) for values in known for value in values)


def facts(batch: Batch, previous: Batch | None) -> Iterator[tuple[str, str]]:
    """Name and value of what is known of the batch."""
    progress = batch.progress
    yield "Status", display.status_label(batch)
    if batch.position:
        yield "Position", display.place(batch)
    yield "Progress", display.progress_bar(batch)
    yield "New stories", display.number(batch.stories_found)
    if progress.rate:
        yield "Rate", display.rate(progress.rate)
    if progress.seconds_left:
        yield "Work left", f"about {format_duration(progress.seconds_left)}"
    if batch.run_seconds:
        yield "Time at work", format_duration(batch.run_seconds)
    yield "Priority", str(batch.priority)
    yield "Checker", batch.checker
    moments = {
        "Created": batch.created_at,
        "Started": batch.started_at,
        "Worker last seen": batch.lease_at,
        "Completed": batch.completed_at,
    }
    for name, moment in moments.items():
        if moment:
            yield name, display.moment(moment)
    if previous is not None:
        yield "Repeats", display.page_link(previous)


def details_of(batch: Batch) -> dict[str, Any]:
    """The context of what is dear."""
    # First, so that what changes while the rest is read is looked at again.
    known = state(batch, comparison.find_previous(batch))
    as_of = timezone.now()
    compared = comparison.compare(batch)
    return {
        "details_as_of": as_of,
        "details_state": known,
        "chart": chart(queries.checks_per_minute(batch)),
        "outcomes": outcomes(batch),
        "reasons": [(reason_id(reason), reason, count) for reason, count in queries.failure_reasons(batch, SHOWN)],
        "compared": compared,
        "changes": changes(compared) if compared else [],
    }


def stories(batch: Batch) -> list[tuple[StoryResult, str]]:
    return [(story, display.story_link(story)) for story in queries.new_stories(batch)[:SHOWN]]


def outcomes(batch: Batch) -> list[Any]:
    pending = batch.total_profiles - batch.successful_checks - batch.failed_checks
    return shares([("ok", batch.successful_checks), ("failed", batch.failed_checks), ("pending", pending)])


def reason_id(reason: str) -> str:
    """The same for the same reason at each look, so that the focus stays with it."""
    return f"{crc32(reason.encode()):08x}"


def changes(compared: comparison.Comparison) -> list[tuple[comparison.Change, int]]:
    return [(change, getattr(compared, change.value)) for change in comparison.Change]
