"""Buttons and bulk actions: each is one call of BatchManager, and the page says what became of it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html, format_html_join

from batches.batch_manager import BatchManager
from batches.models import Action, Batch, Channel
from batches.queue.actions import RULES
from batches.queue.bulk import BulkResult
from batches.queue.values import as_uuid

#: What the permission to operate allows, in the order of the buttons.
OPERATOR_ACTIONS = (
    Action.QUEUE_BATCH,
    Action.START_BATCH,
    Action.PAUSE_BATCH,
    Action.RETRY_FAILED,
    Action.REPEAT_BATCH,
)


def get_manager(request: HttpRequest) -> BatchManager:
    """The manager that acts on behalf of the request's user."""
    return BatchManager(actor=request.user.get_username(), channel=Channel.ADMIN)


def list_buttons(batch: Batch, actions: tuple[Action, ...] = OPERATOR_ACTIONS) -> list[tuple[str, str]]:
    """The action and label of each button that a batch has."""
    return [(action.value, RULES[action].label) for action in actions if RULES[action].is_offered(batch)]


def is_from_script(request: HttpRequest) -> bool:
    """Whether the request comes from live.js or add.js, which swap parts of the page instead of loading it again."""
    return request.headers.get("X-Requested-With") == "fetch"


def selected_ids(request: HttpRequest) -> list[UUID]:
    """The ids in the form's fields `selected`; other texts are ignored, since they select nothing."""
    texts = " ".join(request.POST.getlist("selected")).split()
    return [pk for pk in map(as_uuid, texts) if pk]


def parse_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # also raised for more digits than Python reads
        return None


def respond(request: HttpRequest, result: Any, success: str, page: str) -> HttpResponse:
    """Return to the page with a message. A script gets the refusal as plain text, to show it beside the button."""
    if not result and is_from_script(request):
        return HttpResponse(result.message, status=409, content_type="text/plain; charset=utf-8")
    if result:
        messages.success(request, success)
    else:
        messages.warning(request, result.message)
    return redirect(page)


def show_result(request: HttpRequest, result: BulkResult) -> None:
    """Show the result of a bulk action as one message."""
    summary, *reasons = result.sentences()
    if reasons:
        items = format_html_join("", "<li>{}</li>", ((reason,) for reason in reasons))
        summary = format_html("{}<ul>{}</ul>", summary, items)
    messages.add_message(request, messages.SUCCESS if result.is_complete else messages.WARNING, summary)
