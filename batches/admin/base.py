"""Base classes of the admin's lists, and of the views beside them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from operator import attrgetter
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.core.validators import MaxLengthValidator
from django.db import DatabaseError, DataError, IntegrityError, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, override

from batches.limits import MAX_NAME
from batches.models import BatchLog, is_too_complex
from batches.queue.refusals import Refusal, Refused
from batches.queue.sql import reading_in_order
from batches.text import StrOrPromise, translate
from batches.web.search import SearchTooSlow, limited_search, validate_words

from . import display

View = Callable[..., HttpResponseBase]

#: The number of rows that take no time to sort.
MOST_SORTED = 10_000
#: Rows and refusals that a question and its result show.
SHOWN = 20

NOTHING_LEFT = gettext_lazy("The selection is empty, or its rows have changed or been deleted. Select again.")


def can_view(request: HttpRequest, model: type[Model]) -> bool:
    return any(request.user.has_perm(f"batches.{action}_{model._meta.model_name}") for action in ("view", "change"))


def parse_number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:  # also raised for more digits than Python reads
        return None


def is_across(request: HttpRequest) -> bool:
    """Whether the form selects all matching rows, as Django reads the field."""
    return bool(helpers.ActionForm.base_fields["select_across"].to_python(request.POST.get("select_across")))


def ticked_keys(request: HttpRequest) -> list[str]:
    """The keys of the ticked rows. If all matching rows are selected, only the first: Django requires one."""
    return request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)[: 1 if is_across(request) else None]


def for_reader(response: Any, request: HttpRequest) -> Any:
    """The page of a list or of a row, with the request on each row: columns are called without it."""
    context = getattr(response, "context_data", None) or {}
    rows = context["cl"].result_list if "cl" in context else filter(None, [context.get("original")])
    for row in rows:
        row.request = request
    return response


def identify_rows(rows: Iterable[Any], *fields: str) -> str:
    """Identifies rows by the data that a question shows."""
    return sha256(repr([attrgetter(*fields)(row) for row in rows]).encode()).hexdigest()


class OrderedPaginator(Paginator):  # type: ignore[type-arg]
    """For rows that an index has in the order of their pages: all rows, and those of each batch or list.

    It finds the keys of a page first: databases would join each row of the previous pages, 0.4 s for 400,000. Few rows
    may be sorted: those of a profile have no index in that order, in which all rows would be read, 0.6 s for 1,400,000.
    """

    def page(self, number: int | str) -> Any:
        page: Any = super().page(number)
        rows: Any = self.object_list
        with reading_in_order() if self.count > MOST_SORTED else nullcontext():
            keys = list(page.object_list.values_list("pk", flat=True))
        page.object_list = rows.filter(pk__in=keys)
        return page


class ListAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list that stays fast with a million rows, and accepts any query string.

    The titles of its pages say where the reader is. Django's say what to do: “Select batch to change”.
    """

    class Media:
        css = {"all": ["batches/admin.css"]}

    empty_value_display = display.NOTHING
    #: Shown while the list is empty: what its rows are, and how they are created.
    about: StrOrPromise = ""
    list_per_page = 100
    # Facets read the whole table once per filter.
    show_facets = admin.ShowFacets.NEVER

    @property
    def urls(self) -> list[Any]:
        """Outside of ATOMIC_REQUESTS: each change is a separate transaction, and lists are read before it."""
        urls: list[Any] = self.get_urls()
        for pattern in urls:
            transaction.non_atomic_requests(pattern.callback)
        return urls

    def message_user(self, request: HttpRequest, message: Any, *args: Any, **options: Any) -> None:
        """Translate the message now, since it is stored as text until the next page."""
        super().message_user(request, translate(message), *args, **options)

    # Django's history names each row: in English, like all stored texts.

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        with override("en"):
            return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        with override("en"):
            return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        with override("en"):
            return super().log_deletions(request, queryset)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("batches.operate_batch")

    def own_path(self, route: str, view: View, name: str) -> URLPattern:
        """The path of a view beside Django's own."""
        return path(route, self.admin_site.admin_view(view), name=f"batches_{self.opts.model_name}_{name}")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        title = capfirst(self.opts.verbose_name_plural)
        context = {"title": title, "about": self.about, **(extra_context or {})}
        return for_reader(super().changelist_view(request, context), request)

    def changeform_view(
        self, request: HttpRequest, object_id: Any = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        title = {"title": capfirst(self.opts.verbose_name)} if object_id else {}
        view = partial(super().changeform_view, request, object_id, form_url, {**title, **(extra_context or {})})
        try:
            response = view()
        except IntegrityError:  # somebody has just stored the same: now the form finds it, and says so
            response = view()
        return for_reader(response, request)

    def address_of(self, page: str, *args: Any, **query: Any) -> str:
        """The address of a page of this app at this admin site."""
        return reverse(f"admin:batches_{page}", args=args, query=query, current_app=self.admin_site.name)

    def link(self, request: HttpRequest, model: type[Model], address: str, text: str) -> str:
        """A link to a page about rows of a model; only the text if the user may not view them."""
        may_view = self.admin_site.get_model_admin(model).has_view_permission(request)
        return format_html('<a href="{}">{}</a>', address, text) if may_view else conditional_escape(text)

    def list_link(self, request: HttpRequest, text: str, model: type[Model], **query: Any) -> str:
        """To the rows of a list that match this query."""
        return self.link(request, model, self.address_of(f"{model._meta.model_name}_changelist", **query), text)

    def page_link(self, request: HttpRequest, row: Model | None) -> str:
        """To the row's own page; nothing for a batch or list that is being deleted."""
        if row is None or getattr(row, "deleted_at", None):
            return display.NOTHING
        address = self.address_of(f"{row._meta.model_name}_change", row.pk)
        return self.link(request, type(row), address, display.short_name(row))

    def page_context(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the template of a row's page needs, besides what Django gives it."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        if (row := options.get("obj")) is not None:
            context |= self.page_context(request, row)
        return super().render_change_form(request, context, *args, **options)

    # Columns of lists

    def action_checkbox(self, obj: Model) -> SafeString:
        """Like Django's, which renders a form field with four templates for it: a third of the time of a page."""
        label = format_html(_("Select this object for an action - {}"), obj)
        box = '<input type="checkbox" name="{}" value="{}" class="action-select" aria-label="{}">'
        return format_html(box, helpers.ACTION_CHECKBOX_NAME, obj.pk, label)

    @admin.display(description=gettext_lazy("batch"))
    def batch_link(self, row: Any) -> str:
        return self.page_link(row.request, row.batch)

    @admin.display(description=gettext_lazy("profile"))
    def profile_link(self, row: Any) -> str:
        return self.page_link(row.request, row.profile)

    @admin.display(description=gettext_lazy("list"))
    def of_list(self, row: Any) -> str:
        return self.page_link(row.request, row.list)

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

    def ask(
        self, request: HttpRequest, template: str, title: str, action: str = "", confirmed: str = "yes", **more: Any
    ) -> HttpResponse:
        """Ask before an action on selected rows. The answer posts it again with `confirmed`."""
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": {"action": action, "select_across": int(is_across(request)), "confirmed": confirmed},
            "selected": ticked_keys(request),
            "cancel_url": request.get_full_path(),
            **more,
        }
        return render(request, f"admin/batches/{template}", context)

    def chosen_context(self, rows: QuerySet[Any], chosen: Sequence[Any]) -> dict[str, Any]:
        """What the question says of the rows that are chosen, of all that match: for `confirm_selected.html`."""
        count = len(chosen)
        return {"count": count, "first": chosen[:SHOWN], "more": count - SHOWN, "left": rows.count() - count}

    def is_confirmed(self, request: HttpRequest, digest: str, changed: str) -> bool:
        """Whether the question was answered for these rows. For others, warn that they have `changed`."""
        confirmed = request.POST.get("confirmed")
        if confirmed not in {None, digest}:
            self.message_user(request, changed, messages.WARNING)
        return confirmed == digest

    def show_results(self, request: HttpRequest, done: str, results: Iterable[object]) -> None:
        """Show the summary, and the reasons of the first refusals."""
        self.message_user(request, done, messages.SUCCESS)
        refusals = [result for result in results if isinstance(result, Refusal)]
        for refusal in refusals[:SHOWN]:
            self.message_user(request, refusal.message, messages.WARNING)

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
        # Django would pass the selection on to the database, which raises an error if it is not a valid ID, and run
        # the action on nothing if the rows are gone.
        keys = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        try:
            for pk in keys:
                self.opts.pk.clean(pk, None)
        except ValidationError:
            message = _("The selection contains an invalid ID. Select the rows again.")
            self.message_user(request, message, messages.WARNING)
            return None
        if keys and not (queryset if is_across(request) else queryset.filter(pk__in=keys)).exists():
            self.message_user(request, NOTHING_LEFT, messages.WARNING)
            return None
        return super().response_action(request, queryset, *args, **options)


class ReadOnlyAdmin(ListAdmin):
    """Rows that only the manager and the workers write."""

    ordering: ClassVar[tuple[str, ...]] = ("-pk",)
    # Counting a million rows once is enough.
    show_full_result_count = False
    # No index would help, and people look for the newest rows.
    sortable_by = ()

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Django would link a related row even for users who may not view it."""
        instead = {**display.STORED, "batch": "batch_link", "profile": "profile_link", "list": "of_list"}
        return [instead.get(field, field) for field in super().get_fields(request, obj)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class RefusableAdmin(ListAdmin):
    """Shows a refusal as a message, or in the form of a new row. Django's own views report success whatever happens."""

    def changeform_view(self, request: Any, object_id: Any = None, *args: Any, **options: Any) -> Any:
        view = super().changeform_view
        if object_id is not None:
            return self.or_warn(request, view, object_id, *args, **options)
        try:
            return view(request, None, *args, **options)
        except Refused as refused:
            request.refused = refused  # the form keeps what was entered
            return view(request, None, *args, **options)

    def get_form(self, request: Any, *args: Any, **options: Any) -> Any:
        form: Any = super().get_form(request, *args, **options)
        if refused := getattr(request, "refused", None):
            form.clean = lambda self: self.add_error(None, str(refused))
        return form

    def delete_view(self, request: HttpRequest, *args: Any, **options: Any) -> HttpResponse:
        return self.or_warn(request, super().delete_view, *args, **options)

    def or_warn(self, request: HttpRequest, view: Any, *args: Any, **options: Any) -> HttpResponse:
        try:
            response: HttpResponse = view(request, *args, **options)
        except Refused as refused:
            self.message_user(request, str(refused), messages.WARNING)
            return redirect(request.get_full_path())
        return response


class LoggedAdmin(ListAdmin):
    """Rows with a log of the changes through every channel. Django's history has only those through the admin."""

    #: The parameter with which the log is filtered by a row.
    log_filter: str

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        if not self.admin_site.get_model_admin(BatchLog).has_view_permission(request):
            return super().history_view(request, object_id, extra_context)
        return redirect(self.address_of("batchlog_changelist", **{self.log_filter: unquote(object_id)}))


class AdminView:
    """Views beside Django's own, with the permissions and the site of a model's admin."""

    def __init__(self, model_admin: ListAdmin) -> None:
        self.model_admin = model_admin

    def page_path(self, route: str, view: View, name: str) -> URLPattern:
        """The path of a view for users who may view the rows of the model."""

        def guarded(request: HttpRequest, **values: Any) -> HttpResponseBase:
            if not self.model_admin.has_view_permission(request):
                raise PermissionDenied
            return view(request, **values)

        return self.model_admin.own_path(route, guarded, name)
