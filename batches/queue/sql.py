"""The few statements that go past the ORM's objects, because a measurement asked for it.

A run records hundreds of results at a time. Through the ORM's objects that cost half of the speed of fetching and
parsing; one statement for the whole chunk costs a quarter of that. Each statement here reads its rows from a single
JSON parameter, which both databases unfold into a table, so that one SQL text serves both.

This module has what such statements share: how the JSON becomes rows in the two dialects of SQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from batches.models import Batch, BatchProfile, Profile, StoryResult

PROFILE = Profile._meta.db_table
ROW = BatchProfile._meta.db_table
STORY = StoryResult._meta.db_table
BATCH = Batch._meta.db_table

TYPES = {"text": "text", "int": "bigint", "bool": "boolean", "float": "double precision"}


def json_rows() -> str:
    return "json_array_elements(%s::json)" if connection.vendor == "postgresql" else "json_each(%s)"


def field(index: int, kind: str = "text") -> str:
    if connection.vendor == "postgresql":
        return f"CAST(value->>{index} AS {'timestamptz' if kind == 'time' else TYPES[kind]})"
    # SQLite keeps a time as text: a cast to a type of that name would make a number of it.
    return f"CAST(json_extract(value, '$[{index}]') AS {'text' if kind == 'time' else TYPES[kind]})"


def time_parameter() -> str:
    return "CAST(%s AS timestamptz)" if connection.vendor == "postgresql" else "%s"


def times(moments: Iterable[datetime | None]) -> list[str | None]:
    """Times as the database's own text, for use inside JSON.

    As the backend's adapter writes them, without its look-ups for each: they took a fifth of recording.
    """
    has_offsets = connection.vendor == "postgresql"
    texts = (None if moment is None else moment.astimezone(UTC).isoformat(" ") for moment in moments)
    return [text if text is None or has_offsets else text.removesuffix("+00:00") for text in texts]


def now() -> str | None:
    return times([timezone.now()])[0]


def uuid_parameter(batch_id: UUID) -> Any:
    return Batch._meta.pk.get_db_prep_value(batch_id, connection)


def as_json(rows: Sequence[Sequence[Any]]) -> str:
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False)


def execute(sql: str, parameters: Sequence[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)
