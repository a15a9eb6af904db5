"""Long lists in pages, each of which goes on behind the last row of the one before: as fast at any depth.

Page numbers read what is before the page and throw it away (160 ms deep in a million rows), and show twice or never
what is added, moved or deleted meanwhile. They would also have to count: no list tells its length. The framework's
CursorPagination keeps the first term of the order and counts through its ties, and `ordering=status` has a million of
them; nor does it know rows without a value. So a cursor here has the values of all terms, and the last is the key.
"""

from __future__ import annotations

from collections.abc import Sequence
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

Row = TypeVar("Row", bound=Model)

PARAMETERS = frozenset({"cursor", "page_size"})


@dataclass(frozen=True, slots=True)
class Term:
    """One field of an order. Rows without a value come last in both directions."""

    field: Field[Any, Any]
    descending: bool

    @property
    def name(self) -> str:
        return self.field.name

    def place_of(self, row: Model) -> str | None:
        return None if getattr(row, self.field.attname) is None else self.field.value_to_string(row)


Place = Sequence[Any]


class Cursors(BasePagination):
    """50 rows to a page, or `page_size`, which is at most 200. `next` is the address of the next page, or null."""

    page_size = 50
    max_page_size = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.address = request.build_absolute_uri()
        size = whole_number(request, "page_size", default=self.page_size, highest=self.max_page_size)
        terms = order_of(queryset)
        rows = rows_behind(queryset, terms, read_cursor(request, terms), size + 1)
        self.next = cursor_behind(rows[size - 1], terms) if len(rows) > size else None
        return rows[:size]

    def get_paginated_response(self, data: Any) -> Response:
        following = replace_query_param(self.address, "cursor", self.next) if self.next else None
        return Response({"next": following, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        address = {
            "type": "string",
            "format": "uri",
            "nullable": True,
            "description": "The next page.",
        }
        results = {"next": address, "results": schema}
        return {"type": "object", "required": list(results), "properties": results}

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        size = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        return [
            {"name": "page_size", "in": "query", "description": "Rows to a page.", "schema": size},
            {
                "name": "cursor",
                "in": "query",
                "description": "Where the page begins. Taken from `next`, never made up.",
                "schema": {"type": "string"},
            },
        ]


class LongCursors(Cursors):
    """For the lists that can have a million rows: at most 1,000 to a page."""

    max_page_size = 1000


def whole_number(request: Request, name: str, *, default: int, highest: int) -> int:
    """The query parameter as a number from 1 to `highest`. Raises ValidationError that names it."""
    if name not in request.query_params:
        return default
    try:
        return int(forms.IntegerField(min_value=1, max_value=highest).clean(request.query_params[name]))
    except forms.ValidationError as error:
        raise ValidationError({name: error.messages}) from error


def cursor_behind(row: Model, terms: Sequence[Term]) -> str:
    """Signed, so that what comes back is a place that was given out: in this list, and in this order."""
    return signing.dumps([term.place_of(row) for term in terms], salt=_salt(terms))


def read_cursor(request: Request, terms: Sequence[Term]) -> Place | None:
    """The place behind which the page begins; None for the first page. Raises ValidationError."""
    if "cursor" not in request.query_params:
        return None
    try:
        place = signing.loads(request.query_params["cursor"], salt=_salt(terms))
    except signing.BadSignature as error:
        message = "This is no cursor of this list in this order. Use the address in `next` as it is."
        raise ValidationError({"cursor": [message]}) from error
    return [term.field.to_python(value) for term, value in zip(terms, place, strict=True)]


def _salt(terms: Sequence[Term]) -> str:
    return ":".join([terms[0].field.model._meta.label, *(f"{term.name} {term.descending}" for term in terms)])


def order_of(rows: QuerySet[Any]) -> list[Term]:
    """The order in which the rows are to be read, down to the key, which makes it a total one."""
    terms: dict[str, Term] = {}
    for item in (*rows.query.order_by, "pk"):
        term = _term(rows.model, item)
        terms.setdefault(term.name, term)  # the second time it decides nothing
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
    """The first `limit` rows of the order, or of those behind a place in it.

    Rows with a value in the first term are read first, then those without one, which the remaining terms order. Each
    part can have its index: in the queue's order the few batches that wait have that of the position, and a million
    finished ones that of their creation.
    """
    first, *rest = terms
    found: list[Row] = []
    if place is None or place[0] is not None:
        with_value = rows.filter(**{f"{first.name}__isnull": False}) if first.field.null else rows
        if place is not None:
            with_value = with_value.filter(_bound(first, place[0]), _behind(terms, place))
        order = [f"{'-' if first.descending else ''}{first.name}", *map(_ordering, rest)]
        found = list(with_value.order_by(*order)[:limit])
        place = None
    if first.field.null and len(found) < limit:
        without = rows.filter(_is_missing(first.name))
        found += rows_behind(without, rest, place and place[1:], limit - len(found))
    return found


def _is_missing(name: str) -> Q | IsNull:
    if connection.vendor != "sqlite":
        return Q(**{f"{name}__isnull": True})
    # Not by that column's index: without statistics SQLite takes a missing value for a rare one, and sorts the million
    # batches that have no position (1.6 s). PostgreSQL knows how many there are.
    return IsNull(Coalesce(name, name), True)


def _ordering(term: Term) -> str | OrderBy:
    if not term.field.null:  # said of a column that is never NULL, it would keep PostgreSQL from using the index
        return f"{'-' if term.descending else ''}{term.name}"
    value = F(term.name)
    return value.desc(nulls_last=True) if term.descending else value.asc(nulls_last=True)


def _bound(term: Term, value: Any) -> Q:
    """Says nothing new, but it is what lets the databases begin in the middle of an index."""
    return Q(**{f"{term.name}__{'lte' if term.descending else 'gte'}": value})


def _behind(terms: Sequence[Term], place: Place) -> Q:
    (term, *rest), (value, *values) = terms, place
    without = Q(**{f"{term.name}__isnull": True})
    if value is None:
        return without & _behind(rest, values)
    behind = Q(**{f"{term.name}__{'lt' if term.descending else 'gt'}": value})
    if term.field.null:
        behind |= without
    return behind | (Q(**{term.name: value}) & _behind(rest, values)) if rest else behind
