"""A batch's page: its live part, the details with charts and comparison, its buttons and its exports.

The details read every row of the batch: 0.2 s for 400,000 rows on PostgreSQL, and 0.6 s more to compare a repeat. The
page of a large batch therefore opens without them; the script fetches them when something has changed.
"""

from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db.models import Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page

from batches.lists.exports import EXPORTERS
from batches.models import Action, Batch, BatchLog, BatchProfile, Queue
from batches.queue.transitions import RULES
from batches.reports import comparison, queries, streams
from batches.web.downloads import name_download, stream_download

from . import display
from .actions import (
    BatchView,
    Result,
    call_manager,
    is_from_script,
    name_reason,
    respond,
)
from .chart import chart, shares

#: Rows of each kind on the page; it links to the rest.
SHOWN = 20
#: The page includes the details of a batch of at most this many profiles: they take about 50 ms.
MAX_PROFILES_WITH_DETAILS = 20_000


class BatchPage(BatchView):
    """The views of one batch, and what its page shows."""

    @property
    def urls(self) -> list[URLPattern]:
        return [
            self.button_path("<uuid:batch_id>/operate/", self.operate, "operate"),
            # Fetched every two seconds. They contain no secret that their compressed length could reveal.
            self.page_path("<uuid:batch_id>/live/", gzip_page(self.live), "live"),
            self.page_path("<uuid:batch_id>/details/", gzip_page(self.details), "details"),
            self.page_path("<uuid:batch_id>/export/<slug:form>/", self.export, "export"),
        ]

    def page_context(self, request: HttpRequest, batch: Batch) -> dict[str, Any]:
        """The context of the whole page. A large batch's details are left out unless the address asks for them."""
        at_once = batch.total_profiles <= MAX_PROFILES_WITH_DETAILS or "details" in request.GET
        return {
            **self.live_context(request, batch),
            **(details_context(request, batch) if at_once else {}),
            **rows_context(request, batch),
            "has_details": at_once,
            "title": str(batch),
            "subtitle": None,
        }

    def live_context(self, request: HttpRequest, batch: Batch) -> dict[str, Any]:
        previous = comparison.find_previous(batch)
        logs = list(batch.logs.newest_first()[:SHOWN]) if request.user.has_perm("batches.view_batchlog") else []
        return {
            "batch": batch,
            "now": timezone.now(),
            "summary": summarise(batch, logs),
            **queue_state(batch),
            "can_operate": self.model_admin.has_operate_permission(request),
            "previous": previous,
            "logs": logs,
            "state": details_key(batch, previous),
        }

    def live(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        context = self.live_context(request, get_object_or_404(Batch.objects.select_related("list"), pk=batch_id))
        return render(request, "admin/batches/batch/live.html", context)

    def details(self, request: HttpRequest, batch_id: UUID) -> HttpResponse:
        batch = get_object_or_404(Batch, pk=batch_id)
        context = {
            **details_context(request, batch),
            **rows_context(request, batch),
            "batch": batch,
            "can_operate": self.model_admin.has_operate_permission(request),
        }
        return render(request, "admin/batches/batch/details_live.html", context)

    def page_url(self, request: HttpRequest, batch_id: UUID) -> str:
        return self.model_admin.address_of("batch_change", batch_id)

    def undo_address(self, batch_id: UUID) -> str:
        return self.model_admin.address_of("batch_operate", batch_id)

    def operate(self, request: HttpRequest, batch_id: UUID) -> Result | HttpResponse:
        """Press a button. A script gets the address of a new batch."""
        get_object_or_404(Batch, pk=batch_id)
        result, success = call_manager(request, request.POST.get("call", ""), batch_id)
        if not isinstance(result, Batch):
            return result, success
        page = self.page_url(request, result.pk)
        response = respond(request, result, success, page)
        return HttpResponse(status=201, headers={"Location": page}) if is_from_script(request) else response

    def export(self, request: HttpRequest, batch_id: UUID, form: str) -> HttpResponseBase:
        if form not in EXPORTERS:
            raise Http404
        if not has_export_permission(request):
            raise PermissionDenied
        batch = get_object_or_404(Batch, pk=batch_id)
        rows, status = BatchProfile.objects.of_batch(batch), request.GET.get("status", "")
        if "status" in request.GET:
            if status not in BatchProfile.Status.values:
                raise Http404
            rows = rows.filter(status=status)
        return stream_download(EXPORTERS[form](streams.stream_rows(rows)), name_download(batch, status), form)


def queue_state(batch: Batch) -> dict[str, Any]:
    """The version of the queue and the name of another running batch, read together: a button sends the version."""
    name = Batch.objects.running().exclude(pk=batch.pk).values("name")[:1]
    queue = Queue.objects.annotate(running=Subquery(name)).values("version", "running").first()
    return dict(queue or {"version": 0, "running": None})


def has_export_permission(request: HttpRequest) -> bool:
    return request.user.has_perms(["batches.view_batchprofile", "batches.view_profile"])


def summarise(batch: Batch, logs: list[BatchLog]) -> str:
    """Screen readers read this out whenever it changes, so it has no progress, only the events of the batch."""
    values = {"status": batch.get_status_display(), "position": display.number(batch.position or 0)}
    status = _("%(status)s at position %(position)s.") % values if batch.position else f"{values['status']}."
    if not logs:
        return status
    latest = _("Latest, %(time)s: %(what)s")
    values = {"time": display.clock(logs[0].created_at, seconds=True), "what": display.in_words(logs[0])}
    return f"{status} {latest % values}"


def details_key(*batches: Batch | None) -> str:
    """Changes whenever the details may have changed. While it stays the same, nothing has to be read again."""
    return " ".join(
        f"{batch.status} {batch.completed_profiles} {batch.failed_checks} {batch.stories_found} {batch.completed_at}"
        for batch in filter(None, batches)
    )


def rows_context(request: HttpRequest, batch: Batch) -> dict[str, Any]:
    exports = list(EXPORTERS) if has_export_permission(request) else []
    return {"stories": batch.new_stories[:SHOWN], "has_baseline": batch.has_baseline, "exports": exports}


def details_context(request: HttpRequest, batch: Batch) -> dict[str, Any]:
    # Read the key first: a change while the rest is read then causes another read.
    key = details_key(batch, comparison.find_previous(batch))
    now = timezone.now()
    outcomes = {name: count for name, count in batch.outcomes.items() if count or name != "skipped"}
    may_view_rows = request.user.has_perm("batches.view_batchprofile")
    compared = comparison.compare(batch)
    reasons = queries.count_failure_reasons(batch, SHOWN) if may_view_rows else []
    return {
        "details_updated_at": now,
        "details_state": key,
        "chart": chart(queries.count_checks_per_minute(batch)),
        "outcomes": [{**share, "label": BatchProfile.Status(share["name"]).label} for share in shares(outcomes)],
        "reasons": [(name_reason(reason), reason, count) for reason, count in reasons],
        "compared": compared,
        "can_retry": RULES[Action.RETRY_FAILED].is_offered(batch),
        "has_earlier_checks": batch.attempts.exists(),
        "changes": [(change, getattr(compared, change)) for change in comparison.Change] if compared else [],
    }
