"""Keyset pagination: each page starts after the last row of the previous page, and is equally fast at any depth.

Page numbers would read and discard all earlier pages (160 ms deep in a million rows), and would repeat or skip rows
when others are added, moved or deleted. CursorPagination of Django REST framework keeps only the first term of the
order, counts through ties (`ordering=status` has a million), and does not support rows without a value. A cursor here
holds the values of all terms; the last term is the primary key.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from django import forms
from django.core import signing
from django.db import connection
from django.db.models import F, Field, Model, OrderBy, Q, QuerySet
from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from batches.queue.sql import reading_in_order
from batches.web.search import SearchTooSlow, limited_search

Row = TypeVar("Row", bound=Model)
#: The values of a row in the terms of an order.
Place = Sequence[Any]

PARAMETERS = frozenset({"cursor", "page_size"})


@dataclass(frozen=True, slots=True)
class Term:
    """One field of an order. Rows without a value come last in both directions."""

    field: "Field[Any, Any]"
    descending: bool

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def order_by(self) -> OrderBy:
        # NULLS LAST on a column that is never NULL keeps PostgreSQL from using the index.
        return OrderBy(F(self.name), self.descending, nulls_last=self.field.null or None)

    def behind(self, value: Any, *, or_equal: bool = False) -> Q:
        operator = ("lt" if self.descending else "gt") + ("e" if or_equal else "")
        return Q(**{f"{self.name}__{operator}": value})


class KeysetPagination(BasePagination):
    """50 rows per page, or `page_size`, at most 1,000. `next` is the address of the next page, or null."""

    page_size = 50
    max_page_size = 1000

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.address = request.build_absolute_uri()
        size = self.get_page_size(request)
        terms = order_of(queryset)
        place = read_cursor(request, terms)
        try:
            with self.reading(request):
                rows = rows_behind(queryset, terms, place, size + 1)
        except SearchTooSlow as error:
            raise ValidationError({"search": [str(error)]}) from error
        self.next = cursor_behind(rows[size - 1], terms) if len(rows) > size else None
        return rows[:size]

    def reading(self, request: Request) -> AbstractContextManager[None]:
        """The block in which the rows are read."""
        return limited_search() if "search" in request.query_params else nullcontext()

    def get_page_size(self, request: Request) -> int:
        if "page_size" not in request.query_params:
            return self.page_size
        field = forms.IntegerField(min_value=1, max_value=self.max_page_size)
        try:
            return int(field.clean(request.query_params["page_size"]))
        except forms.ValidationError as error:
            raise ValidationError({"page_size": error.messages}) from error

    def get_paginated_response(self, data: Any) -> Response:
        following = replace_query_param(self.address, "cursor", self.next) if self.next else None
        return Response({"next": following, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        address = {
            "type": ["string", "null"],
            "format": "uri",
            "description": "The address of the next page.",
            "example": "https://batches.example.org/api/v1/batches/?cursor=WyIyMDI2LTA2LTAxIl0",
        }
        return {
            "type": "object",
            "required": ["next", "results"],
            "properties": {"next": address, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        size = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        cursor = "The start of the page, from `next`."
        return [
            {"name": "page_size", "in": "query", "description": "Rows a page.", "schema": size},
            {"name": "cursor", "in": "query", "description": cursor, "schema": {"type": "string"}},
        ]


class OwnedKeysetPagination(KeysetPagination):
    """For the rows of one batch or list, which an index has in their order."""

    def reading(self, request: Request) -> AbstractContextManager[None]:
        """Filters by host or words may begin with the profiles, and sort the few that match."""
        may_sort = {"host", "search"} & request.query_params.keys()
        return super().reading(request) if may_sort else reading_in_order()


class PlacePagination(KeysetPagination):
    """For items of several tables: `fetch(limit, place)` reads those after a place, and each item has a `place`."""

    def paginate_queryset(self, fetch: Any, request: Request, view: Any = None) -> list[Any]:
        self.address = request.build_absolute_uri()
        size, cursor = self.get_page_size(request), request.query_params.get("cursor")
        salt = request.path
        found = fetch(size + 1, None if cursor is None else load_place(cursor, salt))
        self.next = signing.dumps(found[size - 1].place, salt=salt) if len(found) > size else None
        return list(found[:size])


def cursor_behind(row: Model, terms: Sequence[Term]) -> str:
    """The place of the row, signed, so that a client can only send back a cursor of this list in this order."""
    place = [None if getattr(row, term.field.attname) is None else term.field.value_to_string(row) for term in terms]
    return signing.dumps(place, salt=_salt(terms))


def read_cursor(request: Request, terms: Sequence[Term]) -> Place | None:
    """The place after which the page starts; None for the first page. Raises ValidationError."""
    if "cursor" not in request.query_params:
        return None
    place = load_place(request.query_params["cursor"], _salt(terms))
    return [term.field.to_python(value) for term, value in zip(terms, place, strict=True)]


def load_place(cursor: str, salt: str) -> Place:
    try:
        place: Place = signing.loads(cursor, salt=salt)
    except signing.BadSignature as error:
        message = "This cursor does not belong to this list in this order. Use the address in `next` unchanged."
        raise ValidationError({"cursor": [message]}) from error
    return place


def _salt(terms: Sequence[Term]) -> str:
    return ":".join([terms[0].field.model._meta.label, *(f"{term.name} {term.descending}" for term in terms)])


def order_of(rows: QuerySet[Any]) -> list[Term]:
    """The order of the rows, down to the primary key, which makes it total."""
    terms: dict[str, Term] = {}
    for item in (*rows.query.order_by, "pk"):
        term = _term(rows.model, item)
        terms.setdefault(term.name, term)  # a repeated field decides nothing
    return list(terms.values())


def _term(model: type[Model], item: Any) -> Term:
    if isinstance(item, OrderBy):
        name, descending = item.expression.name, item.descending  # type: ignore[union-attr]
    else:
        name, descending = item.removeprefix("-"), item.startswith("-")
    field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    assert isinstance(field, Field)
    return Term(field, descending)


def rows_behind(rows: QuerySet[Row], terms: Sequence[Term], place: Place | None, limit: int) -> list[Row]:
    """The first `limit` rows of the order, or those after a place in it.

    Rows with a value in the first term are read first, then those without one, which the remaining terms order. Each
    part can use its own index: in the queue's order the few queued batches use the index of the position, and a million
    finished ones the index of their creation.
    """
    first, *rest = terms
    found: list[Row] = []
    if place is None or place[0] is not None:
        with_value = rows.filter(**{f"{first.name}__isnull": False}) if first.field.null else rows
        if place is not None:
            # The second condition implies the first, which lets the databases start in the middle of an index.
            with_value = with_value.filter(first.behind(place[0], or_equal=True), _behind(terms, place))
        order = OrderBy(F(first.name), first.descending), *(term.order_by for term in rest)
        found = list(with_value.order_by(*order)[:limit])
        place = None
    if first.field.null and len(found) < limit:
        without = rows.filter(_is_missing(first.name))
        found += rows_behind(without, rest, place and place[1:], limit - len(found))
    return found


def _is_missing(name: str) -> Q | IsNull:
    if connection.vendor != "sqlite":
        return Q(**{f"{name}__isnull": True})
    # Not by the column's index: without statistics SQLite assumes that NULL is rare, and sorts the million batches
    # without a position (1.6 s). PostgreSQL knows how many there are.
    return IsNull(Coalesce(name, name), True)


def _behind(terms: Sequence[Term], place: Place) -> Q:
    (term, *rest), (value, *values) = terms, place
    missing = Q(**{f"{term.name}__isnull": True})
    if value is None:
        return missing & _behind(rest, values)
    behind = term.behind(value)
    if term.field.null:
        behind |= missing
    return behind | (Q(**{term.name: value}) & _behind(rest, values)) if rest else behind
