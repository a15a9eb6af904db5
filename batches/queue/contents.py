"""The rows of a batch: put in, copied, counted, and removed. Without the queue's lock."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
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
from .sql import PROFILE, ROW, as_json, execute, field, json_rows, now, time_parameter, uuid_parameter

#: Rows per statement when a batch is stored: long enough to be fast, short enough for memory.
INSERT_CHUNK = 10_000
#: Rows deleted per transaction, so that deleting a batch of a million rows holds nobody up.
DELETE_CHUNK = 10_000


#: A row of a batch as it was before its check.
UNCHECKED: dict[str, Any] = {
    "status": BatchProfile.Status.PENDING,
    "error": "",
    "http_status": None,
    "duration": None,
    "has_story": False,
    "checked_at": None,
}

#: The counters of a batch of which nothing is checked.
COUNTERS_AT_ZERO: dict[str, Any] = {
    "completed_profiles": 0,
    "successful_checks": 0,
    "failed_checks": 0,
    "stories_found": 0,
}


def insert_batch(batch: Batch) -> None:
    """Raises Refused if its id is taken: by a batch that exists, or by a deleted one whose rows are not all gone."""
    try:
        with transaction.atomic():
            batch.save(force_insert=True)
    except IntegrityError as error:
        other = Batch.everything.filter(pk=batch.pk).first()
        if other is None:
            raise
        raise Refused(Code.ALREADY_EXISTS, f"“{other}” already has this ID. Nothing was added.") from error


def names_by_url(profiles: Iterable[ProfileAddress | Profile | str]) -> dict[str, str]:
    """Names by normalised address, in the order of first appearance."""
    names: dict[str, str] = {}
    for profile in profiles:
        url, name = (_address(profile), "") if isinstance(profile, str) else (profile.url, profile.name)
        names[url] = names.get(url) or clean_text(name, MAX_NAME)
    return names


def _address(text: str) -> str:
    try:
        return normalise_address(text)
    except InvalidAddress as error:
        raise Refused(
            Code.BAD_VALUE, f"{clean_text(text, MAX_QUOTE)!r} is not a valid profile address: {error}"
        ) from error


def insert_profiles(profiles: Collection[tuple[str, str]]) -> None:
    """Store the (url, name) pairs that are not known yet.

    In the order of the addresses, so that two imports that share some wait for each other instead of deadlocking.
    """
    with _all_the_time_of_a_lock():
        for chunk in _chunks(sorted(profiles)):
            execute(
                f"""INSERT INTO {PROFILE}
                           (url, name, feed_url, etag, last_modified, fingerprint, last_error, created_at)
                    SELECT {field(0)}, {field(1)}, '', '', '', '', '', {time_parameter()}
                      FROM {json_rows()} WHERE true
                        ON CONFLICT (url) DO NOTHING""",
                [now(), as_json(chunk)],
            )


@contextmanager
def _all_the_time_of_a_lock() -> Iterator[None]:
    """An import of a million addresses takes longer than the time-out of PostgreSQL's locks; who shares some waits."""
    if connection.vendor == "postgresql":
        execute("SET LOCAL lock_timeout = 0", [])
    yield
    if connection.vendor == "postgresql":
        execute("SET LOCAL lock_timeout TO DEFAULT", [])


def insert_batch_profiles(batch_id: uuid.UUID, urls: Iterable[str]) -> int:
    """Give the batch a pending row for each of these known addresses, in this order. Returns how many."""
    inserted = 0
    for chunk in _chunks(urls):
        numbered = [(number, url) for number, url in enumerate(chunk)]
        inserted += execute(
            f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
                SELECT %s, profile.id, 'pending', '', false
                  FROM (SELECT {field(0, "int")} AS number, {field(1)} AS url FROM {json_rows()}) AS wanted
                  JOIN {PROFILE} AS profile ON profile.url = wanted.url
                 ORDER BY wanted.number""",
            [uuid_parameter(batch_id), as_json(numbered)],
        )
    return inserted


def insert_chosen_profiles(batch_id: uuid.UUID, profiles: QuerySet[Profile]) -> int:
    """Give the batch a pending row for each of these known profiles, oldest first. Returns how many.

    Read and stored by one statement: what matches at this moment is what goes in. What a join finds twice goes in once,
    by the unique constraint: DISTINCT took half as long again on SQLite. 1.5 million took 13 s on SQLite and 26 on
    PostgreSQL; a million as Python's objects took 89 and 46, and 1 GB.
    """
    try:
        chosen, parameters = profiles.values("pk").query.sql_with_params()
    except EmptyResultSet:  # Django knows without asking that none matches
        return 0
    return execute(
        f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
            WITH chosen (id) AS ({chosen})
            SELECT %s, id, 'pending', '', false FROM chosen WHERE true ORDER BY id
                ON CONFLICT (profile_id, batch_id) DO NOTHING""",
        [*parameters, uuid_parameter(batch_id)],
    )


def count_known(urls: Iterable[str]) -> int:
    """How many of these addresses, each given once, are profiles already."""
    return sum(_count_known(chunk) for chunk in _chunks(urls))


def _count_known(urls: Sequence[str]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT COUNT(*) FROM (SELECT {field(0)} AS url FROM {json_rows()}) AS wanted
                 WHERE EXISTS (SELECT 1 FROM {PROFILE} AS profile WHERE profile.url = wanted.url)""",
            [as_json([[url] for url in urls])],
        )
        return int(cursor.fetchone()[0])


def copy_batch_profiles(source: uuid.UUID, target: uuid.UUID) -> int:
    """Give batch `target` a pending row for each profile of batch `source`. Returns how many."""
    return execute(
        f"""INSERT INTO {ROW} (batch_id, profile_id, status, error, has_story)
            SELECT %s, profile_id, 'pending', '', false FROM {ROW} WHERE batch_id = %s ORDER BY id""",
        [uuid_parameter(target), uuid_parameter(source)],
    )


def purge_rows(batch_id: uuid.UUID) -> None:
    """Remove the rows of a deleted batch, in transactions of a bounded size; its stories stay without a batch."""
    rows = BatchProfile.objects.filter(batch=batch_id)
    stories = StoryResult.objects.filter(batch=batch_id)
    while (last := _end_of_chunk(rows)) is not None:
        rows.filter(pk__lte=last).delete()
    while (last := _end_of_chunk(stories)) is not None:
        stories.filter(pk__lte=last).update(batch=None)


def _end_of_chunk(rows: QuerySet[Any]) -> int | None:
    ids = list(rows.order_by("pk").values_list("pk", flat=True)[:DELETE_CHUNK])
    return ids[-1] if ids else None


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, INSERT_CHUNK)):
        yield chunk
