"""The live queue page: its addresses, the part that is fetched every two seconds, and its buttons.

Every button belongs to a plain form, and the address determines the content: the script only avoids reloads of the
page.
"""

from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page

from batches.models import Action, Batch
from batches.queue.bulk import undo_changes
from batches.queue.refusals import Code, Refusal

from .actions import (
    BatchView,
    Result,
    call_manager,
    get_manager,
    selected_ids,
    show_result,
    undoable_changes,
)
from .base import NOTHING_LEFT, parse_number
from .display import number
from .queue_content import SETTLED, batches_of, clean_search, queue_context

SELECTABLE = {Batch.Status.QUEUED, *SETTLED}
SELECTED_ACTIONS = (Action.QUEUE_BATCH, Action.PAUSE_BATCH, Action.RETRY_FAILED, Action.DELETE_BATCH)


class QueuePage(BatchView):
    """The views. The page requires the permission to view batches, its buttons that to operate or to delete them."""

    @property
    def urls(self) -> list[URLPattern]:
        return [
            self.page_path("queue/", self.page, "queue"),
            # 20 kB instead of 300 every two seconds. It contains no secret that its compressed length could reveal.
            self.page_path("queue/live/", gzip_page(self.live), "queue_live"),
            self.button_path("queue/hold/", self.hold, "queue_hold"),
            self.button_path("queue/release/", self.release, "queue_release"),
            self.button_path("queue/move/<uuid:batch_id>/", self.move, "queue_move"),
            self.button_path("queue/selected/<slug:call>/", self.operate_selected, "queue_selected"),
            self.button_path("queue/<slug:call>/<uuid:batch_id>/", self.operate, "queue_operate"),
        ]

    def page_url(self, request: HttpRequest, **values: Any) -> str:
        """The address of the page with the same filter and page number."""
        query = {key: request.POST[key] for key in ("q", "p") if request.POST.get(key)}
        return self.model_admin.address_of("batch_queue", **query)

    def undo_address(self, batch_id: UUID) -> str:
        return self.model_admin.address_of("batch_queue_operate", Action.UNDO_CHANGE.value, batch_id)

    def page(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST":  # the button that does nothing
            return redirect(self.page_url(request))
        site = self.model_admin.admin_site.each_context(request)
        context = {**site, "title": _("Queue"), "opts": self.model_admin.opts, **self.context(request)}
        context |= {"is_page": True, "opens_hold": "hold" in request.GET}
        return render(request, "admin/batches/queue/page.html", context)

    def live(self, request: HttpRequest) -> HttpResponse:
        return render(request, "admin/batches/queue/live.html", self.context(request))

    def context(self, request: HttpRequest) -> dict[str, Any]:
        return queue_context(request.GET, request.user)

    def hold(self, request: HttpRequest) -> Result:
        try:
            until = forms.DateTimeField(required=False).clean(request.POST.get("until"))
        except ValidationError:
            return Refusal(Code.BAD_VALUE, _("The end of the hold is not a valid time. Choose one.")), ""
        reason, stop = request.POST.get("reason", ""), "stop_running" in request.POST
        return get_manager(request).hold_queue(reason, until, stop), _("The queue is held.")

    def release(self, request: HttpRequest) -> Result:
        return get_manager(request).release_queue(), _("The queue was released.")

    def move(self, request: HttpRequest, batch_id: UUID) -> Result:
        """Move a batch to the top, whichever batch is there, or as the `move_query` in the address says."""
        manager = get_manager(request)
        if "top" in request.GET:
            result = manager.move_batch(batch_id, 1)
        else:
            by, passed = parse_number(request.GET.get("by", "")) or 0, request.GET.get("passed", "")
            result = manager.move_batch_past(batch_id, by, passed)
        batch = Batch.objects.filter(pk=batch_id).first()
        values = {"batch": batch, "position": number(getattr(batch, "position", None) or 1)}
        return result, _("“%(batch)s” was moved to %(position)s.") % values

    def operate(self, request: HttpRequest, call: str, batch_id: UUID) -> Result:
        return call_manager(request, call, batch_id)

    def operate_selected(self, request: HttpRequest, call: str) -> Result | HttpResponse:
        if call == Action.UNDO_CHANGE:
            return self.undo_selected(request)
        if call not in SELECTED_ACTIONS:
            raise Http404
        batches, url = selected_batches(request), self.page_url(request)
        if not batches.exists():
            return Refusal(Code.BAD_VALUE, str(NOTHING_LEFT)), ""
        form = {name: request.POST.get(name, "") for name in ("q", "p")}
        return self.model_admin.run_selected(request, Action(call), batches, form, url) or redirect(url)

    def undo_selected(self, request: HttpRequest) -> Result | HttpResponse:
        """Undo a bulk change of this user. The address has its action, and the log lines before and after it."""
        after, last = (parse_number(request.GET.get(name, "")) or 0 for name in ("after", "last"))
        changes = undoable_changes(request, request.GET.get("action", ""), after, last)
        if not changes:
            return Refusal(Code.NOTHING_TO_UNDO, _("There is nothing left to undo.")), ""
        show_result(request, undo_changes(get_manager(request), changes))
        return redirect(self.page_url(request))


def selected_batches(request: HttpRequest) -> QuerySet[Batch]:
    """The ticked batches, and all batches of the ticked sections."""
    search = clean_search(request.POST)
    wanted = Q(pk__in=selected_ids(request))
    for status in SELECTABLE & set(request.POST.getlist("all")):
        wanted |= Q(pk__in=batches_of(status, search).values("pk"))
    return Batch.objects.filter(wanted)
