"""Rows for exports, in constant memory. Reads only."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db.models import F, QuerySet

from batches.lists.exports import COLUMNS, MEMBER_COLUMNS, PROFILE_COLUMNS, STORY_COLUMNS
from batches.models import BatchProfile, ListProfile, Profile, StoryResult
from batches.queue.sql import reading_in_order

#: Rows per query.
STREAM_CHUNK = 2000


def stream_rows(rows: QuerySet[BatchProfile]) -> Iterator[Any]:
    """The columns of the exports of these rows in import order."""
    return _stream(rows.annotate(**{name: F(f"profile__{name}") for name in ("url", "name", "feed_url")}), COLUMNS)


def stream_members(rows: QuerySet[ListProfile]) -> Iterator[Any]:
    """The columns of the exports of these profiles of a list in its order."""
    return _stream(rows.annotate(**{name: F(f"profile__{name}") for name in MEMBER_COLUMNS}), MEMBER_COLUMNS)


def stream_profiles(profiles: QuerySet[Profile]) -> Iterator[Any]:
    """The columns of the exports of these profiles in the order in which they were added."""
    return _stream(profiles, PROFILE_COLUMNS, nullcontext)  # the few of a host are found by another index


def stream_stories(stories: QuerySet[StoryResult]) -> Iterator[Any]:
    """The columns of the exports of these stories in the order in which they were found."""
    return _stream(stories.annotate(profile_url=F("profile__url"), profile_name=F("profile__name")), STORY_COLUMNS)


def _stream(
    rows: QuerySet[Any], columns: Sequence[str], reading: Callable[[], AbstractContextManager[None]] = reading_in_order
) -> Iterator[Any]:
    """Stream with keyset pagination, which is equally fast at any depth, and keeps no transaction open."""
    ordered = rows.order_by("pk").values_list("pk", *columns, named=True)
    last_id = 0
    while True:
        with reading():
            page = list(ordered.filter(pk__gt=last_id)[:STREAM_CHUNK])
        if not page:
            return
        yield from page
        last_id = page[-1].pk
