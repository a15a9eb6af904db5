"""Batches in the admin: the list and its actions, changing one, deleting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse

from batches.models import Batch, BatchProfile, BatchQuerySet

from . import display
from .adding import AddingAdmin
from .batch_page import BatchPage
from .forms import ChangeBatchForm
from .operations import DELETION, OPERATIONS, manager, operate
from .queue import QueuePage

#: The confirmation names each batch in a field of its own, and Django refuses forms with more than 1,000 fields.
MAX_DELETED_AT_ONCE = 500


@admin.register(Batch)
class BatchAdmin(AddingAdmin):
    form = ChangeBatchForm
    fields = ("name", "priority")
    list_display = (
        "position_shown",
        "name",
        "status_shown",
        "progress",
        "ok",
        "failed",
        "new_stories",
        "priority",
        "created",
    )
    list_display_links = ("name",)
    list_filter = ("status", "priority", "checker", "created_at")
    search_fields = ("name", "id")
    search_help_text = "Name or id"
    actions = ("queue_batches", "start_batches", "pause_batches", "retry_batches", "repeat_batches", "delete_selected")

    def get_urls(self) -> list[Any]:
        return [*BatchPage(self).urls, *QueuePage(self).urls, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        return cast(BatchQuerySet, super().get_queryset(request)).in_queue_order()

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.operate_batch")

    # The columns of the list

    @admin.display(description="position", ordering=F("position").asc(nulls_last=True))
    def position_shown(self, batch: Batch) -> str:
        return display.place(batch)

    @admin.display(description="status", ordering="status")
    def status_shown(self, batch: Batch) -> str:
        return display.status_label(batch)

    @admin.display
    def progress(self, batch: Batch) -> str:
        return display.progress_bar(batch)

    @admin.display
    def ok(self, batch: Batch) -> str:
        return display.number(batch.successful_checks)

    @admin.display
    def failed(self, batch: Batch) -> str:
        return display.number(batch.failed_checks)

    @admin.display
    def new_stories(self, batch: Batch) -> str:
        return display.number(batch.stories_found)

    @admin.display(ordering="created_at")
    def created(self, batch: Batch) -> str:
        return display.moment(batch.created_at)

    # A batch's page

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Batch | None = None,
    ) -> HttpResponse:
        if obj is not None:
            context |= {**BatchPage(self).shown(request, obj), "show_save_and_add_another": False}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def save_model(self, request: HttpRequest, obj: Batch, form: forms.ModelForm[Batch], change: bool) -> None:
        if not change:  # a forged `_saveasnew` would insert a batch past the manager
            raise PermissionDenied
        changes: dict[str, Callable[..., Any]] = {
            "name": manager(request).rename_batch,
            "priority": manager(request).set_priority,
        }
        for field in changes.keys() & set(form.changed_data):
            answer = changes[field](obj.pk, form.cleaned_data[field])
            if not answer:
                self.message_user(request, answer.message, messages.WARNING)

    # Actions of the list

    @admin.action(permissions=["operate"], description="Queue selected batches")
    def queue_batches(self, request: HttpRequest, batches: QuerySet[Batch]) -> None:
        operate(request, OPERATIONS["queue_batch"], batches)

    @admin.action(permissions=["operate"], description="Start now")
    def start_batches(self, request: HttpRequest, batches: QuerySet[Batch]) -> None:
        operate(request, OPERATIONS["start_batch"], batches)

    @admin.action(permissions=["operate"], description="Pause selected batches")
    def pause_batches(self, request: HttpRequest, batches: QuerySet[Batch]) -> None:
        operate(request, OPERATIONS["pause_batch"], batches)

    @admin.action(permissions=["operate"], description="Retry failed profiles")
    def retry_batches(self, request: HttpRequest, batches: QuerySet[Batch]) -> None:
        operate(request, OPERATIONS["retry_failed"], batches)

    @admin.action(permissions=["operate"], description="Repeat selected batches")
    def repeat_batches(self, request: HttpRequest, batches: QuerySet[Batch]) -> None:
        operate(request, OPERATIONS["repeat_batch"], batches)

    @admin.action(permissions=["delete"], description="Delete selected batches")
    def delete_selected(self, request: HttpRequest, batches: QuerySet[Batch]) -> HttpResponse | None:
        count = batches.count()
        if count > MAX_DELETED_AT_ONCE:
            sentence = f"{count:,} batches are selected; at most {MAX_DELETED_AT_ONCE} can be deleted at once."
            self.message_user(request, sentence, messages.WARNING)
            return None
        if request.POST.get("post"):
            self.delete_queryset(request, batches)
            return None
        return delete_selected(self, request, batches)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Batch], *args: Any) -> HttpResponse | None:
        try:
            [Batch._meta.pk.to_python(pk) for pk in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)]
        except ValidationError:
            self.message_user(request, "What is selected is no batch.", messages.WARNING)
            return None
        return super().response_action(request, queryset, *args)

    # Deleting

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        batch = self.get_object(request, unquote(object_id))
        # Django's own view logs the deletion and calls it successful, whatever the manager answers.
        if request.method != "POST" or batch is None:
            return super().delete_view(request, object_id, extra_context)
        if not self.has_delete_permission(request, batch):
            raise PermissionDenied
        self.delete_model(request, batch)
        return self.response_post_save_change(request, batch)

    def delete_model(self, request: HttpRequest, obj: Batch) -> None:
        self._delete(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Batch]) -> None:
        self._delete(request, queryset)

    def _delete(self, request: HttpRequest, batches: Any) -> None:
        deleted: Any = [batch for batch, answer in operate(request, DELETION, batches) if answer]
        self.log_deletions(request, deleted)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Names and counts for the confirmation. Django's own would load each row of each batch."""
        rows = BatchProfile.objects.filter(batch__in=objs).count()
        counts = {"batches": len(objs), "results of profiles": display.number(rows)}
        return [_deletion(batch) for batch in objs], counts, set(), []


def _deletion(batch: Batch) -> str:
    if DELETION.is_offered(batch):
        return f"“{batch}” (profiles: {batch.total_profiles:,})"
    return f"“{batch}” stays: it is {batch.status}"
