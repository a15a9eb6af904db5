"""Columns of a batch that each of its workers counts in its own lease while the batch runs."""

from typing import Any

from django.db import models
from django.db.models.sql.compiler import SQLCompiler


class _CountedInLeases(models.Field):  # type: ignore[type-arg]
    """Each SELECT of the column adds the counts of the leases to the stored value, in one statement.

    If workers recorded into the row of the batch, each would wait for the COMMIT of the others. So each counts in its
    own lease (`counted` is the SQL for its part), and a lease that ends adds its counts to the row. Conditions and
    updates see only the stored value: while a batch runs, use them under the lock of its leases.
    """

    def __init__(self, *args: Any, counted: str = "", **options: Any) -> None:
        self.counted = counted
        super().__init__(*args, **options)

    def deconstruct(self) -> Any:
        """For migrations, which deal with the stored value, it is a plain column."""
        name, _, args, options = super().deconstruct()
        return name, f"django.db.models.{self.get_internal_type()}", args, options

    def select_format(self, compiler: SQLCompiler, sql: str, params: Any) -> Any:
        """Django calls this for the columns of a SELECT. Aggregates of the column are not changed."""
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
