"""Lists: the calls that create, edit, import, run and delete them, and their contents."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django.http import HttpResponseBase
from django.urls import path
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response

from batches.lists.exports import MEMBER_EXPORTERS
from batches.models import BatchLog, ListProfile, ProfileList
from batches.queue.members import ListChange
from batches.queue.refusals import Code, Refusal, require_granted
from batches.queue.values import find_list
from batches.reports import streams

from .access import ADD_LIST, CHANGE_LIST, DELETE_LIST, OPERATE, VIEW_LISTS, VIEW_LOGS, VIEW_MEMBERS
from .calls import EXPORT, LIST, OneThing, Row, RowsOf, parse_body, read_body
from .conditional import matching
from .filters import ListFilters, LogFilters, MemberFilters
from .list_requests import ChangeListBody, CorrectBody, EditJSON, ListJSON, ListUpload, SyncJSON, SyncUpload
from .pagination import KeysetPagination
from .request_fields import NothingBody
from .schema import FORM, JSON, conflict, describe, describes_export
from .serializers import (
    BatchSerializer,
    ChangedListSerializer,
    CreatedListSerializer,
    ListSerializer,
    LogSerializer,
    MemberSerializer,
)

EDITED = conflict(Code.STALE_VERSION, Code.BEING_EDITED)
NAME_TAKEN = conflict(Code.ALREADY_EXISTS)


class ProfileListViewSet(ListModelMixin, OneThing[ProfileList]):
    """List the lists.

    They are in the order of their names, unless `ordering` is given.
    """

    find = staticmethod(find_list)
    kind = "list"
    queryset = ProfileList.objects.order_by("name")
    serializer_class = ListSerializer
    filterset_class = ListFilters
    pagination_class = KeysetPagination

    required_permissions = {
        "list": VIEW_LISTS,
        "retrieve": VIEW_LISTS,
        "create": ADD_LIST,
        "destroy": DELETE_LIST,
        "run": OPERATE,
    } | dict.fromkeys(("partial_update", "add", "remove", "sync", "correct"), CHANGE_LIST)
    takes_file = frozenset({"create", "sync"})

    def retrieve(self, request: Request, pk: str) -> HttpResponseBase:
        """Get a list."""
        return self.respond_with_etag(request, pk)

    @describe(request={JSON: ListJSON, FORM: ListUpload}, responses={201: CreatedListSerializer} | NAME_TAKEN)
    def create(self, request: Request) -> Response:
        """Create a list.

        Send the profiles in JSON or upload a file, or leave them out. Entries that are not valid profiles are listed in
        `rejected` and the others are added; with `strict` nothing is created.
        """
        body: ListJSON | ListUpload = self.parse_upload(ListJSON, ListUpload)
        found = body.read_list()
        return self.run_prepared_once(
            lambda: self.manager.preparing_list(profiles=found.profiles, **body.attributes()),
            lambda create: self.report_created(create(), body.report(found)),
        )

    def report_created(self, created: ProfileList, report: dict[str, Any]) -> Response:
        found = CreatedListSerializer({"list": created} | report, context=self.get_serializer_context())
        return self.respond_created("list", created, found.data)

    @describe(request=ChangeListBody, responses={200: ListSerializer} | NAME_TAKEN)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change the attributes of a list.

        Its existing runs keep theirs. A changed schedule begins now, without making up for missed runs. A cron
        expression that cannot be read, an unknown time zone and a day that never comes are refused.
        """
        changes = parse_body(ChangeListBody, request)
        with matching(request, lambda: self.render(pk, lock=True)):
            require_granted(self.manager.change_list(pk, **changes))
        return self.respond(pk)

    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a list.

        Its profiles, its runs and their results are kept.
        """
        with matching(request, lambda: self.render(pk, lock=True)):
            require_granted(self.manager.delete_list(pk))
        return Response(status=204)

    @describe(request=EditJSON, responses={200: ChangedListSerializer} | EDITED)
    @action(detail=True, methods=["post"])
    def add(self, request: Request, pk: str) -> Response:
        """Add profiles to a list."""
        return self.edit(pk, self.manager.preparing_addition)

    @describe(request=EditJSON, responses={200: ChangedListSerializer} | EDITED)
    @action(detail=True, methods=["post"])
    def remove(self, request: Request, pk: str) -> Response:
        """Remove profiles from a list.

        Their history is kept, and other lists keep them.
        """
        return self.edit(pk, self.manager.preparing_removal)

    @describe(
        request={JSON: SyncJSON, FORM: SyncUpload},
        responses={200: ChangedListSerializer}
        | conflict(Code.STALE_VERSION, Code.TOO_MANY_REMOVALS, Code.BEING_EDITED),
    )
    @action(detail=True, methods=["post"])
    def sync(self, request: Request, pk: str) -> Response:
        """Make a list contain exactly these profiles.

        With `dry_run` the response only reports what would change. Removing more than a tenth is refused unless
        `allow_removals` is true.
        """
        body: SyncJSON | SyncUpload = self.parse_upload(SyncJSON, SyncUpload)
        found, allow_removals = body.read_list(), body.validated_data["allow_removals"]
        if body.validated_data["dry_run"]:
            change = self.manager.preview_sync(pk, found.profiles, version_in(body))
            return self.respond_changed(pk, change, body.report(found))
        return self.run_prepared_once(
            lambda: self.manager.preparing_sync(pk, found.profiles, allow_removals, version_in(body)),
            lambda sync: self.respond_changed(pk, sync(), body.report(found)),
        )

    @describe(
        request=CorrectBody,
        responses={200: ListSerializer} | conflict(Code.STALE_VERSION, Code.ALREADY_EXISTS),
    )
    @action(detail=True, methods=["post"])
    def correct(self, request: Request, pk: str) -> Response:
        """Give a profile of a list another address.

        Its checks and its stories are kept. The address of another profile is refused.
        """
        body = read_body(CorrectBody, request)
        old, new = body.validated_data["address"], body.validated_data["new_address"]
        call = partial(self.manager.correct_address, pk, old, new, version_in(body))
        return self.run_once(lambda: self.respond(pk, require_granted(call())))

    @describe(
        request=NothingBody,
        responses={201: BatchSerializer} | conflict(Code.ALREADY_QUEUED, Code.ALREADY_RUNNING),
    )
    @action(detail=True, methods=["post"])
    def run(self, request: Request, pk: str) -> Response:
        """Queue a batch of a list's current profiles."""
        parse_body(NothingBody, request)
        return self.run_prepared_once(
            lambda: self.manager.preparing_run(pk), lambda reveal: self.respond_with_batch(reveal())
        )

    def edit(self, pk: str, preparing: Callable[..., Any]) -> Response:
        """Prepare and make a change of the list with the profiles in the body."""
        body = read_body(EditJSON, self.request)
        found = body.read_list()
        return self.run_prepared_once(
            lambda: preparing(pk, found.profiles, version_in(body)),
            lambda change: self.respond_changed(pk, change(), body.report(found)),
        )

    def respond_changed(self, pk: str, outcome: ListChange | Refusal, report: dict[str, Any]) -> Response:
        facts = {"list": find_list(pk), "change": require_granted(outcome)} | report
        return Response(ChangedListSerializer(facts, context=self.get_serializer_context()).data)


def version_in(body: Any) -> int | None:
    version: int | None = body.validated_data.get("list_version")
    return version


class RowsOfList(RowsOf[Row]):
    find = staticmethod(find_list)
    kind = "list"


class ListMembers(RowsOfList[ListProfile]):
    """List the profiles of a list.

    They are in the order in which they were added.
    """

    required_permissions = {"list": VIEW_MEMBERS, "export": VIEW_MEMBERS}
    queryset = ListProfile.objects.select_related("profile").order_by("pk")
    serializer_class = MemberSerializer
    filterset_class = MemberFilters

    @describes_export(MEMBER_EXPORTERS)
    def export(self, request: Request, pk: str, kind: str) -> HttpResponseBase:
        """Export the profiles of a list.

        It takes the filters of the list of its profiles.
        """
        return self.respond_with_file(kind, MEMBER_EXPORTERS, streams.stream_members)


class ListLogs(RowsOfList[BatchLog]):
    """List the changes of a list.

    The newest change comes first.
    """

    required_permissions = {"list": VIEW_LOGS}
    queryset = BatchLog.objects.newest_first()
    serializer_class = LogSerializer
    filterset_class = LogFilters


urls = [
    path("lists/<str:pk>/profiles/", ListMembers.as_view(LIST), name="list-profiles"),
    path("lists/<str:pk>/logs/", ListLogs.as_view(LIST), name="list-logs"),
    path("lists/<str:pk>/export/<str:kind>/", ListMembers.as_view(EXPORT, pagination_class=None), name="list-export"),
]
