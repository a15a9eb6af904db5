"""The results of batches: profiles, stories, log, comparison and exports.

Each list needs the permission to view its rows, as in the admin.
"""

from functools import partial
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.urls import path
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ViewSet

from batches.lists.exports import EXPORTERS, STORY_EXPORTERS
from batches.models import Attempt, BatchLog, BatchProfile, Profile, StoryResult
from batches.queue.forgetting import find_profile
from batches.queue.refusals import Code, Refused, require_granted
from batches.queue.values import find_batch
from batches.reports import streams
from batches.reports.comparison import compare
from batches.reports.history import fetch_checks
from batches.reports.queries import match_host

from .access import ADD, FORGET, VIEW, VIEW_LOGS, VIEW_PROFILES, VIEW_ROWS, VIEW_STORIES
from .base import BaseView
from .batch_requests import CheckBody
from .calls import EXPORT, LIST, ListViewSet, ManagerView, Row, RowsOf, read_body
from .filters import AttemptFilters, BatchStoryFilters, LogFilters, NoFilters, ProfileFilters, RowFilters, StoryFilters
from .pagination import PlacePagination
from .schema import NUMBER, conflict, describe, describes_export, missing
from .serializers import (
    AttemptSerializer,
    BatchSerializer,
    CheckSerializer,
    ComparisonSerializer,
    LogSerializer,
    ProfileSerializer,
    RowSerializer,
    StorySerializer,
)


class RowsOfBatch(RowsOf[Row]):
    find = staticmethod(find_batch)
    kind = "batch"


class BatchRows(RowsOfBatch[BatchProfile]):
    """List the profiles of a batch with their results.

    They are in the order of the import.
    """

    required_permissions = {"list": VIEW_ROWS, "export": VIEW_ROWS}
    queryset = BatchProfile.objects.select_related("profile").order_by("pk")
    serializer_class = RowSerializer
    filterset_class = RowFilters

    @describes_export(EXPORTERS)
    def export(self, request: Request, pk: str, kind: str) -> HttpResponseBase:
        """Export the profiles of a batch with their results.

        It takes the filters of the list.
        """
        return self.respond_with_file(kind, EXPORTERS, streams.stream_rows)


class BatchAttempts(RowsOfBatch[Attempt]):
    """List the earlier checks of a batch.

    These are the results of its profiles before they were checked again, for example by a retry. The newest comes
    first.
    """

    required_permissions = {"list": VIEW_ROWS}
    queryset = Attempt.objects.select_related("profile").order_by("-pk")
    serializer_class = AttemptSerializer
    filterset_class = AttemptFilters


class BatchStories(RowsOfBatch[StoryResult]):
    """List the new stories that a batch found.

    The newest comes first. Stories that it found before it was done and queued again are not included.
    """

    required_permissions = {"list": VIEW_STORIES, "export": VIEW_STORIES}
    queryset = StoryResult.objects.newest_first()
    serializer_class = StorySerializer
    filterset_class = BatchStoryFilters

    def get_queryset(self) -> QuerySet[StoryResult]:
        return self.owner.stories  # type: ignore[no-any-return]

    @describes_export(STORY_EXPORTERS)
    def export(self, request: Request, pk: str, kind: str) -> HttpResponseBase:
        """Export the new stories that a batch found.

        It takes the filters of the list.
        """
        return self.respond_with_file(kind, STORY_EXPORTERS, streams.stream_stories, "stories")


class BatchLogs(RowsOfBatch[BatchLog]):
    """List the changes of a batch.

    The newest comes first.
    """

    required_permissions = {"list": VIEW_LOGS}
    queryset = BatchLog.objects.newest_first()
    serializer_class = LogSerializer
    filterset_class = LogFilters


class BatchComparison(BaseView, ViewSet):
    required_permissions = {"retrieve": VIEW}
    serializer_class = ComparisonSerializer

    def retrieve(self, request: Request, pk: str) -> Response:
        """Compare a batch with the batch that it repeats.

        `profiles/?change=…` lists the profiles. A batch that does not repeat another, or repeats one that has been
        deleted, has no comparison: 404.
        """
        batch = find_batch(pk)
        comparison = compare(batch)
        if comparison is None:
            raise NotFound(f"“{batch}” does not repeat another batch, or that batch was deleted.")
        return Response(ComparisonSerializer(comparison, context={"request": request}).data)


class Stories(ListViewSet[StoryResult]):
    """List the new stories of all batches.

    The newest comes first.
    """

    required_permissions = {"list": VIEW_STORIES}
    queryset = StoryResult.objects.newest_first()
    serializer_class = StorySerializer
    filterset_class = StoryFilters


class Profiles(ManagerView, ListViewSet[Profile]):
    """List the profiles of all batches.

    The oldest comes first.
    """

    required_permissions = {"list": VIEW_PROFILES, "retrieve": VIEW_PROFILES, "destroy": FORGET, "check": ADD}
    id_schema = NUMBER
    queryset = Profile.objects.order_by("pk")
    serializer_class = ProfileSerializer
    filterset_class = ProfileFilters

    def retrieve(self, request: Request, pk: str) -> Response:
        """Get a profile."""
        return Response(self.get_serializer(find_profile(pk)).data)

    @describe(responses={204: None} | conflict(Code.BEING_ADDED, Code.BEING_EDITED))
    def destroy(self, request: Request, pk: str) -> Response:
        """Forget a profile.

        It is deleted with its stories, its rows in all batches, its memberships in lists, and its address in the log.
        The counters of its batches decrease. The call is refused while a batch with the profile is being stored.
        """
        require_granted(self.manager.forget_profile(pk))
        return Response(status=204)

    @describe(request=CheckBody, responses={201: BatchSerializer} | missing("profile"))
    def check(self, request: Request) -> Response:
        """Check profiles now, in a new batch.

        Send ids, or `all` for all that rest, optionally only at one host. A success ends the rest of a profile. `all`
        also needs the permission to view profiles.
        """
        body = read_body(CheckBody, request)
        chosen = body.validated_data
        if chosen["all"]:  # the number of profiles shows how many rest
            self.require_permission(VIEW_PROFILES)
        return self.run_prepared_once(
            lambda: self.manager.preparing_batch(profiles=self.select(chosen), **body.attributes()),
            lambda reveal: self.respond_with_batch(reveal()),
        )

    def select(self, chosen: dict[str, Any]) -> QuerySet[Profile]:
        """Raises Refused if there are none."""
        profiles = Profile.objects.filter(pk__in=chosen["ids"]) if "ids" in chosen else Profile.objects.resting()
        if "host" in chosen:
            profiles = profiles.filter(match_host("url", chosen["host"]))
        if not profiles.exists():
            raise Refused(Code.NOT_FOUND, "No profile has these ids." if "ids" in chosen else "No profile rests.")
        return profiles


class ProfileHistory(BaseView, GenericViewSet[Profile]):
    required_permissions = {"list": VIEW_ROWS}
    id_schema = NUMBER
    queryset = Profile.objects.none()
    serializer_class = CheckSerializer
    filterset_class = NoFilters
    pagination_class = PlacePagination

    def list(self, request: Request, pk: str) -> Response:
        """List the checks of a profile in all batches.

        The newest comes first. The results that a recheck has replaced are included.
        """
        self.filter_queryset(self.get_queryset())  # refuses parameters that are not valid
        fetch: Any = partial(fetch_checks, find_profile(pk))
        checks: Any = self.paginate_queryset(fetch)
        return self.get_paginated_response(self.get_serializer(checks, many=True).data)


urls = [
    path("batches/<str:pk>/profiles/", BatchRows.as_view(LIST), name="batch-profiles"),
    path("batches/<str:pk>/attempts/", BatchAttempts.as_view(LIST), name="batch-attempts"),
    path("batches/<str:pk>/stories/", BatchStories.as_view(LIST), name="batch-stories"),
    path("batches/<str:pk>/logs/", BatchLogs.as_view(LIST), name="batch-logs"),
    path("batches/<str:pk>/comparison/", BatchComparison.as_view({"get": "retrieve"}), name="batch-comparison"),
    # Without pages and their parameters.
    path("batches/<str:pk>/export/<str:kind>/", BatchRows.as_view(EXPORT, pagination_class=None), name="batch-export"),
    path(
        "batches/<str:pk>/stories/export/<str:kind>/",
        BatchStories.as_view(EXPORT, pagination_class=None),
        name="batch-stories-export",
    ),
    path("profiles/", Profiles.as_view(LIST), name="profiles"),
    path("profiles/check/", Profiles.as_view({"post": "check"}), name="profiles-check"),
    path("profiles/<str:pk>/", Profiles.as_view({"get": "retrieve", "delete": "destroy"}), name="profile"),
    path("profiles/<str:pk>/history/", ProfileHistory.as_view(LIST), name="profile-history"),
    path("stories/", Stories.as_view(LIST), name="stories"),
]
