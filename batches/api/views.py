"""The calls of the API. Each one parses, makes one call of BatchManager, and shows what is there then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from django.db.models import QuerySet
from django.http import HttpResponseBase, QueryDict
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, UnsupportedMediaType, ValidationError
from rest_framework.mixins import ListModelMixin
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ViewSet

from batches.batch_manager import BatchManager
from batches.lists.imports import ImportResult
from batches.models import Action, Batch, Channel
from batches.queue.actions import RULES
from batches.queue.bulk import run_bulk, select_batches
from batches.queue.refusals import Refusal, Refused
from batches.queue.transitions import find_batch
from batches.reports.outlook import forecast_queue

from . import permissions as may
from .answers import BulkSerializer, CreatedSerializer
from .conditional import answer, queue_tag, tag_of
from .errors import granted
from .filters import BatchFilters
from .idempotency import IdempotentPosts
from .pagination import Cursors
from .parsers import JSONBody
from .serializers import (
    BULK_ACTIONS,
    BatchJSON,
    BatchSerializer,
    BatchUpload,
    Body,
    BulkBody,
    ChangeBody,
    HoldBody,
    MoveBody,
    QueueSerializer,
)
from .versioning import versions

#: Waiting batches that the queue shows; the list of batches has them all.
SHOWN_WAITING = 100


class UTF8Only(APIView):
    """Refuses other character sets: Django would read the form and the query in them, even in zlib or rot13."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if (request._request.encoding or "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedMediaType(request.content_type)
        super().initial(request, *args, **kwargs)


class Counted(APIView):
    """Counts each request as soon as it is known whose it is: those that are then answered with 401 or 403 as well,
    which are those of somebody who tries tokens."""

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        finally:
            super().check_throttles(request)

    def check_throttles(self, request: Request) -> None:
        """Done already."""


class BatchViewSet(UTF8Only, Counted, IdempotentPosts, ListModelMixin, GenericViewSet[Batch]):
    """Batches, and what can be done with one."""

    queryset = Batch.objects.in_queue_order()
    serializer_class = BatchSerializer
    filterset_class = BatchFilters
    pagination_class = Cursors

    permissions = {
        "list": may.VIEW,
        "retrieve": may.VIEW,
        "create": may.ADD,
        "partial_update": may.CHANGE,
        "destroy": may.DELETE,
        "queue": may.OPERATE,
        "start": may.OPERATE,
        "pause": may.OPERATE,
        "move": may.OPERATE,
        "retry": may.OPERATE,
        "repeat": may.OPERATE,
        "bulk": may.ANY_BULK,
    }

    def get_parsers(self) -> list[BaseParser]:
        """JSON, and where a file may come, a form. Asked before the request is known to be which action's."""
        may_have_file = self.request and self.action_map.get(str(self.request.method).lower()) == "create"
        return [JSONBody(), MultiPartParser()] if may_have_file else super().get_parsers()

    def retrieve(self, request: Request, pk: str) -> HttpResponseBase:
        shown = self.shown(find_batch(pk))
        return answer(request, tag_of(shown), lambda: shown)

    def create(self, request: Request) -> Response:
        body: BatchJSON | BatchUpload = (
            BatchUpload(data=request.data) if isinstance(request.data, QueryDict) else BatchJSON(data=request.data)
        )
        body.is_valid(raise_exception=True)
        found = body.read_list()
        return self.once(lambda: self.created(body, found))

    def created(self, body: BatchJSON | BatchUpload, found: ImportResult) -> Response:
        batch = granted(manager(self.request).create_batch(profiles=found.profiles, **body.attributes()))
        answer = {
            "batch": batch,
            "accepted": len(found.profiles),
            "duplicates": found.duplicates,
            "rejected": body.rejected(found.rejects),
        }
        shown = CreatedSerializer(answer, context=self.get_serializer_context()).data
        return Response(shown, 201, headers={"Location": self.address(batch)})

    def partial_update(self, request: Request, pk: str) -> Response:
        changes = parsed(ChangeBody, request)
        if "name" in changes:
            granted(manager(request).rename_batch(pk, changes["name"]))
        if "priority" in changes:
            granted(manager(request).set_priority(pk, changes["priority"]))
        return Response(self.shown(find_batch(pk)))

    def destroy(self, request: Request, pk: str) -> Response:
        granted(manager(request).delete_batch(pk))
        return Response(status=204)

    @action(detail=True, methods=["post"])
    def queue(self, request: Request, pk: str) -> Response:
        parsed(Body, request)
        return self.once(lambda: self.answer(pk, manager(request).queue_batch(pk)))

    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str) -> Response:
        parsed(Body, request)
        return self.once(lambda: self.answer(pk, manager(request).start_batch(pk)))

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        parsed(Body, request)
        return self.once(lambda: self.answer(pk, manager(request).pause_batch(pk)))

    @action(detail=True, methods=["post"])
    def move(self, request: Request, pk: str) -> Response:
        wanted = parsed(MoveBody, request)
        position, version = wanted["position"], wanted.get("queue_version")
        return self.once(lambda: self.answer(pk, manager(request).move_batch(pk, position, expected_version=version)))

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        parsed(Body, request)
        return self.once(lambda: self.answer(pk, manager(request).retry_failed(pk)))

    @action(detail=True, methods=["post"])
    def repeat(self, request: Request, pk: str) -> Response:
        parsed(Body, request)
        return self.once(lambda: self.repeated(pk))

    def repeated(self, pk: str) -> Response:
        batch = granted(manager(self.request).repeat_batch(pk))
        return Response(self.shown(batch), 201, headers={"Location": self.address(batch)})

    @action(detail=False, methods=["post"])
    def bulk(self, request: Request) -> Response:
        wanted = parsed(BulkBody, request)
        action = BULK_ACTIONS[wanted.pop("action")]
        self.require(may.DELETE if action == Action.DELETE_BATCH else may.OPERATE)
        if "filter" in wanted:  # the outcomes tell who matches
            self.require(may.VIEW)
        return self.once(lambda: self.done_in_bulk(action, **wanted))

    def done_in_bulk(
        self, action: Action, ids: Sequence[object] = (), filter: QuerySet[Batch] | None = None
    ) -> Response:
        left = 0
        if filter is not None:
            try:
                ids, left = select_batches(action, filter.filter(RULES[action].is_offered_for))
            except Refused as refused:
                raise ValidationError({"filter": [str(refused)]}) from refused
        return Response(BulkSerializer(run_bulk(manager(self.request), action, ids, left)).data)

    def require(self, permission: str) -> None:
        if not self.request.user.has_perm(permission):
            self.permission_denied(self.request)

    def answer(self, pk: str, answer: Literal[True] | Refusal) -> Response:
        granted(answer)
        return Response(self.shown(find_batch(pk)))

    def shown(self, batch: Batch) -> Any:
        return self.get_serializer(batch).data

    def address(self, batch: Batch) -> str:
        return reverse("api:batch-detail", [batch.pk], request=self.request)


class QueueViewSet(UTF8Only, Counted, IdempotentPosts, ViewSet):
    """The one queue."""

    permissions = {"retrieve": may.VIEW, "hold": may.OPERATE, "release": may.OPERATE}

    def retrieve(self, request: Request) -> HttpResponseBase:
        return answer(request, queue_tag(), self.shown)

    def shown(self) -> Any:
        outlook = forecast_queue()
        waiting = Batch.objects.queued().order_by("position")[:SHOWN_WAITING]
        context = {"request": self.request, "outlook": outlook}
        return QueueSerializer({"outlook": outlook, "waiting": waiting}, context=context).data

    def hold(self, request: Request) -> Response:
        reason = parsed(HoldBody, request)["reason"]
        return self.once(lambda: self.after(manager(request).hold_queue(reason)))

    def release(self, request: Request) -> Response:
        parsed(Body, request)
        return self.once(lambda: self.after(manager(request).release_queue()))

    def after(self, done: Literal[True]) -> Response:
        return Response(self.shown())


class NothingHere(UTF8Only, Counted):
    """Everything below the API's root that is no call, in the API's own shape."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        version = kwargs.get("version")
        if version and version not in versions():
            raise NotFound(f"There is no version {version} of the API, only {', '.join(versions())}.")
        raise NotFound("There is nothing at this address. The API's addresses end with a slash.")


def manager(request: Request) -> BatchManager:
    return BatchManager(actor=request.user.get_username(), channel=Channel.API)


def parsed(body_class: type[Body], request: Request) -> dict[str, Any]:
    """What the body says. Raises ValidationError."""
    body = body_class(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)
