"""Every address of the URL conf, with the rows of `browser.pages` as its parameters."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.admindocs.views import simplify_regex
from django.contrib.contenttypes.models import ContentType
from django.urls import URLPattern, get_resolver

from batches.models import Batch, Queue

PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Address:
    """`route` is "/admin/batches/batch/<uuid:batch_id>/live/"; `path` has the values of a row."""

    route: str
    path: str
    callback: Any

    def __str__(self) -> str:
        return self.route


def every_address(rows: Any) -> list[Address]:
    patterns = iterate_routes(get_resolver().url_patterns)
    return [Address(route, fill_route(route, rows), pattern.callback) for route, pattern in patterns]


def iterate_routes(entries: Any, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in entries:
        route = before + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield simplify_regex(route), entry
        else:
            yield from iterate_routes(entry.url_patterns, route)


def fill_route(route: str, rows: Any) -> str:
    """A new kind of parameter raises KeyError: add a value below."""
    return PARAMETER.sub(lambda match: str(value_of(match[1], route, rows)), route)


def value_of(name: str, route: str, rows: Any) -> Any:
    is_admin = not route.startswith("/api/")
    if is_admin and name in {"object_id", "id", "pk"} and not route.startswith("/admin/r/"):
        return getattr(rows, route.split("/")[3]).pk
    return {
        "pk": rows.profilelist.pk if "/lists/" in route else rows.done.pk,
        "object_id": rows.done.pk,
        "batch_id": rows.queued.pk,
        "list_id": rows.profilelist.pk,
        "kind": "csv",
        "form": "csv",
        "call": "pause_batch",
        "position": 1,
        "version": Queue.objects.get().version,
        "content_type_id": ContentType.objects.get_for_model(Batch).pk,
        "app_label": "batches",
        "url": "nothing",
    }[name]
