"""Buttons and bulk actions: each is one call of BatchManager, and the page shows its result."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid5

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, Max, OuterRef, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from batches.batch_manager import BatchManager
from batches.limits import MAX_REASONS
from batches.models import STATUS_WORDS, Action, Batch, BatchLog, Channel
from batches.queue.bulk import BulkResult, run_bulk, select_batches
from batches.queue.refusals import Refusal, Refused
from batches.queue.transitions import RULES
from batches.queue.undo import can_be_undone
from batches.queue.values import as_uuid
from batches.reports import queries
from batches.text import Sentence, choose_plural, translate

from .base import NOTHING_LEFT, AdminView, ListAdmin, parse_number
from .display import register

#: The actions that the permission to operate allows, in the order of the buttons.
OPERATOR_ACTIONS = (
    Action.QUEUE_BATCH,
    Action.START_BATCH,
    Action.PAUSE_BATCH,
    Action.RETRY_FAILED,
    Action.REPEAT_BATCH,
)
#: The methods that a button may call.
CALLS = (*OPERATOR_ACTIONS, Action.UNDO_CHANGE)
#: The buttons of a batch on the queue page, the most likely one first.
QUEUE_ACTIONS = (Action.START_BATCH,)
SETTLED_ACTIONS = (Action.QUEUE_BATCH, Action.RETRY_FAILED, Action.REPEAT_BATCH)
#: On each page, since queueing a done batch deletes its results.
DONE_ACTIONS = (Action.RETRY_FAILED, Action.REPEAT_BATCH, Action.QUEUE_BATCH)

#: The value that the manager returned, and the message of a success.
Result = tuple[Any, str]


def get_manager(request: HttpRequest) -> BatchManager:
    """The manager that acts on behalf of the request's user."""
    return BatchManager(actor=request.user.get_username(), channel=Channel.ADMIN)


def call_manager(request: HttpRequest, call: str, batch_id: UUID) -> Result:
    """Press a button of a batch. The address has the status and the queue version that the page showed."""
    if call not in CALLS:
        raise Http404
    batch = Batch.objects.filter(pk=batch_id).first()
    success = RULES[Action(call)].describe_success(batch)
    if call == Action.REPEAT_BATCH:
        return repeat_once(request, batch_id), success
    values: dict[str, Any] = {"expected_status": request.GET.get("status")}
    if call == Action.START_BATCH and "preempt" in request.GET:  # interrupts only the batch that was shown as running
        values |= {"preempt": True, "expected_version": parse_number(request.GET.get("version", "")) or 0}
    if call == Action.PAUSE_BATCH:
        values["reason"] = request.POST.get("reason", "")
    if call == Action.RETRY_FAILED and batch and "chosen" in request.POST:
        values["reasons"] = chosen_reasons(request, batch)
        success = Sentence("“%(batch)s” was queued to recheck the profiles that failed for these reasons.", batch=batch)
    if call == Action.UNDO_CHANGE:
        values = {"entry": parse_number(request.GET.get("entry", ""))}
    return getattr(get_manager(request), call)(batch_id, **values), success


def chosen_reasons(request: HttpRequest, batch: Batch) -> list[str]:
    """The ticked reasons, or the reason beside the pressed button.

    The form sends their names, since a browser changes the line breaks of texts. A shown reason may have become less
    frequent than others since.
    """
    sent = request.POST.getlist("only") or request.POST.getlist("ticked")
    reasons = [reason for reason, _ in queries.count_failure_reasons(batch, MAX_REASONS)]
    return [reason for reason in reasons if name_reason(reason) in sent]


def name_reason(reason: str) -> str:
    """A stable name, so that its link keeps the focus when the page is updated."""
    return sha256(reason.encode()).hexdigest()[:16]


def repeat_once(request: HttpRequest, batch_id: UUID) -> Batch | Refusal:
    """Create the repeat. A button that is sent twice creates one: the second request finds it."""
    repeat_id = uuid5(batch_id, f"{request.user.pk} {request.GET['version']}") if "version" in request.GET else None
    result = get_manager(request).repeat_batch(batch_id, id=repeat_id)
    if not result and repeat_id:
        return Batch.objects.filter(pk=repeat_id).first() or result
    return result


def latest_line() -> int:
    """The log line of the latest change, for a page that asks for confirmation."""
    return BatchLog.objects.aggregate(latest=Max("pk"))["latest"] or 0


def unchanged_since(line: str | None) -> QuerySet[Batch]:
    """The batches that nobody has changed since that log line; all of them without a line."""
    number = parse_number(line or "")
    if number is None:
        return Batch.objects.all()
    return Batch.objects.exclude(Exists(BatchLog.objects.filter(batch=OuterRef("pk"), pk__gt=number)))


@register.filter
def buttons(batch: Batch, actions: Sequence[Action] = OPERATOR_ACTIONS) -> list[tuple[str, str]]:
    """The action and label of each button of the batch, the most likely one first."""
    if batch.status == Batch.Status.DONE:
        actions = DONE_ACTIONS
    return [(action.value, RULES[action].label_of(batch)) for action in actions if RULES[action].is_offered(batch)]


@register.filter
def queue_buttons(batch: Batch) -> list[tuple[str, str]]:
    return buttons(batch, SETTLED_ACTIONS if batch.position is None else QUEUE_ACTIONS)


def is_from_script(request: HttpRequest) -> bool:
    """Whether the request comes from live.js or add.js, which swap parts of the page instead of loading it again."""
    return request.headers.get("X-Requested-With") == "fetch"


def selected_ids(request: HttpRequest) -> list[UUID]:
    """The ids in the form's fields `selected`; other texts are ignored, since they select nothing."""
    texts = " ".join(request.POST.getlist("selected")).split()
    return [pk for pk in map(as_uuid, texts) if pk]


def respond(request: HttpRequest, result: Any, success: str, page: str, undo: str = "") -> HttpResponse:
    """Return to the page with a message. A script gets the refusal as plain text, to show it beside the button."""
    if not result and is_from_script(request):
        return HttpResponse(translate(result.message), status=409, content_type="text/plain; charset=utf-8")
    if result:
        messages.success(request, format_html("{}{}", success, undo))
    else:
        messages.warning(request, translate(result.message))
    return redirect(page)


def changes_after(request: HttpRequest, line: int) -> QuerySet[BatchLog]:
    """The changes by this user in the admin since that log line, newest first."""
    later = BatchLog.objects.changes().filter(pk__gt=line, batch__isnull=False)
    return later.filter(actor=request.user.get_username(), channel=Channel.ADMIN)


def undoable_changes(request: HttpRequest, action: str, after: int, last: int) -> list[BatchLog]:
    """The changes of a bulk action that can be undone: those between two log lines."""
    if action not in OPERATOR_ACTIONS:  # somebody has typed the address
        return []
    changes = changes_after(request, after).filter(action=action, pk__lte=last)
    return [change for change in changes if can_be_undone(change)]


def undo_button(request: HttpRequest, batch_id: UUID, seen: int, address: str) -> str:
    """The “Undo” button in the message of the change after this log line; empty if the change cannot be undone."""
    change = changes_after(request, seen).filter(batch=batch_id).first()
    return undo_html(address, entry=change.pk) if change and can_be_undone(change) else ""


def undo_html(address: str, **query: object) -> str:
    return format_html(
        ' <button id="message-undo" class="button batch-quiet" form="operate" formaction="{}?{}" '
        'name="call" value="{}">{}</button>',
        address,
        urlencode(query),
        Action.UNDO_CHANGE,
        _("Undo"),
    )


def show_result(request: HttpRequest, result: BulkResult, undo: str = "") -> None:
    """Show the result of a bulk action as one message."""
    summary, *reasons = map(translate, result.sentences())
    summary = format_html("{}{}", summary, undo)
    if reasons:
        items = format_html_join("", "<li>{}</li>", ((reason,) for reason in reasons))
        summary = format_html("{}<ul>{}</ul>", summary, items)
    messages.add_message(request, messages.SUCCESS if result.is_complete else messages.WARNING, summary)


class BatchAdminBase(ListAdmin):
    """Permissions and bulk actions, for the list of batches and for the app's own pages."""

    def has_action_permission(self, request: HttpRequest, action: str) -> bool:
        if action == Action.DELETE_BATCH:
            return self.has_delete_permission(request)
        return self.has_operate_permission(request)

    def run_selected(
        self,
        request: HttpRequest,
        action: Action,
        batches: QuerySet[Batch],
        form: Mapping[str, str],
        cancel_url: str,
        **more: Any,
    ) -> HttpResponse | None:
        """Run the action on as many of these batches as its cap allows. A deletion asks for confirmation first.

        The confirmation page posts the fields of `form` again, to the same address. Its template also gets `more`.
        """
        is_confirmed = "confirmed" in request.POST
        if action == Action.DELETE_BATCH and is_confirmed:
            batches = Batch.objects.filter(pk__in=selected_ids(request))
        try:
            ids, left = select_batches(action, batches)
        except Refused as refused:
            self.message_user(request, str(refused), messages.WARNING)
            return None
        if action == Action.DELETE_BATCH and not is_confirmed:
            return self.confirm_deletion(request, ids, left, form, cancel_url, **more)
        if ids:
            self.run_bulk(request, action, ids, left)
        else:
            self.message_user(request, NOTHING_LEFT, messages.WARNING)
        return None

    def run_bulk(self, request: HttpRequest, action: Action, ids: Sequence[object], left: int = 0) -> None:
        """A confirmed deletion skips batches that have changed since they were shown."""
        expected: dict[str, Any] = {}
        if action == Action.DELETE_BATCH:
            expected["expected_in"] = unchanged_since(request.POST.get("seen"))
        if action == Action.PAUSE_BATCH:
            expected["reason"] = request.POST.get("reason", "")
        seen = latest_line()
        result = run_bulk(get_manager(request), action, ids, left, skip_idle=True, **expected)
        if action == Action.DELETE_BATCH:
            self.log_deletions(request, [outcome.before for outcome in result.outcomes if outcome.ok])
        last, undo = latest_line(), ""
        if undoable_changes(request, action, seen, last):
            address = self.address_of("batch_queue_selected", Action.UNDO_CHANGE.value)
            undo = undo_html(address, action=action.value, after=seen, last=last)
        show_result(request, result, undo)

    def confirm_deletion(
        self,
        request: HttpRequest,
        ids: Sequence[UUID],
        left: int,
        form: Mapping[str, str],
        cancel_url: str,
        **more: Any,
    ) -> HttpResponse:
        seen = latest_line()
        batches = Batch.objects.filter(pk__in=ids).in_queue_order()
        return self.ask(
            request,
            "batch/delete_selected.html",
            _("Delete batches?"),
            count=len(ids),
            batches=[describe_deletion(batch) for batch in batches],
            left=left,
            # Delete exactly the batches shown, whatever matches the filter by then.
            form={**form, "selected": " ".join(map(str, ids)), "confirmed": "yes", "seen": seen},
            cancel_url=cancel_url,
            **more,
        )


def describe_deletion(batch: Batch) -> str:
    if RULES[Action.DELETE_BATCH].is_offered(batch):
        count = batch.total_profiles
        return choose_plural(
            "“%(batch)s” (%(count)s profile)", "“%(batch)s” (%(count)s profiles)", count=count, batch=batch
        )
    return Sentence(
        "“%(batch)s” will not be deleted because it is %(status)s.", batch=batch, status=STATUS_WORDS[batch.status]
    )


class BatchView(AdminView):
    """Pages of batches with buttons."""

    model_admin: BatchAdminBase

    def page_url(self, request: HttpRequest, *args: Any, **values: Any) -> str:
        """The page that a button with these values in its address belongs to."""
        raise NotImplementedError

    def undo_address(self, batch_id: UUID) -> str:
        """The address to which the button of a message sends the undo of this batch."""
        raise NotImplementedError

    def button_path(self, route: str, press: Callable[..., Result | HttpResponse], name: str) -> URLPattern:
        """The path of a button, which makes one call; its page shows the result."""

        def respond_to_press(request: HttpRequest, **values: Any) -> HttpResponse:
            page = self.page_url(request, **values)
            if request.method != "POST":  # a login leads back here, and must not press the button
                return redirect(page)
            if not self.model_admin.has_action_permission(request, values.get("call", "")):
                raise PermissionDenied
            seen, result = latest_line(), press(request, **values)
            if isinstance(result, HttpResponse):
                return result
            batch_id = values.get("batch_id")
            undo = undo_button(request, batch_id, seen, self.undo_address(batch_id)) if batch_id and result[0] else ""
            return respond(request, *result, page, undo)

        return self.model_admin.own_path(route, respond_to_press, name)
