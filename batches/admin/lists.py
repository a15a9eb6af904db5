"""Lists in the admin: their pages, the import with its preview, and their profiles."""

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import CharField, F, OuterRef, QuerySet, Subquery, Sum, UUIDField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from batches.lists.exports import MEMBER_EXPORTERS
from batches.models import Batch, ListProfile, Profile, ProfileList, rows_of
from batches.queue.lists import SCHEDULE
from batches.queue.members import ListChange
from batches.queue.refusals import Refusal, require_granted
from batches.reports import streams
from batches.text import Sentence, choose_plural
from batches.web.downloads import name_download, stream_download

from . import display
from .actions import get_manager
from .add_batch import download_rejects
from .base import LoggedAdmin, OrderedPaginator, ReadOnlyAdmin, RefusableAdmin, identify_rows, parse_number
from .chart import MAX_RUNS, runs_chart
from .filters import ListFilter
from .forms import ListForm, ListImportForm, MemberForm

What = ListImportForm.What

#: The fields of a new list, apart from its schedule.
CREATED = ("name", "priority", "checker", "count_first")

#: Subscriptions on the page of a list; it links to the others.
SHOWN = 20


@admin.register(ProfileList)
class ProfileListAdmin(RefusableAdmin, LoggedAdmin):
    about = gettext_lazy("A list has profiles that you check repeatedly, by hand or on a schedule.")
    form = ListForm
    fieldsets = (
        (None, {"fields": CREATED}),
        (gettext_lazy("Schedule"), {"fields": ("schedule", "time_zone", "delay_minutes", "schedule_active")}),
    )
    actions = None  # a list is deleted on its page, which names the rows that stay
    log_filter = "list"
    list_display = (
        "name",
        display.column("total_profiles", gettext_lazy("profiles"), display.number, ordering="total_profiles"),
        "checker",
        "priority",
        "latest_run",
        display.column(
            "next_run_at", gettext_lazy("next run"), display.moment, ordering=F("next_run_at").asc(nulls_last=True)
        ),
        display.CREATED,
    )
    list_filter = ("checker", "priority")
    search_fields = ("name", "id")
    search_help_text = gettext_lazy("Name or ID")
    ordering = ("name",)
    change_form_template = "admin/batches/profilelist/change_form.html"
    delete_confirmation_template = "admin/batches/profilelist/delete_confirmation.html"

    def get_urls(self) -> list[Any]:
        return [
            self.own_path("<uuid:list_id>/import/", self.import_view, "import"),
            self.own_path("<uuid:list_id>/run/", self.run_view, "run"),
            self.own_path("<uuid:list_id>/export/<slug:form>/", self.export_view, "export"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProfileList]:
        runs = Batch.objects.filter(list=OuterRef("pk")).order_by("-created_at")
        return ProfileList.objects.annotate(
            run_id=Subquery(runs.values("pk")[:1], output_field=UUIDField()),
            run_status=Subquery(runs.values("status")[:1], output_field=CharField()),
        )

    @admin.display(description=gettext_lazy("latest run"))
    def latest_run(self, found: Any) -> str:
        if found.run_id is None:
            return display.NOTHING
        address = self.address_of("batch_change", found.run_id)
        return self.link(found.request, Batch, address, display.status_word(found.run_status))

    # The page

    def page_context(self, request: HttpRequest, row: ProfileList) -> dict[str, Any]:
        return {
            "title": str(row),
            "subtitle": None,
            "show_save_and_add_another": False,
            "can_operate": self.has_operate_permission(request),
            "feeds": row.feeds.order_by("name"),
            "runs": runs_chart(row.runs.order_by("-created_at")[:MAX_RUNS]),
            "subscriptions": row.subscriptions.select_related("webhook").order_by("created_at", "pk")[:SHOWN],
            "subscribed": row.subscriptions.count(),
            "exports": list(MEMBER_EXPORTERS) if request.user.has_perm("batches.view_listprofile") else [],
        }

    def save_model(self, request: HttpRequest, obj: ProfileList, form: Any, change: bool) -> None:
        manager, values = get_manager(request), form.cleaned_data
        if change:
            edited = {name: values[name] for name in form.changed_data}
            require_granted(manager.change_list(obj.pk, **edited))
            return
        require_granted(manager.create_list(id=obj.pk, **{name: values[name] for name in CREATED}))
        if values["schedule"]:
            require_granted(manager.change_list(obj.pk, **{name: values[name] for name in SCHEDULE}))

    def response_post_save_add(self, request: HttpRequest, obj: ProfileList) -> Any:
        """Redirect to the import of its profiles."""
        if self.has_change_permission(request, obj):
            return redirect(self.address_of("profilelist_import", obj.pk))
        return super().response_post_save_add(request, obj)

    # Deleting

    def delete_model(self, request: HttpRequest, obj: ProfileList) -> None:
        """Refused if the list has changed since it was shown."""
        seen = parse_number(request.POST.get("seen", ""))
        require_granted(get_manager(request).delete_list(obj.pk, expected_version=seen))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Only the list: its profiles are kept, and Django's own version would load each of them."""
        return [str(found) for found in objs], {_("lists"): len(objs)}, set(), []

    # The app's own views

    def find(self, request: HttpRequest, list_id: UUID, permission: str) -> ProfileList:
        if not request.user.has_perm(f"batches.{permission}"):
            raise PermissionDenied
        return get_object_or_404(ProfileList, pk=list_id)

    def run_view(self, request: HttpRequest, list_id: UUID) -> HttpResponse:
        page = self.address_of("profilelist_change", list_id)
        if request.method != "POST":  # a login leads back here, and must not press the button
            return redirect(page)
        found = self.find(request, list_id, "operate_batch")
        result = get_manager(request).run_list(list_id)
        if isinstance(result, Refusal):
            self.message_user(request, result.message, messages.WARNING)
            return redirect(page)
        queued = Sentence(
            "A run of “%(list)s” was queued at position %(position)s.", list=found, position=result.position
        )
        self.message_user(request, queued, messages.SUCCESS)
        return redirect(self.address_of("batch_change", result.pk))

    def export_view(self, request: HttpRequest, list_id: UUID, form: str) -> HttpResponseBase:
        if form not in MEMBER_EXPORTERS:
            raise Http404
        found = self.find(request, list_id, "view_listprofile")
        lines = MEMBER_EXPORTERS[form](streams.stream_members(rows_of(ListProfile.objects.all(), list=found)))
        return stream_download(lines, name_download(found), form)

    def import_view(self, request: HttpRequest, list_id: UUID) -> HttpResponseBase:
        """Show a preview of the changes, which stores nothing, then make them. Both are answers to the same form."""
        found = self.find(request, list_id, "change_profilelist")
        form = ListImportForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
        preview: dict[str, Any] = {}
        is_valid = form.is_valid()
        if "rejected" in request.POST and form.rejects:
            return download_rejects(form)
        if is_valid:
            preview = self.preview(request, found, form)
            if "apply" in request.POST and request.POST.get("previewed") == preview["previewed"]:
                result = apply_import(request, found, form)
                if not isinstance(result, Refusal):
                    changed = Sentence("“%(list)s” was changed: %(change)s.", list=found, change=result)
                    self.message_user(request, changed, messages.SUCCESS)
                    return redirect(self.address_of("profilelist_change", found.pk))
                form.add_error(None, result.message)
                preview = self.preview(request, found, form)
        form.keep_file()
        context = {
            **self.form_context(request, form, form.field_order),
            "title": _("Import profiles"),
            "original": found,
            **preview,
        }
        return render(request, "admin/batches/profilelist/import.html", context)

    def preview(self, request: HttpRequest, found: ProfileList, form: ListImportForm) -> dict[str, Any]:
        what = form.cleaned_data["what"]
        plan = get_manager(request).preview_sync(found.pk, form.imported.profiles)
        if isinstance(plan, Refusal):  # deleted since it was read
            raise Http404
        change = {What.ADD: plan.if_added, What.REMOVE: plan.if_removed, What.SYNC: plan}[What(what)]
        return {
            "imported": form.imported,
            "change": change,
            "is_other_list": "apply" in request.POST,
            "asks": what == What.SYNC and change.removes_much,
            # Only a previewed import is made, and only if the list has not changed since.
            "previewed": f"{form.imported.digest} {what} {found.version}",
        }


def apply_import(request: HttpRequest, found: ProfileList, form: ListImportForm) -> ListChange | Refusal:
    manager, profiles, version = get_manager(request), form.imported.profiles, found.version
    if form.cleaned_data["what"] == What.SYNC:
        return manager.sync_list(found.pk, profiles, "allow_removals" in request.POST, version)
    is_addition = form.cleaned_data["what"] == What.ADD
    return (manager.add_profiles if is_addition else manager.remove_profiles)(found.pk, profiles, version)


@admin.register(ListProfile)
class ListProfileAdmin(RefusableAdmin, ReadOnlyAdmin):
    """The profiles of a list. Users can correct their addresses, or remove them from the list."""

    about = gettext_lazy("Add or import profiles on the page of their list.")
    paginator = OrderedPaginator
    form = MemberForm
    fields = ("address", "of_list", "profile_link")
    readonly_fields = ("of_list", "profile_link")
    list_display = (
        display.column("profile.url", gettext_lazy("address"), str),
        display.column("profile.name", gettext_lazy("name"), str),
        display.column("profile.last_checked_at", gettext_lazy("last check"), display.moment),
        display.column("profile.last_error", gettext_lazy("last error"), display.show_stored),
        "of_list",
    )
    list_select_related = ("list", "profile")
    list_filter = (ListFilter,)
    search_fields = ("profile__url", "profile__name")
    search_help_text = gettext_lazy("Address or name")
    ordering = ("pk",)
    actions = ("remove_selected",)

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        # Not in the overview: these rows are reached from the page of their list.
        return {}

    def get_paginator(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        """Uses the stored numbers of the lists: counting a million profiles takes longer than the page."""
        paginator = super().get_paginator(request, *args, **options)
        if request.GET.keys() <= {PAGE_VAR}:
            paginator.count = ProfileList.objects.aggregate(profiles=Sum("total_profiles", default=0))["profiles"]
        elif request.GET.keys() <= {ListFilter.parameter_name, PAGE_VAR} and (found := ListFilter.find_owner(request)):
            paginator.count = found.total_profiles
        return paginator

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perms(["batches.change_profilelist", "batches.view_listprofile"])

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("batches.view_listprofile")

    def save_model(self, request: HttpRequest, obj: ListProfile, form: Any, change: bool) -> None:
        if not change:  # a forged `_saveasnew` would insert a row without the manager
            raise PermissionDenied
        if form.changed_data:
            # Refused if somebody has corrected it since the form was opened.
            shown = form.data.get(form.add_initial_prefix("address"), obj.profile.url)
            require_granted(get_manager(request).correct_address(obj.list_id, shown, form.cleaned_data["address"]))

    def response_post_save_change(self, request: HttpRequest, obj: ListProfile) -> Any:
        return redirect(self.address_of("listprofile_changelist", list=obj.list_id))

    @admin.action(permissions=["change"], description=gettext_lazy("Remove from the list"))
    def remove_selected(self, request: HttpRequest, members: QuerySet[ListProfile]) -> HttpResponse | None:
        """Remove them from the lists that the question named. If a list has changed since, ask again."""
        lists = ProfileList.objects.filter(pk__in=members.order_by().values("list").distinct()).order_by("name")
        shown = identify_rows(lists, "pk", "version")
        if not self.is_confirmed(request, shown, _("The lists have changed. Check them again.")):
            names = ", ".join(f"“{found}”" for found in lists)
            more: dict[str, Any] = {"count": members.count(), "names": names}
            title = _("Remove profiles?")
            return self.ask(request, "profilelist/remove.html", title, "remove_selected", shown, **more)
        for found in lists:
            profiles = Profile.objects.filter(lists__in=members.filter(list=found)).order_by("pk")
            result = get_manager(request).remove_profiles(found.pk, profiles.iterator(), found.version)
            if isinstance(result, Refusal):
                self.message_user(request, result.message, messages.WARNING)
            else:
                removed = choose_plural(
                    "%(count)s profile removed from “%(list)s”.",
                    "%(count)s profiles removed from “%(list)s”.",
                    count=result.removed,
                    list=found,
                )
                self.message_user(request, removed, messages.SUCCESS)
        return None
