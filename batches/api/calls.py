"""What views share: reading a body, calling BatchManager, rendering what a call is about, and listing rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpResponseBase, QueryDict
from rest_framework.exceptions import NotFound
from rest_framework.mixins import ListModelMixin
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from batches.batch_manager import BatchManager
from batches.models import Batch, Channel, rows_of
from batches.web.downloads import name_download, stream_download

from .access import explain_denial
from .base import BaseView
from .conditional import make_etag, respond_conditionally
from .idempotency import IdempotentPosts
from .pagination import KeysetPagination, OwnedKeysetPagination
from .request_fields import Body
from .serializers import BatchSerializer

B = TypeVar("B", bound=Body)
M = TypeVar("M", bound=Model)
Row = TypeVar("Row", bound=Model)
Line = TypeVar("Line")
Exporters: TypeAlias = Mapping[str, Callable[[Iterable[Line]], Iterator[str]]]

LIST: dict[str, Any] = {"get": "list"}
EXPORT: dict[str, Any] = {"get": "export"}


def read_body(body_class: type[B], request: Request) -> B:
    """Raises ValidationError."""
    body = body_class(data=request.data)
    body.is_valid(raise_exception=True)
    return body


def parse_body(body_class: type[Body], request: Request) -> dict[str, Any]:
    """The fields of the body. Raises ValidationError."""
    return dict(read_body(body_class, request).validated_data)


class ManagerView(IdempotentPosts):
    #: The actions that also take a form with a file.
    takes_file: frozenset[str] = frozenset()
    action_map: dict[str, str]

    def get_parsers(self) -> list[BaseParser]:
        """Called before `action` is set."""
        name = self.request and self.action_map.get(str(self.request.method).lower())
        return [*super().get_parsers(), *([MultiPartParser()] if name in self.takes_file else [])]

    def parse_upload(self, json_class: type[Body], form_class: type[Body]) -> Any:
        """The body, in JSON or as a form with a file. Raises ValidationError."""
        return read_body(form_class if isinstance(self.request.data, QueryDict) else json_class, self.request)

    def respond_created(self, kind: str, thing: Model, data: Any) -> Response:
        """`kind`: batch, list, subscription or feed."""
        address = reverse(f"batches_api:{kind}-detail", [thing.pk], request=self.request)
        return Response(data, 201, headers={"Location": address})

    def respond_with_batch(self, batch: Batch) -> Response:
        """For a batch that the call created."""
        return self.respond_created("batch", batch, BatchSerializer(batch, context={"request": self.request}).data)

    def require_permission(self, permission: str) -> None:
        if message := explain_denial(self.request, permission):
            self.permission_denied(self.request, message)

    @property
    def manager(self) -> BatchManager:
        return BatchManager(actor=self.request.user.get_username(), channel=Channel.API)


class OneThing(ManagerView, GenericViewSet[M]):
    """Calls for the thing that the address names by its `pk`."""

    #: Finds it, and the field with it in a refusal. Raises Refused.
    find: Callable[..., M]
    kind: str
    #: The actions that depend on an ETag.
    tagged = frozenset({"retrieve", "partial_update", "destroy"})

    def render(self, pk: str, **options: Any) -> Any:
        return self.get_serializer(self.find(pk, **options)).data

    def render_current(self, pk: str) -> dict[str, Any]:
        return {self.kind: self.render(pk)}

    def respond(self, pk: str, _: Literal[True] = True) -> Response:
        return Response(self.render(pk))

    def respond_with_etag(self, request: Request, pk: str) -> HttpResponseBase:
        body = self.render(pk)
        return respond_conditionally(request, make_etag(body), lambda: Response(body))


class ListViewSet(BaseView, ListModelMixin, GenericViewSet[Row]):
    """A list that can have a million rows, and can be exported."""

    pagination_class = KeysetPagination

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        # The address decides the type of an export, whatever `Accept` says; its errors are JSON all the same.
        return super().perform_content_negotiation(request, force or self.action == "export")


class RowsOf(ListViewSet[Row]):
    """The rows of the batch or of the list that the address names."""

    pagination_class = OwnedKeysetPagination
    #: Finds it. Raises Refused.
    find: Callable[[str], Any]
    kind: str

    @cached_property
    def owner(self) -> Any:
        return self.find(self.kwargs["pk"])

    def get_queryset(self) -> QuerySet[Row]:
        return rows_of(super().get_queryset(), **{self.kind: self.owner})

    def respond_with_file(
        self, kind: str, exporters: Exporters[Line], stream: Callable[[Any], Iterable[Line]], part: str = ""
    ) -> HttpResponseBase:
        """A streamed file, named after the owner. If that is deleted while it is sent, the file ends there."""
        if kind not in exporters:
            raise NotFound(f"Unknown type of export. Use {', '.join(exporters)}.")
        rows = self.filter_queryset(self.get_queryset())
        lines = () if self.request.method == "HEAD" else exporters[kind](stream(rows))
        return stream_download(lines, name_download(self.owner, part), kind)
