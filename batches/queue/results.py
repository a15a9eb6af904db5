"""Recording results: cleaned, fenced by the caller, and written by a few statements however many there are."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256

from django.db import connection
from django.db.models import F
from django.utils import timezone

from batches.checking.checkers.base import CheckResult, Story
from batches.limits import MAX_ERROR, MAX_FINGERPRINT, MAX_STORY_ID, MAX_TITLE, MAX_URL, MAX_VALIDATOR
from batches.models import Batch, BatchProfile
from batches.text import clean_text

from .sql import PROFILE, ROW, STORY, as_json, execute, field, json_rows, now, time_parameter, times, uuid_parameter

#: Seconds. A check that claims to have taken longer (11 days) was not measured.
MAX_DURATION = 1e6


def record(batch_id: uuid.UUID, given: Mapping[int, CheckResult]) -> None:
    """Record the results by profile id, where the batch still waits for one. Behind the fence, in its transaction."""
    rows = pending_rows(batch_id, given)
    if not rows:
        return
    results = {profile_id: clean_result(given[profile_id]) for profile_id in rows}
    stories = [
        (profile_id, story.id, story.title, story.url, story.published)
        for profile_id, result in results.items()
        for story in result.stories
    ]
    new = Counter(insert_stories(batch_id, stories) if stories else ())
    update_batch_profiles(
        [
            (
                rows[profile_id],
                BatchProfile.Status.OK if result.ok else BatchProfile.Status.FAILED,
                result.error,
                result.http_status,
                result.duration,
                profile_id in new,
            )
            for profile_id, result in results.items()
        ]
    )
    update_profiles(
        [
            (
                profile_id,
                result.error,
                result.feed_url,
                result.etag,
                result.last_modified,
                result.fingerprint,
                profile_id in new,
            )
            for profile_id, result in results.items()
        ]
    )
    successful = sum(result.ok for result in results.values())
    Batch.objects.filter(pk=batch_id).update(
        completed_profiles=F("completed_profiles") + len(results),
        successful_checks=F("successful_checks") + successful,
        failed_checks=F("failed_checks") + len(results) - successful,
        stories_found=F("stories_found") + new.total(),
        takeovers=0,
    )


def clean_result(result: CheckResult) -> CheckResult:
    """The result as both databases can store it, whatever the checker made of what a stranger sent."""
    # Built anew: `dataclasses.replace` took an eighth of recording.
    return CheckResult(
        ok=result.ok,
        error="" if result.ok else clean_text(result.error, MAX_ERROR) or "The check failed without an error message.",
        http_status=_clean_http_status(result.http_status),
        # Infinity and "not a number" are no JSON.
        duration=result.duration if 0.0 <= result.duration <= MAX_DURATION else 0.0,
        stories=[_clean_story(story) for story in result.stories] if result.ok else (),
        feed_url=_clean_memory(result.feed_url, MAX_URL),
        etag=_clean_memory(result.etag, MAX_VALIDATOR),
        last_modified=_clean_memory(result.last_modified, MAX_VALIDATOR),
        fingerprint=_clean_memory(result.fingerprint, MAX_FINGERPRINT),
    )


def _clean_story(story: Story) -> Story:
    story_id = clean_text(story.id, MAX_STORY_ID + 1)
    if not 0 < len(story_id) <= MAX_STORY_ID:
        content = f"{story.id}\n{story.title}\n{story.url}"
        story_id = sha256(content.encode(errors="replace")).hexdigest()
    url = clean_text(story.url, MAX_URL + 1)
    url = url if len(url) <= MAX_URL else ""
    return Story(story_id, clean_text(story.title, MAX_TITLE), url, _clean_time(story.published))


def _clean_http_status(status: int | None) -> int | None:
    """What has not three digits, as HTTP wants it, is no status. 999 is one that a large site really sends."""
    return int(status) if status is not None and 100 <= status <= 999 else None


def _clean_time(moment: datetime | None) -> datetime | None:
    """In UTC, as which a time without an offset is read. The years 1 and 9999 are placeholders for an unknown time, and
    another time zone would push them out of the calendar."""
    if not isinstance(moment, datetime) or not 1 < moment.year < 9999:
        return None
    return (moment if timezone.is_aware(moment) else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _clean_memory(text: str | None, limit: int) -> str | None:
    """None stays None (keep what is remembered); what is too long to be given back whole is forgotten."""
    if text is None:
        return None
    cleaned = clean_text(text, limit + 1)
    return cleaned if len(cleaned) <= limit else ""


def pending_rows(batch_id: uuid.UUID, profile_ids: Iterable[int]) -> dict[int, int]:
    """The rows of these profiles that still wait for their result in this batch, by profile id.

    One look into the unique index per profile. As a join, both databases read the whole batch for each profile as long
    as the table has no statistics, as after an import: 13 s for 500 results in a batch of 20,000.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT wanted.profile_id,
                       (SELECT row.id FROM {ROW} AS row
                         WHERE row.profile_id = wanted.profile_id AND row.batch_id = %s AND row.status = 'pending')
                  FROM (SELECT {field(0, "int")} AS profile_id FROM {json_rows()}) AS wanted""",
            [uuid_parameter(batch_id), as_json([[profile_id] for profile_id in profile_ids])],
        )
        return {profile_id: row_id for profile_id, row_id in cursor.fetchall() if row_id is not None}


def insert_stories(batch_id: uuid.UUID, stories: Sequence[tuple[int, str, str, str, datetime | None]]) -> list[int]:
    """Store the (profile_id, story_id, title, url, published) that are new. Returns a profile id for each new one."""
    published = times(story[-1] for story in stories)
    rows = [(*story[:-1], time) for story, time in zip(stories, published, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {STORY} (batch_id, profile_id, story_id, title, url, published_at, found_at)
                SELECT %s, {field(0, "int")}, {field(1)}, {field(2)}, {field(3)}, {field(4, "time")},
                       {time_parameter()}
                  FROM {json_rows()} WHERE true
                    ON CONFLICT (profile_id, story_id) DO NOTHING
             RETURNING profile_id""",
            [uuid_parameter(batch_id), now(), as_json(rows)],
        )
        return [profile_id for (profile_id,) in cursor.fetchall()]


def update_batch_profiles(results: Sequence[tuple[int, str, str, int | None, float, bool]]) -> None:
    """Write (row_id, status, error, http_status, duration, has_story) into these rows, where they are pending."""
    execute(
        f"""UPDATE {ROW} AS row
               SET status = result.status, error = result.error, http_status = result.http_status,
                   duration = result.duration, has_story = result.has_story, checked_at = {time_parameter()}
              FROM (SELECT {field(0, "int")} AS id, {field(1)} AS status, {field(2)} AS error,
                           {field(3, "int")} AS http_status, {field(4, "float")} AS duration,
                           {field(5, "bool")} AS has_story
                      FROM {json_rows()}) AS result
             WHERE row.id = result.id AND row.status = 'pending'""",
        [now(), as_json(results)],
    )


Memory = tuple[int, str, str | None, str | None, str | None, str | None, bool]


def update_profiles(memories: Sequence[Memory]) -> None:
    """Write what checks remember: (profile_id, error, feed_url, etag, last_modified, fingerprint, has_story).

    None keeps what is remembered.
    """
    execute(
        f"""UPDATE {PROFILE} AS profile
               SET last_error = memory.error,
                   feed_url = COALESCE(memory.feed_url, profile.feed_url),
                   etag = COALESCE(memory.etag, profile.etag),
                   last_modified = COALESCE(memory.last_modified, profile.last_modified),
                   fingerprint = COALESCE(memory.fingerprint, profile.fingerprint),
                   last_story_at = CASE WHEN memory.has_story THEN {time_parameter()} ELSE profile.last_story_at END,
                   last_checked_at = {time_parameter()}
              FROM (SELECT {field(0, "int")} AS profile_id, {field(1)} AS error, {field(2)} AS feed_url,
                           {field(3)} AS etag, {field(4)} AS last_modified, {field(5)} AS fingerprint,
                           {field(6, "bool")} AS has_story
                      FROM {json_rows()}) AS memory
             WHERE profile.id = memory.profile_id""",
        [now(), now(), as_json(memories)],
    )
