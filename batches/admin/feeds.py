"""Feeds of lists: created, shown once, and revoked."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.models import ListFeed
from batches.queue.refusals import require_granted
from batches.web.feeds import addresses_of

from . import display
from .actions import get_manager
from .base import RefusableAdmin
from .filters import ListFilter


@admin.register(ListFeed)
class ListFeedAdmin(RefusableAdmin):
    """A feed cannot be edited; create another one instead."""

    about = gettext_lazy("A feed lets somebody read the new stories of a list in a feed reader, without an account.")
    actions = None
    list_display = (
        "name",
        "of_list",
        "begins_with",
        display.CREATED,
        display.column("last_used_at", gettext_lazy("last used"), display.moment),
    )
    list_select_related = ("list",)
    list_filter = (ListFilter,)
    search_fields = ("name", "list__name")
    search_help_text = gettext_lazy("Name of the feed or of the list")
    ordering = ("-pk",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("of_list" if obj else "list", "name")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ListFeed, form: Any, change: bool) -> None:
        created = require_granted(get_manager(request).create_feed(obj.list_id, obj.name))
        obj.pk = created.feed.pk
        addresses = addresses_of(created, request)
        sentence = _("Its address is {atom} (Atom) or {json} (JSON Feed). Copy it now; it will not be shown again.")
        messages.warning(request, format_html(sentence, atom=addresses["atom"], json=addresses["json"]))

    def delete_model(self, request: HttpRequest, obj: ListFeed) -> None:
        require_granted(get_manager(request).revoke_feed(obj.pk))
