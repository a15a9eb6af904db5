"""The rows of a batch or a list: inserted and removed in bounded transactions. None of this needs the queue's lock.

Nobody sees a new batch or list until all its rows are stored. Until then its `deleted_at` is in the future, and each
chunk extends it. If the import is interrupted, that time passes, and its rows are purged as after a deletion.
The stored profiles are kept, as after a deletion: other batches may contain them.
"""

import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from batches.lists.addresses import InvalidAddress
from batches.lists.imports import ProfileAddress, collect_names
from batches.models import (
    COUNTER_OF,
    Attempt,
    Batch,
    BatchProfile,
    ListProfile,
    Profile,
    ProfileList,
    Queue,
    StoryResult,
    owned,
)
from batches.text import Sentence

from .partitions import partition_of
from .refusals import Code, Refused
from .sql import (
    PROFILE,
    ROW,
    as_json,
    execute,
    fetch_all,
    json_table,
    keeping,
    now,
    paced,
    postgresql_setting,
    reading_in_order,
    time_parameter,
    uuid_parameter,
)
from .values import find_list

#: The profiles of a batch or a list, from a caller: addresses, perhaps with names, or known profiles.
Profiles = Iterable[ProfileAddress | Profile | str]
#: Begins each of many transactions. Raises Refused if the caller was interrupted for too long to continue.
Fence = Callable[[], None]

#: Rows per transaction when a batch is stored, in 0.1 s. On SQLite, others wait for 0.9 s at times with 10,000.
INSERT_CHUNK = 2_500
#: Time after its last chunk after which an import counts as interrupted. A chunk can wait 20 s for a lock.
PREPARATION = timedelta(minutes=10)
#: Rows deleted per transaction, so that deleting a batch of a million rows blocks nobody.
DELETE_CHUNK = 10_000
#: Deleted batches that are removed under one lock, after their rows.
PURGE_CHUNK = 100

NUMBERED_URL = {"number": "bigint", "url": "text"}
NUMBERED_ID = {"number": "bigint", "id": "bigint"}
NEW_ROW = {"number": "bigint", "profile_id": "bigint", "partition": "integer"}

#: The values of a row before its check.
UNCHECKED: dict[str, Any] = {
    "status": BatchProfile.Status.PENDING,
    "error": "",
    "http_status": None,
    "duration": None,
    "has_story": False,
    "checked_at": None,
}

#: The counters of a batch without any result.
COUNTERS_AT_ZERO: dict[str, Any] = dict.fromkeys(["completed_profiles", *COUNTER_OF.values(), "stories_found"], 0)


@contextmanager
def hidden(made: Batch | ProfileList) -> Iterator[None]:
    """Insert a hidden object. If the block does not reveal it, purge it; after a kill, a worker purges it.

    Raises Refused if the ID is taken.
    """
    insert_hidden(made)
    try:
        yield
    except BaseException:  # Ctrl-C too
        with suppress(DatabaseError):
            abandon(made)
        raise
    if made.deleted_at is not None:
        abandon(made)


def abandon(made: Batch | ProfileList) -> None:
    type(made).everything.in_preparation().filter(pk=made.pk).update(deleted_at=Now())
    transaction.on_commit(purge_deleted)


def insert_hidden(made: Batch | ProfileList) -> None:
    """Raises Refused if the ID is taken, even by a hidden object."""
    if isinstance(made, Batch):
        made.status = Batch.Status.PAUSED
    made.deleted_at = Now() + PREPARATION  # the clock of the database, as for a lease
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError as error:
        other = type(made).everything.filter(pk=made.pk).first()
        if other is None:
            if isinstance(made, Batch) and made.list_id is not None:
                find_list(made.list_id)  # deleted since it was read
            raise
        message = Sentence("“%(other)s” already has this ID. Nothing was added.", other=other)
        raise Refused(Code.ALREADY_EXISTS, message) from error


def stay_hidden(made: Batch | ProfileList) -> None:
    """The fence of imports: one that was interrupted until its rows may have been purged cannot continue."""
    unseen = type(made).everything.in_preparation().filter(pk=made.pk)
    require_preparation(unseen.update(deleted_at=Now() + PREPARATION))


def require_preparation(updated: int) -> None:
    if not updated:
        raise Refused(Code.FENCED, Sentence("Storing the rows was interrupted for too long. Add them again."))


def clean_profiles(profiles: Profiles) -> Mapping[str, str]:
    """Names by normalised address, in the order of first appearance. Raises Refused."""
    try:
        return collect_names(profiles)
    except InvalidAddress as error:
        raise Refused(Code.BAD_VALUE, str(error)) from error


def prepare_rows(profiles: Profiles) -> Callable[[Batch], int]:
    """A function that stores a pending row for each profile in a hidden batch, and returns the number of rows.

    Addresses are read at once; raises Refused if one is invalid. A queryset is read when the rows are stored.
    """
    if isinstance(profiles, QuerySet):
        return partial(_insert_selected, profiles)
    return partial(_insert_addresses, clean_profiles(profiles))


def insert_profiles(names: Mapping[str, str], fence: Fence = lambda: None) -> None:
    """Store the unknown profiles, given as names by address.

    They get IDs in the order of the list, so that rows of the list, in this and in later batches, come close together
    in the indexes by profile. Otherwise each chunk of rows writes pages all over them: twice the time on SQLite.

    A transaction stores them sorted, so that imports with common addresses wait for each other instead of deadlocking.
    """
    statement = f"""INSERT INTO {PROFILE}
                           (url, name, feed_url, etag, last_modified, fingerprint, last_error, created_at)
                    SELECT url, name, '', '', '', '', '', {time_parameter()}
                      FROM {json_table({"url": "text", "name": "text"})} AS profile WHERE true
                        ON CONFLICT (url) DO NOTHING"""

    def store(chunk: list[Any]) -> int:
        # Let parallel imports with common addresses wait: a transaction of the caller can be long.
        with postgresql_setting("lock_timeout", "0"):
            return execute(statement, [now(), as_json(sorted(chunk))])

    is_one_transaction = connection.in_atomic_block
    store_chunks(sorted(names.items()) if is_one_transaction else names.items(), store, fence)


def _insert_addresses(names: Mapping[str, str], batch: Batch) -> int:
    insert_profiles(names, partial(stay_hidden, batch))
    return _insert_rows(batch, f"{json_table(NUMBERED_URL)} AS wanted JOIN {PROFILE} AS profile USING (url)", names)


def _insert_selected(profiles: QuerySet[Profile], batch: Batch) -> int:
    """Oldest first."""
    selected = Profile.objects.filter(pk__in=profiles.values("pk")).order_by("pk")
    return _insert_known(batch, selected.values_list("pk", flat=True))


def copy_profiles(source: Batch, batch: Batch) -> int:
    """Store a pending row in a hidden batch for each row of `source`, or for each profile that its list has now."""
    if source.list_id:
        return copy_list_profiles(source.list_id, batch)
    rows = BatchProfile.objects.filter(batch=source).order_by("pk")
    return _insert_known(batch, rows.values_list("profile_id", flat=True))


def copy_list_profiles(source: uuid.UUID, batch: Batch) -> int:
    """Store a pending row in a hidden batch for each profile that is in the list now. Returns the number of rows."""
    members = ListProfile.objects.filter(list=source).order_by("pk")
    return _insert_known(batch, members.values_list("profile_id", flat=True))


def _insert_known(batch: Batch, profile_ids: QuerySet[Any, int]) -> int:
    """Insert rows for the matching profiles.

    All IDs are read at once, so that they match at one moment: eight bytes each.
    """
    wanted = array("q", profile_ids.iterator())
    return _insert_rows(batch, f"{json_table(NUMBERED_ID)} AS wanted JOIN {PROFILE} AS profile USING (id)", wanted)


def _insert_rows(batch: Batch, wanted_profiles: str, wanted: Iterable[Any]) -> int:
    find = f"""SELECT wanted.number, profile.id, COALESCE(NULLIF(profile.feed_url, ''), profile.url)
                 FROM {wanted_profiles} {keeping("profile")}"""
    insert = f"""INSERT INTO {ROW} (batch_id, profile_id, partition, status, error, has_story)
                 SELECT %s, row.profile_id, row.partition, 'pending', '', false
                   FROM {json_table(NEW_ROW)} AS row ORDER BY row.number"""

    def store(chunk: list[Any]) -> int:
        rows = [(number, pk, partition_of(address)) for number, pk, address in fetch_all(find, [as_json(chunk)])]
        return execute(insert, [uuid_parameter(batch.pk), as_json(rows)])

    return store_chunks(enumerate(wanted), store, partial(stay_hidden, batch))


def store_chunks(items: Iterable[Any], store: Callable[[list[Any]], int], fence: Fence = lambda: None) -> int:
    """Store chunks in bounded transactions that begin with the fence. Returns the sum of the results of `store`.

    PostgreSQL checks foreign keys at each COMMIT, not when the queue is locked.
    """
    total = 0
    for chunk in paced(into_chunks(items)):
        with transaction.atomic():
            fence()
            total += store(chunk)
    if connection.in_atomic_block and connection.vendor == "postgresql":
        # In the caller's transaction, its COMMIT would check them while holding the queue: 4 s for 200,000 rows.
        connection.check_constraints()
    return total


def count_known(urls: Iterable[str]) -> int:
    """The number of these distinct addresses that are known profiles."""
    statement = f"""SELECT COUNT(*) FROM {json_table(NUMBERED_URL)} AS wanted
                     WHERE EXISTS (SELECT 1 FROM {PROFILE} AS profile WHERE profile.url = wanted.url)"""
    return sum(fetch_all(statement, [as_json(chunk)])[0][0] for chunk in into_chunks(enumerate(urls)))


def purge_deleted(should_stop: Callable[[], bool] = lambda: False) -> None:
    """Remove the rows of deleted batches and lists and of interrupted imports, then the batches and lists.

    `should_stop` is called between the transactions; the next call removes the rest.
    """
    _purge(Batch, lambda pk: purge_rows(pk, should_stop), should_stop)
    _purge(ProfileList, lambda pk: remove_rows(owned(ListProfile.everything.all(), list=pk), should_stop), should_stop)


def _purge(
    model: type[Batch | ProfileList], purge_rows: Callable[[uuid.UUID], None], should_stop: Callable[[], bool]
) -> None:
    deleted = list(model.everything.to_purge().values_list("pk", flat=True))
    for pk in deleted:
        purge_rows(pk)
    if should_stop():
        return
    for first in range(0, len(deleted), PURGE_CHUNK):
        # Under the lock, since this also writes to batches that refer to them, which somebody may be shifting.
        with Queue.objects.locked():
            model.everything.filter(pk__in=deleted[first : first + PURGE_CHUNK]).delete()


def purge_rows(batch_id: uuid.UUID, should_stop: Callable[[], bool]) -> None:
    """Remove the rows of a deleted batch in bounded transactions. Its stories are kept, without a batch."""
    remove_rows(owned(BatchProfile.objects.all(), batch=batch_id), should_stop)
    remove_rows(owned(Attempt.objects.all(), batch=batch_id), should_stop)
    stories = owned(StoryResult.objects.all(), batch=batch_id)
    for last in paced(_find_chunk_ends(stories, should_stop)):
        stories.filter(pk__lte=last).update(batch=None)


def remove_rows(rows: QuerySet[Any], should_stop: Callable[[], bool] = lambda: False) -> None:
    """Delete the rows in bounded transactions. They are in the order of an index that ends with the primary key."""
    for last in paced(_find_chunk_ends(rows, should_stop)):
        rows.filter(pk__lte=last).delete()


def _find_chunk_ends(rows: QuerySet[Any], should_stop: Callable[[], bool]) -> Iterator[int]:
    """The last primary key of each chunk, as long as there are rows. The caller removes each chunk at once."""
    while not should_stop() and (last := _find_chunk_end(rows)):
        yield last


def _find_chunk_end(rows: QuerySet[Any]) -> int | None:
    with reading_in_order():
        ids = list(rows.values_list("pk", flat=True)[:DELETE_CHUNK])
    return ids[-1] if ids else None


def into_chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, INSERT_CHUNK)):
        yield chunk
