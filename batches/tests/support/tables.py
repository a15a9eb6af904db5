"""The content of the database, to show that nothing changed, a value to smuggle into every column, and query plans."""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.db.models import Field
from django.test.utils import CaptureQueriesContext

from batches.models import Batch

#: Random values and times differ between runs. A smuggled value never equals one of them.
RANDOM_FIELDS = {"secret", "key", "digest", "begins_with", "payload", "object_id", "password"}
SMUGGLED_ID = UUID("8e03978e-40d5-43e8-bc93-6894a57f9324")
SMUGGLED = {
    "UUIDField": SMUGGLED_ID,
    "DateTimeField": datetime.fromisoformat("2001-02-03T04:05:06+00:00"),
    "BooleanField": True,
    "FloatField": 4711.5,
    "CharField": "smuggled",
    "TextField": "smuggled",
}
NUMBER = 4711


def run_sql(sql: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def statements_of(call: Callable[[], Any]) -> list[str]:
    """The SQL of a call."""
    with CaptureQueriesContext(connection) as captured:
        call()
    return [query["sql"] for query in captured]


def explain(sql: str) -> str:
    """The plan of a statement."""
    if connection.vendor == "sqlite":
        return "\n".join(row[-1] for row in run_sql(f"EXPLAIN QUERY PLAN {sql}"))
    with transaction.atomic():
        # Reading a small table once may seem cheaper than by index. Whether the index can be used is what counts.
        run_sql("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[-1] for row in run_sql(f"EXPLAIN (COSTS OFF) {sql}"))
        run_sql("SET LOCAL enable_seqscan = on")
        return plan


def every_table() -> dict[str, list[str]]:
    """Return every row of every table, with or without a model."""
    names = table_names(connection.vendor)
    return {name: sorted(map(repr, run_sql(f"SELECT * FROM {name}"))) for name in names}


@cache
def table_names(vendor: str) -> list[str]:
    """Asking for them takes 5 ms on PostgreSQL."""
    return connection.introspection.table_names()


def stable_rows() -> dict[str, list[str]]:
    """Return every row of every model without times, random keys and sessions, which differ between runs."""
    return {
        model._meta.label: sorted(
            repr({name: mask_random(name, value) for name, value in row.items()})
            for row in model._base_manager.values()
        )
        for model in apps.get_models()
        if model is not Session
    }


def mask_random(name: str, value: Any) -> Any:
    if value in SMUGGLED.values() or not (name in RANDOM_FIELDS or isinstance(value, datetime | UUID)):
        return value
    return type(value).__name__


def every_column() -> Iterator[tuple[str, Any]]:
    """Yield the name of every column with a value that it would accept. Shared names come last as a batch has them."""
    for model in sorted(apps.get_app_config("batches").get_models(), key=lambda model: model is Batch):
        for field in model._meta.concrete_fields:
            for name in dict.fromkeys((field.name, field.attname)):
                yield name, smuggled_value(field)
        yield from ((relation.get_accessor_name(), [NUMBER]) for relation in model._meta.related_objects)


def smuggled_value(field: "Field[Any, Any]") -> Any:
    if model := field.related_model:
        row = model._base_manager.first()
        assert row is not None, f"No {model.__name__} exists to refer to."
        return str(row.pk) if isinstance(row.pk, UUID) else row.pk
    if field.choices:
        return list(field.choices)[-1][0]
    value = SMUGGLED.get(field.get_internal_type(), NUMBER)
    return value if isinstance(value, bool | float | int) else str(value)
