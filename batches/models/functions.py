"""Database functions that Django lacks, for both databases."""

from typing import Any

from django.db import models
from django.db.models import F
from django.db.models.expressions import OrderBy


class SecondsSince(models.Func):
    """Seconds from a time to now by the database's clock, from 0 to `at_most`; 0 for NULL."""

    output_field = models.FloatField()

    def __init__(self, moment: str, *, at_most: float) -> None:
        super().__init__(F(moment), models.Value(at_most, models.FloatField()))

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "COALESCE(MIN(MAX((julianday('now') - julianday(%(moment)s)) * 86400.0, 0.0), %(at_most)s), 0.0)"
        return self._as_sql(compiler, template)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        seconds = "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - %(moment)s)::float8"
        template = f"CASE WHEN %(moment)s IS NULL THEN 0 ELSE LEAST(GREATEST({seconds}, 0), %(at_most)s) END"
        return self._as_sql(compiler, template)

    def _as_sql(self, compiler: Any, template: str) -> Any:
        moment, at_most = (compiler.compile(expression) for expression in self.source_expressions)
        return template % {"moment": moment[0], "at_most": at_most[0]}, (*moment[1], *at_most[1])


class Minute(models.Func):
    """The UTC minute of a time. Django's TruncMinute calls Python for each row on SQLite: 6.5 s for a million."""

    output_field = models.DateTimeField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="SUBSTR(%(expressions)s, 1, 16)")

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="DATE_TRUNC('minute', %(expressions)s)")


class HostOf(models.Func):
    """The host of a normalised address, with its port if it has one: see `lists.addresses.host_of`."""

    output_field = models.CharField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        behind = "SUBSTR(%(expressions)s, INSTR(%(expressions)s, '://') + 3)"
        template = f"SUBSTR({behind}, 1, INSTR({behind} || '/', '/') - 1)"
        return self.as_sql(compiler, connection, template=template)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="SPLIT_PART(%(expressions)s, '/', 3)")


class ByBytes(OrderBy):
    """Ascending in the order of bytes, as SQLite compares texts: the order of PostgreSQL's index for prefixes.

    The collation of the database has another order. No index for it could find the addresses of a host.
    """

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        # Django requires a direction, which the operator already has.
        return self.as_sql(compiler, connection, template="%(expression)s USING ~<~ /* %(ordering)s */")
