"""API tokens: created, shown once, and revoked.

A token gives the permissions of its owner. Superusers therefore see and create tokens for everybody, other users only
for themselves: a token never gives more permissions than its creator has. No page shows a key a second time.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey, QuerySet
from django.http import HttpRequest, HttpResponse
from rest_framework.authtoken.admin import TokenAdmin

from batches.models.api import ApiToken


@admin.register(ApiToken)
class ApiTokenAdmin(TokenAdmin):
    list_display = ("user", "begins_with", "created")
    # A token cannot be edited; create a new one instead.
    fields = ("user",)

    @admin.display(description="token")
    def begins_with(self, token: ApiToken) -> str:
        return f"{token.key[:4]}…"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        tokens = super().get_queryset(request).select_related("user")
        return tokens if request.user.is_superuser else tokens.filter(user=request.user)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> ApiToken | None:
        """By the user's key, like the base class, which needs a manager `objects` that other user models lack."""
        try:
            return self.get_queryset(request).filter(user=object_id).first()  # type: ignore[misc]  # the key as text
        except (ValidationError, ValueError):
            return None

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **options: Any) -> Any:
        users = get_user_model()._default_manager.filter(is_active=True, auth_token=None)
        options["queryset"] = users if request.user.is_superuser else users.filter(pk__in=[request.user.pk])
        return super().formfield_for_foreignkey(db_field, request, **options)

    def response_add(self, request: HttpRequest, obj: ApiToken, *args: Any) -> HttpResponse:
        messages.warning(request, f"The token is {obj.key}. Copy it now; it will not be shown again.")
        return super().response_add(request, obj, *args)
