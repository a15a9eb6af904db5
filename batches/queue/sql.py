"""Helpers for handwritten statements: rows are passed as one JSON parameter, which both databases read as a table.

With the ORM's objects, recording results halved the speed of fetching and parsing; one statement for a whole chunk
takes a quarter of that time.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from batches.models import Batch, BatchProfile, ListProfile, Partition, Profile, StoryResult

T = TypeVar("T")

#: SQLite has no queue of waiting writers. Each tries again after at most 100 ms. So after this many seconds of writing,
#: a pause of this many seconds lets all of them write.
SECONDS_OF_WORK, SECONDS_OF_PAUSE = 0.2, 0.12

#: Rows that are encoded at once.
ROWS_AT_ONCE = 500

PROFILE = Profile._meta.db_table
ROW = BatchProfile._meta.db_table
MEMBER = ListProfile._meta.db_table
STORY = StoryResult._meta.db_table
BATCH = Batch._meta.db_table
PARTITION = Partition._meta.db_table


def json_table(columns: Mapping[str, str]) -> str:
    """A subquery with these columns (SQL types by name). Its one parameter is `as_json` of rows in the same order."""
    fields = ", ".join(f"{_read_field(index, kind)} AS {name}" for index, (name, kind) in enumerate(columns.items()))
    return f"(SELECT {fields} FROM {'json_array_elements(%s::json)' if is_postgresql() else 'json_each(%s)'})"


def _read_field(index: int, kind: str) -> str:
    if is_postgresql():
        return f"CAST(value->>{index} AS {kind})"
    # SQLite stores times and UUIDs as text. A cast to `timestamptz` would make it a number.
    return f"CAST(json_extract(value, '$[{index}]') AS {'text' if kind in {'timestamptz', 'uuid'} else kind})"


def keeping(table: str) -> str:
    """Ends a SELECT of profiles or lists for which rows are then stored, so that nobody deletes one before the COMMIT.

    The COMMIT itself takes the same locks, for the foreign keys. On SQLite, no other transaction can write.
    """
    return f"FOR KEY SHARE OF {table}" if is_postgresql() else ""


def is_postgresql() -> bool:
    return connection.vendor == "postgresql"


def as_json(rows: Sequence[tuple[Any, ...]]) -> str:
    """The rows as JSON, encoded in slices, because the encoder holds Python's lock: 10 MB would block the event loop
    for 0.1 s.
    """
    encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=choose_time_format())
    slices = (encoder.encode(rows[start : start + ROWS_AT_ONCE])[1:-1] for start in range(0, len(rows), ROWS_AT_ONCE))
    return f"[{','.join(slices)}]"


def format_time(moment: datetime) -> str:
    """Format like the database's adapter, but without its lookups for each value, which took a fifth of the recording
    time.
    """
    return choose_time_format()(moment)


def choose_time_format() -> Callable[[datetime], str]:
    left_out = "" if is_postgresql() else "+00:00"
    return lambda moment: str(moment.astimezone(UTC)).removesuffix(left_out)


def now() -> str:
    """The value of a `time_parameter`."""
    return format_time(timezone.now())


def read_time(text: str | None) -> datetime | None:
    """A time in JSON from the database. SQLite stores times in UTC, without an offset."""
    moment = datetime.fromisoformat(text) if text else None
    return moment and (moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def time_parameter() -> str:
    return "CAST(%s AS timestamptz)" if is_postgresql() else "%s"


def uuid_parameter(batch_id: UUID) -> Any:
    return Batch._meta.pk.get_db_prep_value(batch_id, connection)


def execute(sql: str, parameters: Sequence[Any]) -> int:
    """Execute a statement. Returns the number of written rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def fetch_all(sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def fetch_at_once(sql: str, parameters: Sequence[Any], width: int) -> list[Any]:
    """The rows of a SELECT of `width` columns with numbers and texts, in any order.

    SQLite returns them as one: after each row, the thread would wait until the event loop releases Python's lock.
    """
    if is_postgresql():
        return list(fetch_all(sql, parameters))
    names = ", ".join(f"c{number}" for number in range(width))
    as_one = f"WITH found({names}) AS ({sql}) SELECT json_group_array(json_array({names})) FROM found"
    return list(json.loads(fetch_all(as_one, parameters)[0][0]))


@contextmanager
def postgresql_setting(name: str, value: str) -> Iterator[None]:
    """A block of a transaction in which PostgreSQL has this setting."""
    if not is_postgresql():
        yield
        return
    with transaction.atomic(savepoint=False):
        execute(f"SET LOCAL {name} = {value}", [])
        yield
        execute(f"SET LOCAL {name} TO DEFAULT", [])


def reading_in_order() -> AbstractContextManager[None]:
    """A block that reads pages in the order of their index.

    Without statistics, as after the first import, PostgreSQL expects few rows, and would read and sort the whole batch
    for each page: 4 to 60 s for a million rows.
    """
    return postgresql_setting("enable_sort", "off")


def paced(chunks: Iterable[T]) -> Iterator[T]:
    """Yield each chunk, for a separate transaction, and let others write in between on SQLite."""
    for chunk in chunks:
        with taking_turns(cut_log=True):
            yield chunk


@contextmanager
def taking_turns(*, cut_log: bool = False) -> Iterator[None]:
    """Wraps one of many transactions: after some of them, the caller pauses, so that others can write on SQLite.

    `cut_log`: the write-ahead log would grow with all of these transactions.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    began = time.monotonic()
    if began - _turn.ended > SECONDS_OF_PAUSE:
        _turn.seconds = 0.0
    yield
    ended = time.monotonic()
    _turn.seconds += ended - max(began, _turn.ended)  # without the turns in the block
    if _turn.seconds > SECONDS_OF_WORK:
        if cut_log:
            fetch_all("PRAGMA wal_checkpoint(PASSIVE)", [])  # others can write during it
        time.sleep(max(0.0, ended + SECONDS_OF_PAUSE - time.monotonic()))
        _turn.seconds = 0.0
    _turn.ended = time.monotonic()


class _Turn(threading.local):
    """The seconds for which this thread has written since its last pause, and the end of its last turn."""

    seconds = 0.0
    ended = 0.0


_turn = _Turn()
