"""The live queue page: its address, the part of it that is fetched again and again, and its buttons.

Every button is that of a plain form, and what is shown follows from the address: the script only saves the reload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.views.decorators.gzip import gzip_page

from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.queue.refusals import Code, Refusal, Refused
from batches.queue.transitions import find_batch
from batches.text import pluralise

from .operations import DELETION, OPERATIONS, Operation, manager
from .queue_page import SETTLED, Asked, batches_of, shown

if TYPE_CHECKING:
    from .batch import BatchAdmin

SELECTABLE = {Batch.Status.QUEUED, *SETTLED}
FOR_SELECTED = {call: OPERATIONS[call] for call in ("queue_batch", "pause_batch", "retry_failed")} | {
    DELETION.call: DELETION
}
#: Each is a transaction of its own, and a request has to end; the same button goes on with the rest.
MAX_AT_ONCE = 1000
#: Sentences after one click.
MAX_REASONS = 20

NOTHING_SELECTED = Refusal(Code.BAD_VALUE, "No batch is selected.")

#: What the manager answered, and what is said if it did it.
Answer = tuple[Any, str]


def look(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A view that only reads."""

    @wraps(view)
    def respond(page: QueuePage, request: HttpRequest) -> HttpResponse:
        if not page.batch_admin.has_view_permission(request):
            raise PermissionDenied
        return view(page, request)

    return respond


def press(view: Callable[..., Answer | HttpResponse]) -> Callable[..., HttpResponse]:
    """A button: the view makes its one call, and the page tells the person what became of it."""

    @wraps(view)
    def respond(page: QueuePage, request: HttpRequest, **values: Any) -> HttpResponse:
        if request.method != "POST":  # a login leads back here, and must not press the button
            return redirect("admin:batches_batch_queue")
        if not page.may(request, values.get("call")):
            raise PermissionDenied
        answer = view(page, request, **values)
        return answer if isinstance(answer, HttpResponse) else told(request, *answer)

    return respond


class QueuePage:
    """The views. Looking needs the permission to view batches, pressing that to operate or to delete them."""

    def __init__(self, batch_admin: BatchAdmin) -> None:
        self.batch_admin = batch_admin

    @property
    def urls(self) -> list[URLPattern]:
        views: dict[str, tuple[Callable[..., HttpResponse], str]] = {
            "queue/": (self.page, "queue"),
            # 20 kB instead of 300 every two seconds. There is no secret in it that its length could give away.
            "queue/live/": (gzip_page(self.live), "queue_live"),
            "queue/hold/": (self.hold, "queue_hold"),
            "queue/release/": (self.release, "queue_release"),
            "queue/move/<uuid:batch_id>/<int:position>/<int:version>/": (self.move, "queue_move"),
            "queue/selected/<slug:call>/": (self.operate_selected, "queue_selected"),
            "queue/<slug:call>/<uuid:batch_id>/": (self.operate, "queue_operate"),
        }
        wrap = self.batch_admin.admin_site.admin_view
        return [path(route, wrap(view), name=f"batches_batch_{name}") for route, (view, name) in views.items()]

    def may(self, request: HttpRequest, call: object) -> bool:
        if call == DELETION.call:
            return self.batch_admin.has_delete_permission(request)
        return self.batch_admin.has_operate_permission(request)

    @look
    def page(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST":  # by the form's button that does nothing
            return back(request)
        context = self.frame(request, "Queue") | self.shown(request) | {"is_page": True}
        return render(request, "admin/batches/queue/page.html", context)

    @look
    def live(self, request: HttpRequest) -> HttpResponse:
        return render(request, "admin/batches/queue/live.html", self.shown(request))

    def shown(self, request: HttpRequest) -> dict[str, Any]:
        return shown(Asked.from_query(request.GET), request.user)

    def frame(self, request: HttpRequest, title: str) -> dict[str, Any]:
        context = self.batch_admin.admin_site.each_context(request)
        return {**context, "title": title, "opts": self.batch_admin.opts}

    @press
    def hold(self, request: HttpRequest) -> Answer:
        return manager(request).hold_queue(request.POST.get("reason", "")), "The queue is held."

    @press
    def release(self, request: HttpRequest) -> Answer:
        return manager(request).release_queue(), "The queue was released."

    @press
    def move(self, request: HttpRequest, batch_id: UUID, position: int, version: int) -> Answer:
        answer = manager(request).move_batch(batch_id, position, expected_version=version)
        return answer, f"“{name_of(batch_id)}” was moved to {position:,}."

    @press
    def operate(self, request: HttpRequest, call: str, batch_id: UUID) -> Answer:
        if call not in OPERATIONS:
            raise Http404
        name = name_of(batch_id)
        return getattr(manager(request), call)(batch_id), OPERATIONS[call].success.format(name)

    @press
    def operate_selected(self, request: HttpRequest, call: str) -> Answer | HttpResponse:
        if call not in FOR_SELECTED:
            raise Http404
        batches, left = selected(request)
        if not batches:
            return NOTHING_SELECTED, ""
        if call == DELETION.call and "confirmed" not in request.POST:
            return self.confirm_deletion(request, batches, left)
        operation = FOR_SELECTED[call]
        answers = answers_for(batches, operation, manager(request))
        if call == DELETION.call:
            self.batch_admin.log_deletions(request, [batch for batch, answer in answers if answer])  # type: ignore[arg-type]
        level = messages.SUCCESS if all(answer for _, answer in answers) and not left else messages.WARNING
        messages.add_message(request, level, sentence(operation, answers, left))
        return back(request)

    def confirm_deletion(self, request: HttpRequest, batches: list[Batch], left: int) -> HttpResponse:
        context = self.frame(request, "Delete batches?") | {
            "asked": Asked.from_query(request.POST),
            "batches": batches[:MAX_REASONS],
            "more": len(batches) - len(batches[:MAX_REASONS]),
            "left": left,
            "counted": pluralise(len(batches), "batch", "batches"),
            # Exactly those that were shown are deleted, whatever matches the filter by then.
            "ids": " ".join(str(batch.pk) for batch in batches),
        }
        return render(request, "admin/batches/queue/delete.html", context)


def told(request: HttpRequest, answer: Any, success: str) -> HttpResponse:
    """Back to the page with a message. The script gets a refusal as such, to show it beside the button."""
    if not answer and request.headers.get("X-Requested-With") == "fetch":
        return HttpResponse(answer.message, status=409, content_type="text/plain; charset=utf-8")
    if answer:
        messages.success(request, success)
    else:
        messages.warning(request, answer.message)
    return back(request)


def back(request: HttpRequest) -> HttpResponse:
    """To the page as it was: with the same filter, on the same page of it."""
    kept = {key: request.POST[key] for key in ("q", "p") if request.POST.get(key)}
    query = f"?{urlencode(kept)}" if kept else ""
    return redirect(reverse("admin:batches_batch_queue") + query)


def name_of(batch_id: UUID) -> str:
    try:
        return str(find_batch(batch_id))
    except Refused:  # and so will be the call
        return ""


def selected(request: HttpRequest) -> tuple[list[Batch], int]:
    """The batches that were ticked, with all of the sections of which all were; and how many are left for later.

    From the end of the queue: what leaves there leaves no gap to be closed.
    """
    asked = Asked.from_query(request.POST)
    wanted = Q(pk__in=list(_uuids(" ".join(request.POST.getlist("selected")))))
    for status in SELECTABLE & set(request.POST.getlist("all")):
        wanted |= Q(pk__in=batches_of(status, asked.search).values("pk"))
    batches = Batch.objects.filter(wanted).order_by(F("position").desc(nulls_first=True), "created_at")
    found = list(batches[:MAX_AT_ONCE])
    return found, batches.count() - len(found)


def answers_for(batches: list[Batch], operation: Operation, by: BatchManager) -> list[tuple[Batch, Any]]:
    if operation is DELETION:
        return list(zip(batches, by.delete_batches([batch.pk for batch in batches]), strict=True))
    call = getattr(by, operation.call)
    return [(batch, answer_for(batch, operation, call)) for batch in batches]


def answer_for(batch: Batch, operation: Operation, call: Callable[[UUID], Any]) -> Any:
    if batch.status == Batch.Status.QUEUED and operation.call == "queue_batch":
        # It would go to the end of its band, and that is not why it was ticked together with others.
        return Refusal(Code.ALREADY_QUEUED, f"“{batch}” is {batch.status} already.")
    return call(batch.pk)


def sentence(operation: Operation, answers: list[tuple[Batch, Any]], left: int) -> str:
    skipped = [answer.message for _, answer in answers if not answer]
    text = f"{operation.label}: {len(answers) - len(skipped):,} done, {len(skipped):,} skipped."
    if left:
        text += f" {left:,} more are selected: do it again for them."
    reasons = skipped[:MAX_REASONS]
    if more := len(skipped) - len(reasons):
        reasons.append(f"… and {more:,} more.")
    return format_html("{}<ul>{}</ul>", text, format_html_join("", "<li>{}</li>", ((reason,) for reason in reasons)))


def _uuids(text: str) -> Iterator[UUID]:
    """The ids in a text; what is none belongs to no batch."""
    for word in text.split():
        with suppress(ValueError):
            yield UUID(word)
