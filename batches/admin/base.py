"""Base classes of the admin: lists, permissions, bulk actions, and views beside Django's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import URLPattern, path

from batches.models import Action, Batch
from batches.queue.actions import RULES
from batches.queue.bulk import run_bulk, select_batches
from batches.queue.refusals import Refused
from batches.text import pluralise

from . import actions


class ListAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list that stays fast with a million rows, and accepts any query string."""

    list_per_page = 100
    # Facets read the whole table once per filter.
    show_facets = admin.ShowFacets.NEVER

    def form_context(self, request: HttpRequest, form: Any, fields: Any) -> dict[str, Any]:
        """The context of a page with a form that is not a model's."""
        admin_form = helpers.AdminForm(form, [(None, {"fields": fields})], {}, model_admin=self)
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "form": form,
            "adminform": admin_form,
            "errors": helpers.AdminErrorList(form, []),
            "media": self.media + admin_form.media,
        }

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)
        except (DataError, ValueError) as error:
            # Django cannot check every value: NUL on PostgreSQL and the year 999999 fail only when the query runs.
            raise IncorrectLookupParameters from error

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> HttpResponse | None:
        # Django would pass the selection on to the database, which raises an error if it is not a valid ID.
        try:
            for pk in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME):
                self.opts.pk.clean(pk, None)
        except ValidationError:
            message = "The selection contains an invalid ID. Select the rows again."
            self.message_user(request, message, messages.WARNING)
            return None
        return super().response_action(request, queryset, *args)


class ReadOnlyAdmin(ListAdmin):
    ordering = ("-pk",)
    # Counting a million rows once is enough.
    show_full_result_count = False
    # No index would help; people look for the newest rows.
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class BatchAdminBase(ListAdmin):
    """Permissions and bulk actions, for the list of batches and the pages beside it."""

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.operate_batch")

    def has_action_permission(self, request: HttpRequest, action: str) -> bool:
        if action == Action.DELETE_BATCH:
            return self.has_delete_permission(request)
        return self.has_operate_permission(request)

    def run_selected(
        self, request: HttpRequest, action: Action, batches: QuerySet[Batch], form: Mapping[str, str], cancel_url: str
    ) -> HttpResponse | None:
        """Run the action on as many of these batches as its cap allows. A deletion asks for confirmation first.

        The confirmation page posts the fields of `form` again, to the same address.
        """
        is_confirmed = "confirmed" in request.POST
        if action == Action.DELETE_BATCH and is_confirmed:
            batches = Batch.objects.filter(pk__in=actions.selected_ids(request))
        try:
            ids, left = select_batches(action, batches)
        except Refused as refused:
            self.message_user(request, str(refused), messages.WARNING)
            return None
        if action == Action.DELETE_BATCH and not is_confirmed:
            return self.confirm_deletion(request, ids, left, form, cancel_url)
        self.run_bulk(request, action, ids, left)
        return None

    def run_bulk(self, request: HttpRequest, action: Action, ids: Sequence[object], left: int = 0) -> None:
        result = run_bulk(actions.get_manager(request), action, ids, left, skip_idle=True)
        if action == Action.DELETE_BATCH:
            self.log_deletions(request, [outcome.before for outcome in result.outcomes if outcome.ok])  # type: ignore[arg-type]
        actions.show_result(request, result)

    def confirm_deletion(
        self, request: HttpRequest, ids: Sequence[UUID], left: int, form: Mapping[str, str], cancel_url: str
    ) -> HttpResponse:
        batches = Batch.objects.filter(pk__in=ids).in_queue_order()
        context = {
            **self.admin_site.each_context(request),
            "title": "Delete batches?",
            "opts": self.opts,
            "counted": pluralise(len(ids), "batch", "batches"),
            "batches": [describe_deletion(batch) for batch in batches],
            "left": left,
            # Delete exactly the batches shown, whatever matches the filter by then.
            "form": {**form, "selected": " ".join(map(str, ids)), "confirmed": "yes"},
            "cancel_url": cancel_url,
        }
        return render(request, "admin/batches/batch/delete_selected.html", context)


def describe_deletion(batch: Batch) -> str:
    if RULES[Action.DELETE_BATCH].is_offered(batch):
        return f"“{batch}” ({pluralise(batch.total_profiles, 'profile')})"
    return f"“{batch}” stays because it is {batch.status}."


class BatchView:
    """Views beside Django's own. They use the permissions and the site of the batch admin."""

    def __init__(self, batch_admin: BatchAdminBase) -> None:
        self.batch_admin = batch_admin

    def path(self, route: str, view: Callable[..., HttpResponseBase], name: str) -> URLPattern:
        return path(route, self.batch_admin.admin_site.admin_view(view), name=f"batches_batch_{name}")


def requires_view(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Refuse users who may not view batches."""

    @wraps(view)
    def guarded(page: BatchView, request: HttpRequest, **values: Any) -> HttpResponseBase:
        if not page.batch_admin.has_view_permission(request):
            raise PermissionDenied
        return view(page, request, **values)

    return guarded
