"""The few statements that go past the ORM's objects, because a measurement asked for it.

A run records hundreds of results at a time. Through the ORM's objects that cost half of the speed of fetching and
parsing; one statement for the whole chunk costs a quarter of that. Each statement here reads its rows from a single
JSON parameter, which both databases unfold into a table, so that one SQL text serves both.

Nothing here decides anything: `batch_manager` calls these inside its transactions.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from .models import Batch, BatchProfile, Profile, StoryResult

#: Rows per statement when a batch is stored: long enough to be fast, short enough for memory.
INSERT_CHUNK = 10_000

PROFILE = Profile._meta.db_table
ROW = BatchProfile._meta.db_table
STORY = StoryResult._meta.db_table
BATCH = Batch._meta.db_table

TYPES = {"text": "text", "int": "bigint", "bool": "boolean", "float": "double precision"}


def insert_profiles(profiles: Collection[tuple[str, str]]) -> None:
    """Store the (url, name) pairs that are not known yet.

    In the order of the addresses, so that two imports that share some wait for each other instead of deadlocking.
    """
    with _all_the_time_of_a_lock():
        for chunk in _chunks(sorted(profiles)):
            _execute(
                f"""INSERT INTO {PROFILE}
                           (url, name, feed_url, etag, last_modified, fingerprint, last_error, created_at)
                    SELECT {_field(0)}, {_field(1)}, '', '', '', '', '', {_time_parameter()}
                      FROM {_rows()} WHERE true
                        ON CONFLICT (url) DO NOTHING""",
                [_now(), _json(chunk)],
            )


@contextmanager
def _all_the_time_of_a_lock() -> Iterator[None]:
    """An import of a million addresses takes longer than the time-out of PostgreSQL's locks; who shares some waits."""
    if connection.vendor == "postgresql":
        _execute("SET LOCAL lock_timeout = 0", [])
    yield
    if connection.vendor == "postgresql":
        _execute("SET LOCAL lock_timeout TO DEFAULT", [])


def insert_batch_profiles(batch_id: UUID, urls: Iterable[str]) -> int:
    """Give the batch a pending row for each of these known addresses, in this order. Returns how many."""
    inserted = 0
    for chunk in _chunks(urls):
        numbered = [(number, url) for number, url in enumerate(chunk)]
        inserted += _execute(
            f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
                SELECT %s, profile.id, 'pending', '', false
                  FROM (SELECT {_field(0, "int")} AS number, {_field(1)} AS url FROM {_rows()}) AS wanted
                  JOIN {PROFILE} AS profile ON profile.url = wanted.url
                 ORDER BY wanted.number""",
            [_batch_id(batch_id), _json(numbered)],
        )
    return inserted


def insert_chosen_profiles(batch_id: UUID, profiles: QuerySet[Profile]) -> int:
    """Give the batch a pending row for each of these known profiles, oldest first. Returns how many.

    Read and stored by one statement: what matches at this moment is what goes in. What a join finds twice goes in once,
    by the unique constraint: DISTINCT took half as long again on SQLite. 1.5 million took 13 s on SQLite and 26 on
    PostgreSQL; a million as Python's objects took 89 and 46, and 1 GB.
    """
    try:
        chosen, parameters = profiles.values("pk").query.sql_with_params()
    except EmptyResultSet:  # Django knows without asking that none matches
        return 0
    return _execute(
        f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
            WITH chosen (id) AS ({chosen})
            SELECT %s, id, 'pending', '', false FROM chosen WHERE true ORDER BY id
                ON CONFLICT (profile_id, batch_id) DO NOTHING""",
        [*parameters, _batch_id(batch_id)],
    )


def count_known(urls: Iterable[str]) -> int:
    """How many of these addresses, each given once, are profiles already."""
    return sum(_count_known(chunk) for chunk in _chunks(urls))


def _count_known(urls: Sequence[str]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT COUNT(*) FROM (SELECT {_field(0)} AS url FROM {_rows()}) AS wanted
                 WHERE EXISTS (SELECT 1 FROM {PROFILE} AS profile WHERE profile.url = wanted.url)""",
            [_json([[url] for url in urls])],
        )
        return int(cursor.fetchone()[0])


def copy_batch_profiles(source: UUID, target: UUID) -> int:
    """Give batch `target` a pending row for each profile of batch `source`. Returns how many."""
    return _execute(
        f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
            SELECT %s, profile_id, 'pending', '', false FROM {ROW} WHERE batch_id = %s ORDER BY id""",
        [_batch_id(target), _batch_id(source)],
    )


def pending_rows(batch_id: UUID, profile_ids: Iterable[int]) -> dict[int, int]:
    """The rows of these profiles that still wait for their result in this batch, by profile id.

    One look into the unique index per profile. As a join, both databases read the whole batch for each profile as long
    as the table has no statistics, as after an import: 13 s for 500 results in a batch of 20,000.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT wanted.profile_id,
                       (SELECT row.id FROM {ROW} AS row
                         WHERE row.profile_id = wanted.profile_id AND row.batch_id = %s AND row.status = 'pending')
                  FROM (SELECT {_field(0, "int")} AS profile_id FROM {_rows()}) AS wanted""",
            [_batch_id(batch_id), _json([[profile_id] for profile_id in profile_ids])],
        )
        return {profile_id: row_id for profile_id, row_id in cursor.fetchall() if row_id is not None}


def insert_stories(batch_id: UUID, stories: Sequence[tuple[int, str, str, str, datetime | None]]) -> list[int]:
    """Store the (profile_id, story_id, title, url, published) that are new. Returns a profile id for each new one."""
    published = _times(story[-1] for story in stories)
    rows = [(*story[:-1], time) for story, time in zip(stories, published, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {STORY} (batch_id, profile_id, story_id, title, url, published_at, found_at)
                SELECT %s, {_field(0, "int")}, {_field(1)}, {_field(2)}, {_field(3)}, {_field(4, "time")},
                       {_time_parameter()}
                  FROM {_rows()} WHERE true
                    ON CONFLICT (profile_id, story_id) DO NOTHING
             RETURNING profile_id""",
            [_batch_id(batch_id), _now(), _json(rows)],
        )
        return [profile_id for (profile_id,) in cursor.fetchall()]


def update_batch_profiles(results: Sequence[tuple[int, str, str, int | None, float, bool]]) -> None:
    """Write (row_id, status, error, http_status, duration, has_story) into these rows, where they are pending."""
    _execute(
        f"""UPDATE {ROW} AS row
               SET status = result.status, error = result.error, http_status = result.http_status,
                   duration = result.duration, has_story = result.has_story, checked_at = {_time_parameter()}
              FROM (SELECT {_field(0, "int")} AS id, {_field(1)} AS status, {_field(2)} AS error,
                           {_field(3, "int")} AS http_status, {_field(4, "float")} AS duration,
                           {_field(5, "bool")} AS has_story
                      FROM {_rows()}) AS result
             WHERE row.id = result.id AND row.status = 'pending'""",
        [_now(), _json(results)],
    )


Memory = tuple[int, str, str | None, str | None, str | None, str | None, bool]


def update_profiles(memories: Sequence[Memory]) -> None:
    """Write what checks remember: (profile_id, error, feed_url, etag, last_modified, fingerprint, has_story).

    None keeps what is remembered.
    """
    _execute(
        f"""UPDATE {PROFILE} AS profile
               SET last_error = memory.error,
                   feed_url = COALESCE(memory.feed_url, profile.feed_url),
                   etag = COALESCE(memory.etag, profile.etag),
                   last_modified = COALESCE(memory.last_modified, profile.last_modified),
                   fingerprint = COALESCE(memory.fingerprint, profile.fingerprint),
                   last_story_at = CASE WHEN memory.has_story THEN {_time_parameter()} ELSE profile.last_story_at END,
                   last_checked_at = {_time_parameter()}
              FROM (SELECT {_field(0, "int")} AS profile_id, {_field(1)} AS error, {_field(2)} AS feed_url,
                           {_field(3)} AS etag, {_field(4)} AS last_modified, {_field(5)} AS fingerprint,
                           {_field(6, "bool")} AS has_story
                      FROM {_rows()}) AS memory
             WHERE profile.id = memory.profile_id""",
        [_now(), _now(), _json(memories)],
    )


def renumber_queue(detour: int) -> None:
    """Number the queued batches 1..n in the order of their positions, through a range that nobody uses."""
    _execute(
        f"""UPDATE {BATCH} AS batch SET position = numbered.number + %s
              FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY position) AS number
                      FROM {BATCH} WHERE position >= 1) AS numbered
             WHERE batch.id = numbered.id""",
        [detour],
    )
    _execute(f"UPDATE {BATCH} SET position = position - %s WHERE position > %s", [detour, detour])


# The two dialects: how a JSON array of arrays becomes rows, and how a value is taken out of a row.


def _rows() -> str:
    return "json_array_elements(%s::json)" if connection.vendor == "postgresql" else "json_each(%s)"


def _field(index: int, kind: str = "text") -> str:
    if connection.vendor == "postgresql":
        return f"CAST(value->>{index} AS {'timestamptz' if kind == 'time' else TYPES[kind]})"
    # SQLite keeps a time as text: a cast to a type of that name would make a number of it.
    return f"CAST(json_extract(value, '$[{index}]') AS {'text' if kind == 'time' else TYPES[kind]})"


def _time_parameter() -> str:
    return "CAST(%s AS timestamptz)" if connection.vendor == "postgresql" else "%s"


def _times(moments: Iterable[datetime | None]) -> list[str | None]:
    """Times as the database's own text, for use inside JSON.

    As the backend's adapter writes them, without its look-ups for each: they took a fifth of recording.
    """
    has_offsets = connection.vendor == "postgresql"
    texts = (None if moment is None else moment.astimezone(UTC).isoformat(" ") for moment in moments)
    return [text if text is None or has_offsets else text.removesuffix("+00:00") for text in texts]


def _now() -> str | None:
    return _times([timezone.now()])[0]


def _batch_id(batch_id: UUID) -> Any:
    return Batch._meta.pk.get_db_prep_value(batch_id, connection)


def _json(rows: Sequence[Sequence[Any]]) -> str:
    return json.dumps(rows, separators=(",", ":"), ensure_ascii=False)


def _execute(sql: str, parameters: Sequence[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, INSERT_CHUNK)):
        yield chunk
