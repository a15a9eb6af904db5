"""What the database holds, to show that something changed nothing, and what somebody might try to write into it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Field, Model

from batches.models import Batch

#: Written by chance or by the clock. A value that was smuggled in is told from those.
OF_CHANCE = {"secret", "key", "payload", "object_id", "password"}
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


def every_table() -> dict[str, list[str]]:
    """Every row of every table, whether the application has a model for it or not."""
    with connection.cursor() as cursor:
        return {table: rows_of(cursor, table) for table in connection.introspection.table_names(cursor)}


def rows_of(cursor: Any, table: str) -> list[str]:
    cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
    return sorted(map(repr, cursor.fetchall()))


def but_for_chance() -> dict[str, list[str]]:
    """Every row of every model, without what differs whenever the same is done again: times, random keys, sessions."""
    return {
        model._meta.label: sorted(
            repr({name: unless_of_chance(name, value) for name, value in row.items()})
            for row in model._base_manager.values()
        )
        for model in apps.get_models()
        if model is not Session
    }


def unless_of_chance(name: str, value: Any) -> Any:
    if value in SMUGGLED.values() or not (name in OF_CHANCE or isinstance(value, datetime | UUID)):
        return value
    return type(value).__name__


def every_column() -> Iterator[tuple[str, Any]]:
    """Each name that a column of ours goes by, with a value that it would take: the same name in several models
    comes several times, and at last as a batch has it."""
    for model in sorted(apps.get_app_config("batches").get_models(), key=lambda model: model is Batch):
        for field in model._meta.concrete_fields:
            for name in dict.fromkeys((field.name, field.attname)):
                yield name, smuggled(field)
        yield from ((relation.get_accessor_name(), [NUMBER]) for relation in model._meta.related_objects)


def smuggled(field: "Field[Any, Any]") -> Any:
    if field.related_model is not None:
        return key_of(field.related_model)
    if field.choices:
        return list(field.choices)[-1][0]
    value = SMUGGLED.get(field.get_internal_type(), NUMBER)
    return value if isinstance(value, bool | float | int) else str(value)


def key_of(model: type[Model]) -> Any:
    row = model._base_manager.first()
    assert row is not None, f"There is no {model.__name__} that could be referred to."
    return str(row.pk) if model is Batch else row.pk
