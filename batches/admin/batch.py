"""Batches in the admin: the list and its actions, changing a batch, deleting batches."""

from datetime import timedelta
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin import helpers
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.conf import get_config
from batches.limits import MAX_DAYS
from batches.models import Action, Batch, BatchProfile, BatchQuerySet
from batches.queue.refusals import require_granted
from batches.text import StrOrPromise

from . import display
from .actions import describe_deletion, get_manager, latest_line
from .add_batch import AddBatchAdmin
from .base import LoggedAdmin, RefusableAdmin, parse_number
from .batch_page import BatchPage
from .dashboard import Dashboard
from .filters import CheckerFilter, ListFilter, PriorityFilter
from .forms import ChangeBatchForm
from .queue_views import QueuePage
from .reports import TodayPage

#: Batches are old after this many days, unless the settings say how long workers keep them.
DAYS = 90


def list_action(action: Action, name: str, description: StrOrPromise, permission: str = "operate") -> Any:
    """An action of the list; `name` is its value in the form."""

    def run(model_admin: AddBatchAdmin, request: HttpRequest, batches: QuerySet[Batch]) -> HttpResponse | None:
        # Django requires a selected row even for the confirmed action; `selected` has the ids that were shown.
        form = {name: request.POST[name] for name in ("action", helpers.ACTION_CHECKBOX_NAME)} | {"select_across": "1"}
        return model_admin.run_selected(request, action, batches, form, request.get_full_path())

    run.__name__ = name
    return admin.action(permissions=[permission], description=description)(run)


@admin.register(Batch)
class BatchAdmin(AddBatchAdmin, RefusableAdmin, LoggedAdmin):
    about = gettext_lazy("A batch is one pass over a set of profiles.")
    form = ChangeBatchForm
    fields = ("name", "priority")
    list_display = (
        display.place,
        "name",
        display.status_label,
        display.progress_bar,
        display.column("successful_checks", gettext_lazy("ok"), display.number),
        display.column("failed_checks", gettext_lazy("failed"), display.number),
        display.column("skipped_profiles", gettext_lazy("skipped"), display.number),
        display.column("stories_found", gettext_lazy("new stories"), display.number),
        "priority",
        display.CREATED,
    )
    list_display_links = ("name",)
    list_filter = ("status", PriorityFilter, CheckerFilter, "created_at", ListFilter)
    # Counting a million batches once is enough.
    show_full_result_count = False
    search_fields = ("name", "id")
    search_help_text = gettext_lazy("Name or ID")
    log_filter = "batch"
    actions = (
        list_action(
            Action.QUEUE_BATCH, "queue_batches", gettext_lazy("Queue selected batches (done ones: recheck all)")
        ),
        list_action(Action.START_BATCH, "start_batches", gettext_lazy("Start selected batch now")),
        list_action(Action.PAUSE_BATCH, "pause_batches", gettext_lazy("Pause selected batches")),
        list_action(Action.RETRY_FAILED, "retry_batches", gettext_lazy("Recheck failed profiles of selected batches")),
        list_action(Action.REPEAT_BATCH, "repeat_batches", gettext_lazy("New run of selected batches")),
        list_action(Action.DELETE_BATCH, "delete_selected", gettext_lazy("Delete selected batches"), "delete"),
    )

    def get_urls(self) -> list[Any]:
        return [
            *BatchPage(self).urls,
            *QueuePage(self).urls,
            *TodayPage(self).urls,
            self.own_path("old/", self.old_view, "old"),
            *Dashboard(self).urls,
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        return cast(BatchQuerySet, super().get_queryset(request)).in_queue_order()

    # A batch's page

    def page_context(self, request: HttpRequest, row: Batch) -> dict[str, Any]:
        return {**BatchPage(self).page_context(request, row), "show_save_and_add_another": False}

    def save_model(self, request: HttpRequest, obj: Batch, form: Any, change: bool) -> None:
        if not change:  # a forged `_saveasnew` would insert a batch without the manager
            raise PermissionDenied
        manager, values = get_manager(request), form.cleaned_data
        if "name" in form.changed_data:
            require_granted(manager.rename_batch(obj.pk, values["name"]))
        if "priority" in form.changed_data:
            require_granted(manager.set_priority(obj.pk, values["priority"]))

    # Deleting

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        batch = self.get_object(request, unquote(object_id))
        # Django's own view logs a deletion and reports success even if the manager refuses.
        if request.method != "POST" or batch is None:
            return super().delete_view(request, object_id, {"seen": latest_line(), **(extra_context or {})})
        if not self.has_delete_permission(request, batch):
            raise PermissionDenied
        self.run_bulk(request, Action.DELETE_BATCH, [batch.pk])
        return self.response_post_save_change(request, batch)

    def old_view(self, request: HttpRequest) -> HttpResponse:
        """Lists the batches that ended long ago, and asks before it deletes them."""
        if not self.has_delete_permission(request):
            raise PermissionDenied
        days = parse_number(request.GET.get("days", "")) or get_config().prune_batches_days or DAYS
        days = max(1, min(days, MAX_DAYS))
        old = Batch.objects.ended_before(timezone.now() - timedelta(days=days))
        url = self.address_of("batch_changelist")
        return self.run_selected(request, Action.DELETE_BATCH, old, {}, url, days=days) or redirect(url)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Names and counts for the confirmation. Django's own version would load each row of the batch."""
        rows = BatchProfile.objects.filter(batch__in=objs).count()
        counts = {_("batches"): len(objs), _("results of profiles"): display.number(rows)}
        return [describe_deletion(batch) for batch in objs], counts, set(), []
