"""The rows of a batch: inserted, copied, reset and removed. None of this needs the queue's lock."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet

from batches.limits import MAX_NAME, MAX_QUOTE
from batches.lists.addresses import InvalidAddress, normalise_address
from batches.lists.imports import ProfileAddress
from batches.models import Batch, BatchProfile, Profile, StoryResult
from batches.text import clean_text

from .refusals import Code, Refused
from .sql import PROFILE, ROW, as_json, execute, fetch_all, json_table, now, time_parameter, uuid_parameter

#: Rows per statement when a batch is stored: a compromise between speed and memory.
INSERT_CHUNK = 10_000
#: Rows deleted per transaction, so that deleting a batch of a million rows blocks nobody.
DELETE_CHUNK = 10_000

NUMBERED_URL = {"number": "bigint", "url": "text"}

#: A row as it was before its check.
UNCHECKED: dict[str, Any] = {
    "status": BatchProfile.Status.PENDING,
    "error": "",
    "http_status": None,
    "duration": None,
    "has_story": False,
    "checked_at": None,
}

#: The counters of a batch without any result.
COUNTERS_AT_ZERO: dict[str, Any] = {
    "completed_profiles": 0,
    "successful_checks": 0,
    "failed_checks": 0,
    "stories_found": 0,
}


def insert_batch(batch: Batch) -> None:
    """Raises Refused if the ID is taken, also by a deleted batch whose rows are not removed yet."""
    try:
        with transaction.atomic():
            batch.save(force_insert=True)
    except IntegrityError as error:
        other = Batch.everything.filter(pk=batch.pk).first()
        if other is None:
            raise
        raise Refused(Code.ALREADY_EXISTS, f"“{other}” already has this ID. Nothing was added.") from error


def collect_names(profiles: Iterable[ProfileAddress | Profile | str]) -> dict[str, str]:
    """Names by normalised address, in the order of first appearance."""
    names: dict[str, str] = {}
    for profile in profiles:
        url, name = (_normalise(profile), "") if isinstance(profile, str) else (profile.url, profile.name)
        names[url] = names.get(url) or clean_text(name, MAX_NAME)
    return names


def _normalise(text: str) -> str:
    try:
        return normalise_address(text)
    except InvalidAddress as error:
        message = f"{clean_text(text, MAX_QUOTE)!r} is not a valid profile address: {error}"
        raise Refused(Code.BAD_VALUE, message) from error


def insert_profiles(names: Mapping[str, str]) -> None:
    """Store the profiles that are not known yet, given as names by address.

    In the order of the addresses, so that two imports with common addresses wait for each other instead of deadlocking.
    """
    with _without_lock_timeout():
        for chunk in _chunks(sorted(names.items())):
            execute(
                f"""INSERT INTO {PROFILE}
                           (url, name, feed_url, etag, last_modified, fingerprint, last_error, created_at)
                    SELECT url, name, '', '', '', '', '', {time_parameter()}
                      FROM {json_table({"url": "text", "name": "text"})} AS profile WHERE true
                        ON CONFLICT (url) DO NOTHING""",
                [now(), as_json(chunk)],
            )


@contextmanager
def _without_lock_timeout() -> Iterator[None]:
    """A parallel import with common addresses has to wait, and a million addresses take longer than the timeout."""
    if connection.vendor == "postgresql":
        execute("SET LOCAL lock_timeout = 0", [])
    yield
    if connection.vendor == "postgresql":
        execute("SET LOCAL lock_timeout TO DEFAULT", [])


def insert_batch_profiles(batch_id: uuid.UUID, urls: Iterable[str]) -> int:
    """Insert a pending row for each of these known addresses, in this order. Returns the number of rows."""
    return sum(
        execute(
            f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
                SELECT %s, profile.id, 'pending', '', false
                  FROM {json_table(NUMBERED_URL)} AS wanted
                  JOIN {PROFILE} AS profile ON profile.url = wanted.url
                 ORDER BY wanted.number""",
            [uuid_parameter(batch_id), as_json(chunk)],
        )
        for chunk in _chunks(enumerate(urls))
    )


def insert_selected_profiles(batch_id: uuid.UUID, profiles: QuerySet[Profile]) -> int:
    """Insert a pending row for each profile of the queryset, oldest first. Returns the number of rows.

    A single statement reads and inserts, so the rows are exactly those that match now. The unique constraint removes
    the duplicates of a join: DISTINCT took half as long again on SQLite. 1.5 million profiles took 13 s on SQLite and
    26 s on PostgreSQL; a million as Python objects took 89 s and 46 s, and 1 GB.
    """
    try:
        selected, parameters = profiles.values("pk").query.sql_with_params()
    except EmptyResultSet:  # Django knows without a query that none matches
        return 0
    return execute(
        f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
            WITH selected (id) AS ({selected})
            SELECT %s, id, 'pending', '', false FROM selected WHERE true ORDER BY id
                ON CONFLICT (profile_id, batch_id) DO NOTHING""",
        [*parameters, uuid_parameter(batch_id)],
    )


def count_known(urls: Iterable[str]) -> int:
    """How many of these different addresses are known profiles."""
    statement = f"""SELECT COUNT(*) FROM {json_table(NUMBERED_URL)} AS wanted
                     WHERE EXISTS (SELECT 1 FROM {PROFILE} AS profile WHERE profile.url = wanted.url)"""
    return sum(fetch_all(statement, [as_json(chunk)])[0][0] for chunk in _chunks(enumerate(urls)))


def copy_batch_profiles(source: uuid.UUID, target: uuid.UUID) -> int:
    """Insert a pending row into `target` for each row of `source`. Returns the number of rows."""
    return execute(
        f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
            SELECT %s, profile_id, 'pending', '', false FROM {ROW} WHERE batch_id = %s ORDER BY id""",
        [uuid_parameter(target), uuid_parameter(source)],
    )


def purge_rows(batch_id: uuid.UUID) -> None:
    """Remove the rows of a deleted batch in bounded transactions. Its stories stay, without a batch."""
    rows = BatchProfile.objects.filter(batch=batch_id)
    stories = StoryResult.objects.filter(batch=batch_id)
    while (last := _find_chunk_end(rows)) is not None:
        rows.filter(pk__lte=last).delete()
    while (last := _find_chunk_end(stories)) is not None:
        stories.filter(pk__lte=last).update(batch=None)


def _find_chunk_end(rows: QuerySet[Any]) -> int | None:
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:DELETE_CHUNK])
    return ids[-1] if ids else None


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, INSERT_CHUNK)):
        yield chunk
