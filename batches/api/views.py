"""The calls of the API. Each call parses the request, makes one call of BatchManager, and renders the result.

The docstrings are the descriptions in docs/reference/openapi.yaml: the first sentence is the summary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, Literal

from django.db.models import QuerySet
from django.http import HttpResponseBase
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from batches.models import Action, Batch
from batches.queue.bulk import preparing_repeats, run_bulk, select_batches
from batches.queue.refusals import Code, Refused, require_granted
from batches.queue.transitions import RULES
from batches.queue.values import find_batch
from batches.reports.forecast import forecast_queue, queue_as_dict

from .access import ADD, ADD_LIST, CHANGE, DELETE, OPERATE, VIEW
from .base import OpenView
from .batch_requests import (
    BULK_ACTIONS,
    BatchJSON,
    BatchUpload,
    BulkBody,
    ChangeBody,
    HoldBody,
    MoveBody,
    PauseBody,
    RetryBody,
    StartBody,
    UndoBody,
)
from .calls import ManagerView, OneThing, parse_body
from .conditional import make_queue_etag, matching, respond_conditionally
from .filters import BatchFilters
from .pagination import KeysetPagination
from .request_fields import Body, NothingBody
from .schema import FORM, JSON, conflict, describe, refusals
from .serializers import BatchSerializer, BulkSerializer, CreatedSerializer, OutcomeSerializer, QueueSerializer
from .versioning import PathVersioning

#: The queue contains this many queued batches at most; the list of batches has all of them.
MAX_WAITING = 100

Handler = Callable[..., Response]


def batch_action(rule: Action, *codes: Code, body: type[Body] = NothingBody) -> Callable[[Callable[..., Any]], Handler]:
    """A POST that makes the decorated call of the manager, with the fields of the body, and responds with the batch.

    It is refused with the codes of its rule and with these.
    """
    description = describe(request=body, responses={200: BatchSerializer} | refusals(rule, *codes))

    def decorate(call: Callable[..., Any]) -> Handler:
        @wraps(call)
        def handle(view: BatchViewSet, request: Request, pk: str) -> Response:
            fields = parse_body(body, request)
            return view.run_once(lambda: view.respond(pk, require_granted(call(view, pk, **fields))))

        return description(action(detail=True, methods=["post"])(handle))

    return decorate


class BatchViewSet(ListModelMixin, OneThing[Batch]):
    """List batches.

    They are in the order of the queue, unless `ordering` is given.
    """

    find = staticmethod(find_batch)
    kind = "batch"
    queryset = Batch.objects.in_queue_order()
    serializer_class = BatchSerializer
    filterset_class = BatchFilters
    pagination_class = KeysetPagination
    takes_file = frozenset({"create"})

    required_permissions = {
        "list": VIEW,
        "retrieve": VIEW,
        "create": ADD,
        "partial_update": CHANGE,
        "destroy": DELETE,
        "bulk": (OPERATE, DELETE),  # the body decides which one is needed
    } | dict.fromkeys(("queue", "start", "pause", "move", "retry", "repeat", "undo"), OPERATE)

    def retrieve(self, request: Request, pk: str) -> HttpResponseBase:
        """Get a batch."""
        return self.respond_with_etag(request, pk)

    @describe(
        request={JSON: BatchJSON, FORM: BatchUpload},
        responses={201: CreatedSerializer} | conflict(Code.ALREADY_EXISTS),
    )
    def create(self, request: Request) -> Response:
        """Create a batch.

        Send the profiles in JSON or upload a file: plain text, CSV, OPML or JSON. Entries that are not valid
        profiles are listed in `rejected` and the others are imported; with `strict` nothing is created.
        """
        body: BatchJSON | BatchUpload = self.parse_upload(BatchJSON, BatchUpload)
        if body.validated_data["keep"]:
            self.require_permission(ADD_LIST)
        found = body.read_list()
        return self.run_prepared_once(
            lambda: self.manager.preparing_batch(profiles=found.profiles, **body.attributes("queue", "keep")),
            lambda reveal: self.report_created(reveal(), body.report(found)),
        )

    def report_created(self, batch: Batch, report: dict[str, Any]) -> Response:
        created = CreatedSerializer({"batch": batch} | report, context=self.get_serializer_context())
        return self.respond_created("batch", batch, created.data)

    @describe(request=ChangeBody)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Rename a batch or change its priority.

        A queued batch with a new priority moves to the end of the batches with that priority.
        """
        changes = parse_body(ChangeBody, request)
        with matching(request, lambda: self.render(pk)):
            if "name" in changes:
                require_granted(self.manager.rename_batch(pk, changes["name"]))
            if "priority" in changes:
                require_granted(self.manager.set_priority(pk, changes["priority"]))
        return self.respond(pk)

    @describe(responses={204: None} | refusals(Action.DELETE_BATCH))
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a batch."""
        with matching(request, lambda: self.render(pk)):
            require_granted(self.manager.delete_batch(pk))
        return Response(status=204)

    @batch_action(Action.QUEUE_BATCH)
    def queue(self, pk: str) -> Any:
        """Queue a batch.

        It goes behind the last queued batch with the same or a higher priority. All profiles of a finished batch are
        checked again.
        """
        return self.manager.queue_batch(pk)

    @batch_action(Action.START_BATCH, Code.ANOTHER_RUNNING, Code.QUEUE_HELD, Code.STALE_VERSION, body=StartBody)
    def start(self, pk: str, preempt: bool, queue_version: int | None = None) -> Any:
        """Start a batch now.

        It is refused while another batch runs. With `preempt`, the other batch goes back to the front of the queue with
        its results, and continues afterwards.
        """
        return self.manager.start_batch(pk, preempt, expected_version=queue_version)

    @batch_action(Action.PAUSE_BATCH, body=PauseBody)
    def pause(self, pk: str, reason: str) -> Any:
        """Pause a batch.

        No result that arrives after this response is recorded. A batch that is already paused does not change.
        """
        return self.manager.pause_batch(pk, reason)

    @batch_action(Action.MOVE_BATCH, Code.STALE_VERSION, body=MoveBody)
    def move(self, pk: str, position: int, queue_version: int | None = None) -> Any:
        """Move a batch in the queue."""
        return self.manager.move_batch(pk, position, expected_version=queue_version)

    @batch_action(Action.RETRY_FAILED, Code.NOTHING_TO_RETRY, body=RetryBody)
    def retry(self, pk: str, **chosen: Any) -> Any:
        """Recheck the failed profiles of a batch."""
        return self.manager.retry_failed(pk, **chosen)

    @batch_action(
        Action.UNDO_CHANGE,
        *(Code.NOTHING_TO_UNDO, Code.STALE_VERSION, Code.ANOTHER_RUNNING, Code.QUEUE_HELD),
        body=UndoBody,
    )
    def undo(self, pk: str, entry: int | None = None) -> Any:
        """Undo the latest change of a batch.

        The batch goes back to its former place after it was queued, started, paused or moved; not if it was finished,
        since queueing has deleted its results. If others have changed the order up to there since, the call is refused.
        """
        return self.manager.undo_change(pk, entry)

    @describe(request=NothingBody, responses={201: BatchSerializer} | refusals(Action.REPEAT_BATCH))
    @action(detail=True, methods=["post"])
    def repeat(self, request: Request, pk: str) -> Response:
        """Queue a new run of a batch.

        It is a new batch with the same profiles, or with those that the list has now.
        """
        parse_body(NothingBody, request)
        return self.run_prepared_once(
            lambda: self.manager.preparing_repeat(pk), lambda reveal: self.respond_with_batch(reveal())
        )

    @describe(request=BulkBody, responses=BulkSerializer)
    @action(detail=False, methods=["post"])
    def bulk(self, request: Request) -> Response:
        """Change many batches.

        Send up to 1,000 ids, or a filter, which selects the matching batches that the action can change. Each batch
        has a separate outcome. The action `delete` needs the permission to delete batches, the other actions the
        permission to operate them. A filter also needs the permission to view batches.
        """
        fields = parse_body(BulkBody, request)
        bulk_action = BULK_ACTIONS[fields.pop("action")]
        self.require_permission(DELETE if bulk_action == Action.DELETE_BATCH else OPERATE)
        if "filter" in fields:  # the outcomes show which batches match
            self.require_permission(VIEW)
        return self.run_bulk_once(bulk_action, **fields)

    def run_bulk_once(
        self,
        bulk_action: Action,
        ids: Sequence[object] = (),
        filter: QuerySet[Batch] | None = None,
        **values: Any,
    ) -> Response:
        # A repeat changes nothing about the batch.
        is_filtered = filter is not None and bulk_action != Action.REPEAT_BATCH
        values |= {"expected_in": filter} if is_filtered else {}

        def select() -> tuple[Sequence[object], int]:
            if filter is None:
                return ids, 0
            try:
                return select_batches(bulk_action, filter.filter(RULES[bulk_action].is_offered_for))
            except Refused as refused:
                raise ValidationError({"filter": [str(refused)]}) from refused

        @contextmanager
        def prepare(ids: Sequence[object]) -> Iterator[Callable[[], list[Any]]]:
            in_a_transaction = self.wanted is not None and bulk_action == Action.REPEAT_BATCH
            preparing = preparing_repeats(self.manager, ids) if in_a_transaction else nullcontext()
            with preparing as prepared:
                yield lambda: self.run_bulk(bulk_action, ids, prepared=prepared, **values)

        return self.run_steps_once(select, prepare)

    def run_bulk(self, bulk_action: Action, ids: Sequence[object], **values: Any) -> list[Any]:
        outcomes = run_bulk(self.manager, bulk_action, ids, **values).outcomes
        return list(OutcomeSerializer(outcomes, many=True).data)


class QueueViewSet(ManagerView, ViewSet):
    serializer_class = QueueSerializer
    tagged = frozenset({"retrieve"})
    required_permissions = {"retrieve": VIEW, "hold": OPERATE, "release": OPERATE}

    def retrieve(self, request: Request) -> HttpResponseBase:
        """Get the queue."""
        return respond_conditionally(request, make_queue_etag(), lambda: Response(self.render()))

    @describe(request=HoldBody)
    def hold(self, request: Request) -> Response:
        """Hold the queue.

        No batch is started until the queue is released, or until the end of the hold. The running batch continues. With
        `stop_running` it stops and is the first to continue afterwards, unless it has been moved, queued, paused or
        deleted by then.
        """
        fields = parse_body(HoldBody, request)
        return self.run_once(lambda: self.respond(require_granted(self.manager.hold_queue(**fields))))

    @describe(request=NothingBody)
    def release(self, request: Request) -> Response:
        """Release the queue."""
        parse_body(NothingBody, request)
        return self.run_once(lambda: self.respond(self.manager.release_queue()))

    def respond(self, _: Literal[True]) -> Response:
        return Response(self.render())

    def render(self) -> dict[str, Any]:
        # One serializer for all batches: each new one builds its fields again, in nearly a millisecond.
        batches = BatchSerializer(context={"request": self.request})
        return queue_as_dict(forecast_queue(turns=0), MAX_WAITING, batches.to_representation)


class NothingHere(OpenView):
    """Returns 404 in the API's own shape for every address below its root that is not a call."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        version, known = kwargs.get("version"), PathVersioning.allowed_versions or ()
        if version and version not in known:
            raise NotFound(f"The API has no version {version}. Use {', '.join(known)}.")
        raise NotFound("No such address. The addresses of the API end with a slash.")
