"""Columns of a batch that its workers count apart while it runs, each in its own lease."""

from typing import Any

from django.db import models
from django.db.models.sql.compiler import SQLCompiler


class _CountedInLeases(models.Field):  # type: ignore[type-arg]
    """Each SELECT of the column reads what is stored plus what the leases have counted since, in one statement.

    If workers recorded into the row of the batch, each would wait for the COMMIT of the others. So each counts in its
    own lease (`counted` says in SQL what), and a lease that ends adds its counts to the row. Conditions and updates see
    what is stored only: while a batch runs, use them under the lock of its leases.
    """

    def __init__(self, *args: Any, counted: str = "", **options: Any) -> None:
        self.counted = counted
        super().__init__(*args, **options)

    def deconstruct(self) -> Any:
        """For migrations, which deal with what is stored, it is a plain column."""
        name, _, args, options = super().deconstruct()
        return name, f"django.db.models.{self.get_internal_type()}", args, options

    def select_format(self, compiler: SQLCompiler, sql: str, params: Any) -> Any:
        """Django calls this for what a SELECT returns. An aggregate of the column stays as it is."""
        table, _, column = sql.rpartition(".")
        if "(" in table or column != compiler.connection.ops.quote_name(str(self.column)):
            return sql, params
        counted = f"SELECT {self.counted} FROM batches_lease AS lease WHERE lease.batch_id = {table}.id"  # noqa: S608
        return f"({sql} + CASE WHEN {table}.status = 'running' THEN COALESCE(({counted}), 0) ELSE 0 END)", params


def is_live(field: object) -> bool:
    """Whether the leases add to this column."""
    return isinstance(field, _CountedInLeases)


class LiveCount(_CountedInLeases, models.PositiveIntegerField):  # type: ignore[type-arg]
    """A number that the leases add to."""


class LiveSeconds(_CountedInLeases, models.FloatField):  # type: ignore[type-arg]
    """Seconds that the leases add to."""
