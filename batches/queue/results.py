"""Records the results of checks: finds the pending rows, cleans the results, writes stories, rows, profiles, counters.

The caller has passed the fence and holds the transaction. The number of statements does not depend on the number of
results.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from django.db import connection
from django.db.models import F
from django.utils import timezone

from batches.checking.checkers.base import CheckResult, Story
from batches.limits import MAX_ERROR, MAX_FINGERPRINT, MAX_STORY_ID, MAX_TITLE, MAX_URL, MAX_VALIDATOR
from batches.models import BatchProfile, Lease
from batches.text import UNSTORABLE, clean_text

from .failures import Assignments, remember_outcome
from .redirects import clean_moved_to, note_redirects
from .sql import (
    PARTITION,
    PROFILE,
    ROW,
    as_json,
    execute,
    fetch_at_once,
    format_time,
    json_table,
    time_parameter,
    uuid_parameter,
)
from .stories import insert_stories

Status = BatchProfile.Status

#: Seconds (11 days). A longer duration is an error.
MAX_DURATION = 1e6


def record(batch_id: uuid.UUID, run_token: uuid.UUID, given: Mapping[int, CheckResult]) -> None:
    """Record results by profile ID. Ignores those for profiles that are not pending in a partition of this lease."""
    row_ids = find_pending_rows(batch_id, run_token, given)
    if not row_ids:
        return
    results = {profile_id: clean_result(given[profile_id]) for profile_id in row_ids}
    moment = timezone.now()
    new_stories = insert_stories(batch_id, results, moment)
    update_batch_profiles(
        [
            (
                row_ids[profile_id],
                Status.OK if result.ok else Status.FAILED,
                result.error,
                result.http_status,
                None if result.host_paused else result.duration,
                profile_id in new_stories,
            )
            for profile_id, result in results.items()
        ],
        moment,
    )
    memories = defaultdict(list)
    for profile_id, result in results.items():
        memories[remember_outcome(result)].append(
            (
                profile_id,
                result.error,
                result.feed_url,
                result.etag,
                result.last_modified,
                result.fingerprint,
                None if result.host_paused else result.duration,
                profile_id in new_stories,
            )
        )
    for remember, profiles in memories.items():
        update_profiles(profiles, moment, remember(moment))
    note_redirects(results)
    successful = sum(result.ok for result in results.values())
    Lease.objects.filter(pk=run_token).update(
        successful_checks=F("successful_checks") + successful,
        failed_checks=F("failed_checks") + len(results) - successful,
        stories_found=F("stories_found") + new_stories.total(),
    )


def find_pending_rows(batch_id: uuid.UUID, run_token: uuid.UUID, profile_ids: Iterable[int]) -> dict[int, int]:
    """Row IDs by profile ID, for the profiles that are pending in the partitions of this lease.

    This looks up each profile in the unique index. With a join and without statistics, as after an import, both
    databases read the whole batch for each profile: 13 s for 500 results in a batch of 20,000. PostgreSQL also does
    with older statistics, when the index on the batch seems as good. Only the unique index can compare the pair.
    """
    own = f"IN (SELECT number FROM {PARTITION} WHERE lease_id = %s)"
    batch_is, batch_ids = "row.batch_id = %s", [uuid_parameter(batch_id)]
    if connection.vendor == "postgresql":
        own = f"= ANY (ARRAY{own.removeprefix('IN ')})"  # read once instead of for each row
        pair = "(wanted.profile_id, %s)"
        batch_is, batch_ids = f"(row.profile_id, row.batch_id) BETWEEN {pair} AND {pair}", batch_ids * 2
    rows = fetch_at_once(
        f"""SELECT wanted.profile_id,
                   (SELECT row.id FROM {ROW} AS row
                     WHERE row.profile_id = wanted.profile_id AND {batch_is} AND row.status = 'pending'
                       AND row.partition {own})
              FROM {json_table({"profile_id": "bigint"})} AS wanted""",
        [*batch_ids, uuid_parameter(run_token), as_json([(profile_id,) for profile_id in profile_ids])],
        2,
    )
    return {profile_id: row_id for profile_id, row_id in rows if row_id is not None}


# Cleaning: makes results of strangers' responses storable in both databases


def clean_result(result: CheckResult) -> CheckResult:
    return CheckResult(
        ok=result.ok,
        error="" if result.ok else clean_text(result.error, MAX_ERROR) or "The check failed without an error message.",
        http_status=_clean_http_status(result.http_status),
        # JSON does not have infinity or NaN.
        duration=result.duration if 0.0 <= result.duration <= MAX_DURATION else 0.0,
        stories=[_clean_story(story) for story in result.stories] if result.ok else (),
        feed_url=_clean_memory(result.feed_url, MAX_URL),
        etag=_clean_memory(result.etag, MAX_VALIDATOR),
        last_modified=_clean_memory(result.last_modified, MAX_VALIDATOR),
        fingerprint=_clean_memory(result.fingerprint, MAX_FINGERPRINT),
        moved_to=clean_moved_to(result.moved_to),
        reads_stories=result.reads_stories,
        host_paused=result.host_paused,
    )


def _clean_http_status(status: int | None) -> int | None:
    """The status if it has three digits, otherwise None. 999 is valid: a large site sends it."""
    return int(status) if status is not None and 100 <= status <= 999 else None


def _clean_story(story: Story) -> Story:
    """Clean a story. An ID that is missing or too long is replaced with a hash of the content."""
    if _is_clean(story):
        return story
    story_id = UNSTORABLE.sub("", story.id)
    if not 0 < len(story_id) <= MAX_STORY_ID:
        content = f"{story.id}\n{story.title}\n{story.url}"
        story_id = sha256(content.encode(errors="replace")).hexdigest()
    url = clean_text(story.url, MAX_URL + 1)
    url = url if len(url) <= MAX_URL else ""
    return Story(story_id, clean_text(story.title, MAX_TITLE), url, _clean_time(story.published))


def _is_clean(story: Story) -> bool:
    """Whether it needs no cleaning, like nearly all stories. Checking takes a fifth of the time of cleaning."""
    text = story.id + story.title + story.url
    return (
        text.isprintable()  # so it contains neither NUL nor surrogates
        and 0 < len(story.id) <= MAX_STORY_ID
        and len(story.title) <= MAX_TITLE
        and len(story.url) <= MAX_URL
        and (story.published is None or _is_clean_time(story.published))
    )


def _is_clean_time(moment: object) -> bool:
    return isinstance(moment, datetime) and moment.tzinfo is UTC and 1 < moment.year < 9999


def _clean_time(moment: datetime | None) -> datetime | None:
    """The time in UTC, which is also the default zone. None for the years 1 and 9999: they are placeholders, and a
    conversion to UTC could leave the calendar."""
    if not isinstance(moment, datetime) or not 1 < moment.year < 9999:
        return None
    return (moment if timezone.is_aware(moment) else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _clean_memory(text: str | None, limit: int) -> str | None:
    """Clean a value to remember; None means "keep the stored value".

    A text that is too long to send back is dropped.
    """
    if text is None:
        return None
    cleaned = clean_text(text, limit + 1)
    return cleaned if len(cleaned) <= limit else ""


# Writing. Rows are plain tuples: named ones took a tenth of the time of recording.

ROW_RESULT = {
    "row_id": "bigint",
    "status": "text",
    "error": "text",
    "http_status": "bigint",
    "duration": "double precision",
    "has_story": "boolean",
}


def update_batch_profiles(results: Sequence[tuple[Any, ...]], moment: datetime) -> None:
    execute(
        f"""UPDATE {ROW} AS row
               SET status = result.status, error = result.error, http_status = result.http_status,
                   duration = result.duration, has_story = result.has_story, checked_at = {time_parameter()}
              FROM {json_table(ROW_RESULT)} AS result
             WHERE row.id = result.row_id AND row.status = 'pending'""",
        [format_time(moment), as_json(results)],
    )


#: The data that the next check needs. NULL keeps the stored value.
PROFILE_MEMORY = {
    "profile_id": "bigint",
    "error": "text",
    "feed_url": "text",
    "etag": "text",
    "last_modified": "text",
    "fingerprint": "text",
    "duration": "double precision",
    "has_story": "boolean",
}


def update_profiles(memories: Sequence[tuple[Any, ...]], moment: datetime, outcome: Assignments) -> None:
    """Update the profiles with one outcome, so that its assignments read no column of `memory`, which took a seventh of
    the time.
    """
    now = format_time(moment)
    execute(
        f"""UPDATE {PROFILE} AS profile
               SET last_error = memory.error, last_duration = memory.duration,
                   feed_url = COALESCE(memory.feed_url, profile.feed_url),
                   etag = COALESCE(memory.etag, profile.etag),
                   last_modified = COALESCE(memory.last_modified, profile.last_modified),
                   fingerprint = COALESCE(memory.fingerprint, profile.fingerprint),
                   last_story_at = CASE WHEN memory.has_story THEN {time_parameter()} ELSE profile.last_story_at END,
                   {outcome.sql}last_checked_at = {time_parameter()}
              FROM {json_table(PROFILE_MEMORY)} AS memory
             WHERE profile.id = memory.profile_id""",
        [now, *outcome.parameters, now, as_json(memories)],
    )
