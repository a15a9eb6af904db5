"""What came out: the profiles, stories and log of a batch, its comparison with the one before, and all of it as files.

Each list needs the permission to view what is in it, as the admin's lists do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpResponseBase
from django.urls import path
from django.utils.text import slugify
from rest_framework.exceptions import NotFound
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ViewSet

from batches.lists.exports import EXPORTERS, STORY_EXPORTERS
from batches.models import Batch, BatchLog, BatchProfile, Profile, StoryResult
from batches.queue.transitions import find_batch
from batches.reports import queries
from batches.reports.comparison import compare
from batches.web.downloads import stream_download

from . import permissions as may
from .filters import BatchStoryFilters, LogFilters, ProfileFilters, RowFilters, StoryFilters
from .pagination import LongCursors
from .serializers import ComparisonSerializer, LogSerializer, ProfileSerializer, RowSerializer, StorySerializer
from .views import Counted, UTF8Only

Shown = TypeVar("Shown", bound=Model)
Line = TypeVar("Line")
Actions: TypeAlias = dict[str, Any]


class ListViewSet(UTF8Only, Counted, ListModelMixin, GenericViewSet[Shown]):
    pagination_class = LongCursors

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # What an export is made of is in its address, whatever `Accept` says; the errors are JSON all the same.
        return super().perform_content_negotiation(request, force or self.action == "export")


class OfBatch(UTF8Only):
    """What one batch has."""

    @cached_property
    def batch(self) -> Batch:
        return find_batch(self.kwargs["pk"])


class BatchRows(OfBatch, ListViewSet[BatchProfile]):
    """The profiles of a batch with what came out for each, in the order of their import."""

    permissions = {"list": may.VIEW_ROWS, "export": may.VIEW_ROWS}
    serializer_class = RowSerializer
    filterset_class = RowFilters

    def get_queryset(self) -> QuerySet[BatchProfile]:
        return self.batch.profiles.select_related("profile").order_by("pk")

    def export(self, request: Request, pk: str, kind: str) -> HttpResponseBase:
        rows = self.filter_queryset(self.get_queryset())
        return exported(request, self.batch, kind, EXPORTERS, queries.stream_rows(rows))


class BatchStories(OfBatch, ListViewSet[StoryResult]):
    """The stories that a batch was the first to see, newest find first."""

    permissions = {"list": may.VIEW_STORIES, "export": may.VIEW_STORIES}
    serializer_class = StorySerializer
    filterset_class = BatchStoryFilters

    def get_queryset(self) -> QuerySet[StoryResult]:
        return queries.new_stories(self.batch)

    def export(self, request: Request, pk: str, kind: str) -> HttpResponseBase:
        stories = self.filter_queryset(self.get_queryset())
        return exported(request, self.batch, kind, STORY_EXPORTERS, queries.stream_stories(stories), "-stories")


class BatchLogs(OfBatch, ListViewSet[BatchLog]):
    """What happened to a batch, newest first."""

    permissions = {"list": may.VIEW_LOGS}
    serializer_class = LogSerializer
    filterset_class = LogFilters

    def get_queryset(self) -> QuerySet[BatchLog]:
        return queries.logs(self.batch)


class BatchComparison(OfBatch, Counted, ViewSet):
    """A batch beside the one that it repeats, in numbers; `profiles/?change=…` has the rows."""

    permissions = {"retrieve": may.VIEW}

    def retrieve(self, request: Request, pk: str) -> Response:
        comparison = compare(self.batch)
        if comparison is None:
            raise NotFound(f"“{self.batch}” repeats no batch, or one that is deleted.")
        return Response(ComparisonSerializer(comparison, context={"request": request}).data)


class Stories(ListViewSet[StoryResult]):
    """The stories of all batches, newest find first."""

    permissions = {"list": may.VIEW_STORIES}
    queryset = StoryResult.objects.select_related("profile").order_by("-pk")
    serializer_class = StorySerializer
    filterset_class = StoryFilters


class Profiles(ListViewSet[Profile]):
    """All profiles that any batch ever had, in the order in which they came."""

    permissions = {"list": may.VIEW_PROFILES}
    queryset = Profile.objects.order_by("pk")
    serializer_class = ProfileSerializer
    filterset_class = ProfileFilters


def exported(
    request: Request,
    batch: Batch,
    kind: str,
    exporters: Mapping[str, Callable[[Iterable[Line]], Iterator[str]]],
    lines: Iterable[Line],
    suffix: str = "",
) -> HttpResponseBase:
    """If the batch is deleted meanwhile, the file ends where the rows end."""
    if kind not in exporters:
        raise NotFound(f"There is no such export, only {', '.join(exporters)}.")
    name = f"{slugify(batch.name)[:50] or batch.pk}{suffix}"
    return stream_download(() if request.method == "HEAD" else exporters[kind](lines), name, kind)


LIST: Actions = {"get": "list"}
EXPORT: Actions = {"get": "export"}

urls = [
    path("batches/<str:pk>/profiles/", BatchRows.as_view(LIST), name="batch-profiles"),
    path("batches/<str:pk>/stories/", BatchStories.as_view(LIST), name="batch-stories"),
    path("batches/<str:pk>/logs/", BatchLogs.as_view(LIST), name="batch-logs"),
    path("batches/<str:pk>/comparison/", BatchComparison.as_view({"get": "retrieve"}), name="batch-comparison"),
    # No pages, and no parameters of theirs.
    path(
        "batches/<str:pk>/export/<str:kind>/",
        BatchRows.as_view(EXPORT, pagination_class=None),
        name="batch-export",
    ),
    path(
        "batches/<str:pk>/stories/export/<str:kind>/",
        BatchStories.as_view(EXPORT, pagination_class=None),
        name="batch-stories-export",
    ),
    path("profiles/", Profiles.as_view(LIST), name="profiles"),
    path("stories/", Stories.as_view(LIST), name="stories"),
]
