"""Deletes old batches: the page lists batches that ended long ago, and asks before it deletes them."""

from datetime import timedelta

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils import timezone

from batches.conf import get_config
from batches.limits import MAX_DAYS
from batches.models import Action, Batch

from .actions import BatchView
from .base import parse_number

#: The default, unless the settings say how long workers keep batches.
DAYS = 90


class OldBatches(BatchView):
    @property
    def urls(self) -> list[URLPattern]:
        return [self.model_admin.own_path("old/", self.delete, "old")]

    def delete(self, request: HttpRequest) -> HttpResponse:
        if not self.model_admin.has_delete_permission(request):
            raise PermissionDenied
        days = parse_number(request.GET.get("days", "")) or get_config().prune_batches_days or DAYS
        days = max(1, min(days, MAX_DAYS))
        old = Batch.objects.ended_before(timezone.now() - timedelta(days=days))
        url = self.model_admin.address_of("batch_changelist")
        asked = self.model_admin.run_selected(request, Action.DELETE_BATCH, old, {}, url, days=days)
        return asked or redirect(url)
