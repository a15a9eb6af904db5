"""Base classes of the admin's lists."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import DatabaseError, DataError, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, override

from batches.limits import MAX_NAME
from batches.models import is_too_complex
from batches.text import StrOrPromise, translate
from batches.web.search import SearchTooSlow, limited_search, validate_words

from . import display


class PlaceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The title of a page says where the reader is. Django's say what to do there: “Select batch to change”."""

    #: Shown while the list is empty: what its rows are, and how they get there.
    about: StrOrPromise = ""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, "about": self.about, **(extra_context or {})})

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        title = {"title": capfirst(self.opts.verbose_name)} if object_id else {}
        return super().changeform_view(request, object_id, form_url, {**title, **(extra_context or {})})


class ListAdmin(PlaceAdmin):
    """A list that stays fast with a million rows, and accepts any query string."""

    class Media:
        css = {"all": ["batches/admin.css"]}

    list_per_page = 100
    # Facets read the whole table once per filter.
    show_facets = admin.ShowFacets.NEVER

    @property
    def urls(self) -> list[Any]:
        """Outside of ATOMIC_REQUESTS: each change has a transaction of its own, and lists are read before it."""
        urls: list[Any] = self.get_urls()
        for pattern in urls:
            transaction.non_atomic_requests(pattern.callback)
        return urls

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **options: Any) -> None:
        """In the language of the reader. A message waits as text for the next page."""
        super().message_user(request, translate(message), *args, **options)

    # Django's history names each row: in English, like all that is stored.

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        with override("en"):
            return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        with override("en"):
            return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        with override("en"):
            return super().log_deletions(request, queryset)

    def address_of(self, page: str, *args: Any, **query: Any) -> str:
        """The address of a page of this app at this admin site."""
        return reverse(f"admin:batches_{page}", args=args, query=query, current_app=self.admin_site.name)

    def list_link(self, text: str, model: str, **query: Any) -> str:
        """A link to the rows of a list that match this query."""
        return format_html('<a href="{}">{}</a>', self.address_of(f"{model}_changelist", **query), text)

    def page_link(self, row: Model | None) -> str:
        """A link to the row's own page."""
        if row is None:
            return display.NOTHING
        return format_html(
            '<a href="{}">{}</a>', self.address_of(f"{row._meta.model_name}_change", row.pk), display.short_name(row)
        )

    # Columns of lists

    @admin.display(description=gettext_lazy("batch"))
    def batch_link(self, row: Any) -> str:
        return self.page_link(row.batch)

    @admin.display(description=gettext_lazy("profile"))
    def profile_link(self, row: Any) -> str:
        return self.page_link(row.profile)

    @admin.display(description=gettext_lazy("list"))
    def of_list(self, row: Any) -> str:
        return self.page_link(row.list)

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

    def question_context(self, request: HttpRequest, title: str, action: str, confirmed: str = "yes") -> dict[str, Any]:
        """The context of a page that asks before an action on selected rows, and posts it again with `confirmed`."""
        selected = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        across = request.POST.get("select_across", "0")
        return {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": {"action": action, "select_across": across, "confirmed": confirmed},
            # Django requires one even if all are meant.
            "selected": selected[:1] if across == "1" else selected,
            "cancel_url": request.get_full_path(),
        }

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            if not (search := request.GET.get(SEARCH_VAR)):
                return super().get_changelist_instance(request)
            MaxLengthValidator(MAX_NAME)(search)
            validate_words(search)
            with limited_search():
                listed = super().get_changelist_instance(request)
                len(listed.result_list)  # read now, and not by the template
            return listed
        except (ValidationError, SearchTooSlow) as error:
            texts = error.messages if isinstance(error, ValidationError) else [str(error)]
            messages.error(request, " ".join(map(translate, texts)))
            raise IncorrectLookupParameters from error
        except (DatabaseError, OverflowError, ValueError) as error:
            # Django cannot check every value. NUL on PostgreSQL, the year 999999, and a time that is in the year 10000
            # in UTC fail only when the query runs.
            if not isinstance(error, DatabaseError) or isinstance(error, DataError) or is_too_complex(error):
                raise IncorrectLookupParameters from error
            raise

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *args: Any, **options: Any
    ) -> HttpResponse | None:
        # Django would pass the selection on to the database, which raises an error if it is not a valid ID.
        try:
            for pk in request.POST.getlist(helpers.ACTION_CHECKBOX_NAME):
                self.opts.pk.clean(pk, None)
        except ValidationError:
            message = _("The selection contains an invalid ID. Select the rows again.")
            self.message_user(request, message, messages.WARNING)
            return None
        return super().response_action(request, queryset, *args, **options)


class ReadOnlyAdmin(ListAdmin):
    """Rows that only the manager and the workers write."""

    ordering: ClassVar[tuple[str, ...]] = ("-pk",)
    # Counting a million rows once is enough.
    show_full_result_count = False
    # No index would help; people look for the newest rows.
    sortable_by = ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [display.STORED.get(field, field) for field in super().get_fields(request, obj)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False
