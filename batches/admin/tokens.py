"""API tokens: created, shown once, and revoked.

A token allows at most what its owner may do. Superusers therefore see and create tokens for everybody, other users only
for themselves: a token never allows more than its creator may do. No page shows a key a second time.
"""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import DateTimeField, ForeignKey, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.models.api import AccessToken

from . import display
from .base import ListAdmin
from .forms import Name


class ExpiryField(forms.DateTimeField):
    """Refuses the past, and the last year: in another time zone, a part of it is not in the calendar."""

    def clean(self, value: Any) -> datetime | None:
        moment: datetime | None = super().clean(value)
        if moment and (moment.year == 9999 or moment <= timezone.now()):
            raise ValidationError(_("Choose a time in the future, before the year 9999."))
        return moment


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        field_classes = {"name": Name}


@admin.register(AccessToken)
class AccessTokenAdmin(ListAdmin):
    """A token cannot be edited; create a new one instead."""

    form = TokenForm
    actions = None
    about = gettext_lazy("A token lets a program use the API with the permissions of a user.")
    list_display = (
        "user",
        "name",
        "begins_with",
        "scope",
        display.CREATED,
        display.column("expires_at", gettext_lazy("expires"), display.moment, ordering="expires_at"),
        display.column("last_used_at", gettext_lazy("last used"), display.moment, ordering="last_used_at"),
    )
    fields = ("user", "name", "scope", "expires_at")
    ordering = ("-created_at", "-pk")
    # One field with a label instead of two without.
    formfield_overrides = {
        DateTimeField: {"form_class": ExpiryField, "widget": forms.DateTimeInput(attrs={"type": "datetime-local"})}
    }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        tokens = super().get_queryset(request).select_related("user")
        return tokens if request.user.is_superuser else tokens.filter(user=request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **options: Any) -> Any:
        users = get_user_model()._default_manager.filter(is_active=True)
        options["queryset"] = users if request.user.is_superuser else users.filter(pk__in=[request.user.pk])
        return super().formfield_for_foreignkey(db_field, request, **options)

    def save_model(self, request: HttpRequest, token: AccessToken, form: Any, change: bool) -> None:
        key = token.new_key()
        super().save_model(request, token, form, change)
        messages.warning(request, _("The token is %(key)s. Copy it now; it will not be shown again.") % {"key": key})
