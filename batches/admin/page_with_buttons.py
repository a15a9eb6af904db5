"""Buttons on the page of a webhook, a subscription or a delivery."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import UUIDField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from batches.text import Sentence

from .base import ListAdmin


class PageWithButtons(ListAdmin):
    """A row's page with buttons for people with the permission to change webhooks. Each posts the name of a method.

    The method takes rows, so that it can be an action of the list as well.
    """

    change_form_template = "admin/batches/page_with_buttons.html"

    def buttons(self, row: Any) -> dict[str, str]:
        """Labels of the actions that are possible for this row, by method name."""
        raise NotImplementedError

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.change_webhook")

    def get_urls(self) -> list[Any]:
        kind = "uuid" if isinstance(self.opts.pk, UUIDField) else "int"
        return [self.own_path(f"<{kind}:pk>/operate/", self.operate_view, "operate"), *super().get_urls()]

    def operate_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        page = self.address_of(f"{self.opts.model_name}_change", pk)
        if request.method != "POST":  # a login leads back here, and must not press the button
            return redirect(page)
        if not self.has_operate_permission(request):
            raise PermissionDenied
        rows = self.model._default_manager.filter(pk=pk)
        row = get_object_or_404(rows)
        call = request.POST.get("call", "")
        if call not in self.buttons(row):
            # The button is from a page that is older than the state of the row.
            impossible = Sentence("This action is not possible for “%(row)s” now.", row=row)
            self.message_user(request, impossible, messages.WARNING)
        else:
            getattr(self, call)(request, rows)
        return redirect(page)

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {"buttons": self.buttons(row).items() if self.has_operate_permission(request) else ()}
