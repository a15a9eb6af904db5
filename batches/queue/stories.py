"""Stores new stories.

A story is identified by its id. But sites change the ids of published stories: they move to https, or create new ids
for each response. So when at least half of the ids in a document are new, a story is also identified by its link and
title, and by its date if both have one.

The stories of a profile's first check are its baseline: known, and not new, unless the batch counts them. If a story
of the document is already known, it is not a first check, whatever the profile remembers.
"""

import json
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from batches.checking.checkers.base import CheckResult, Story

from .sql import (
    BATCH,
    PROFILE,
    STORY,
    as_json,
    fetch_all,
    fetch_at_once,
    format_time,
    is_postgresql,
    json_table,
    read_time,
    time_parameter,
    uuid_parameter,
)

#: The number of latest stories of a profile. A document has tens of them.
MAX_KNOWN = 1000
#: The number of profiles of which the known stories are read together: 30 MB with the longest titles and links.
PROFILES_AT_ONCE = 10

STORY_ID = {"profile_id": "bigint", "story_id": "text"}
NEW_STORY = STORY_ID | {"title": "text", "url": "text", "published_at": "timestamptz", "all_unknown": "boolean"}


def insert_stories(batch_id: uuid.UUID, results: Mapping[int, CheckResult], moment: datetime) -> Counter[int]:
    """Store the unknown stories. Returns the number of new ones by profile ID."""
    new = drop_renamed(results, find_unknown(results))
    if not new:
        return Counter()
    inserted = fetch_all(
        f"""INSERT INTO {STORY} (batch_id, profile_id, story_id, title, url, published_at, found_at, is_baseline)
            SELECT %s, profile_id, story_id, title, url, published_at, {time_parameter()},
                   all_unknown AND (SELECT NOT count_first FROM {BATCH} WHERE id = %s)
                   AND (SELECT first_read_at IS NULL FROM {PROFILE} AS profile WHERE profile.id = story.profile_id)
              FROM {json_table(NEW_STORY)} AS story WHERE true
                ON CONFLICT (profile_id, story_id) DO NOTHING
         RETURNING profile_id, is_baseline""",
        [uuid_parameter(batch_id), format_time(moment), uuid_parameter(batch_id), as_json(new)],
    )
    return Counter(profile_id for profile_id, is_baseline in inserted if not is_baseline)


class Unknown(NamedTuple):
    """The stories of a profile without a stored id, and whether the profile has other stored stories."""

    stories: list[Story]
    has_known: bool


def find_unknown(results: Mapping[int, CheckResult]) -> dict[int, Unknown]:
    """Find them by profile ID. It looks up no ids of profiles without stories, as all are at first."""
    given = {profile_id: result.stories for profile_id, result in results.items() if result.stories}
    known = find_profiles_with_stories(given) if given else set()
    pairs = [(profile_id, story) for profile_id in given if profile_id in known for story in given[profile_id]]
    unknown: dict[int, Unknown] = {}
    for number in find_unknown_ids([(profile_id, story.id) for profile_id, story in pairs]):
        profile_id, story = pairs[number]
        unknown.setdefault(profile_id, Unknown([], has_known=True)).stories.append(story)
    return unknown | {pk: Unknown(list(given[pk]), has_known=False) for pk in given if pk not in known}


def find_profiles_with_stories(profile_ids: Iterable[int]) -> set[int]:
    rows = fetch_at_once(
        f"""SELECT profile_id FROM {json_table({"profile_id": "bigint"})} AS wanted
             WHERE (SELECT id FROM {STORY} AS story WHERE story.profile_id = wanted.profile_id LIMIT 1) IS NOT NULL""",
        [as_json([(profile_id,) for profile_id in profile_ids])],
        1,
    )
    return {profile_id for (profile_id,) in rows}


def find_unknown_ids(ids: Sequence[tuple[int, str]]) -> list[int]:
    """The indexes of the pairs of profile and story ID that are not stored. Each pair is looked up in the unique index:
    see `results.find_pending_rows`.
    """
    if not ids:
        return []
    rows = fetch_all(
        f"""SELECT number FROM {json_table({"number": "bigint"} | STORY_ID)} AS given
             WHERE (SELECT id FROM {STORY} AS story
                     WHERE story.profile_id = given.profile_id AND story.story_id = given.story_id) IS NULL""",
        [as_json([(number, *pair) for number, pair in enumerate(ids)])],
    )
    return sorted(number for (number,) in rows)


def drop_renamed(results: Mapping[int, CheckResult], unknown: Mapping[int, Unknown]) -> list[tuple[Any, ...]]:
    """The rows without stories that are known under another id."""
    suspects = [
        profile_id
        for profile_id, (stories, has_known) in unknown.items()
        if has_known and 2 * len(stories) >= len(results[profile_id].stories)
    ]
    candidates = {}
    for start in range(0, len(suspects), PROFILES_AT_ONCE):
        for profile_id, known in fetch_known(suspects[start : start + PROFILES_AT_ONCE]):
            still_there = {story.id for story in results[profile_id].stories}
            candidates[profile_id] = Candidates(story for story in known if story.id not in still_there)
    return [
        (profile_id, story.id, story.title, story.url, story.published, all_unknown)
        for profile_id, (stories, _) in unknown.items()
        for all_unknown in [len(stories) == len(results[profile_id].stories)]
        for story in stories
        if profile_id not in candidates or not candidates[profile_id].take(story)
    ]


def fetch_known(profile_ids: Sequence[int]) -> Iterator[tuple[int, list[Story]]]:
    """Yield the latest stories of each profile."""
    as_array, as_list = ("json_build_array", "json_agg") if is_postgresql() else ("json_array", "json_group_array")
    rows = fetch_all(
        f"""SELECT wanted.profile_id,
                   (SELECT CAST({as_list}({as_array}(story_id, title, url, published_at)) AS text)
                      FROM (SELECT story_id, title, url, published_at FROM {STORY} AS story
                             WHERE story.profile_id = wanted.profile_id ORDER BY id DESC LIMIT {MAX_KNOWN}) AS last)
              FROM {json_table({"profile_id": "bigint"})} AS wanted""",
        [as_json([(profile_id,) for profile_id in profile_ids])],
    )
    for profile_id, stories in rows:
        known = json.loads(stories or "[]")
        yield profile_id, [Story(story_id, title, url, read_time(time)) for story_id, title, url, time in known]


class Candidates:
    """Known stories that a document no longer contains, or contains under other ids."""

    def __init__(self, stories: Iterable[Story]) -> None:
        self._dates: defaultdict[tuple[str, str], Counter[datetime | None]] = defaultdict(Counter)
        self._links: defaultdict[tuple[str, datetime | None], set[str]] = defaultdict(set)
        for story in stories:
            link = shorten_link(story)
            self._dates[link, story.title][story.published] += 1
            self._links[story.title, story.published].add(link)

    def take(self, story: Story) -> bool:
        """Whether this story is one of them. Each candidate is taken only once."""
        dates = self._dates.get((self._find_link(story), story.title)) if story.title else None
        for date in find_dates(story, dates or {}):
            if dates and date in dates:
                dates[date] -= 1
                if not dates[date]:
                    del dates[date]
                return True
        return False

    def _find_link(self, story: Story) -> str:
        """Its link, or the link of the only story with its title and date: sites move their stories."""
        link, links = shorten_link(story), self._links.get((story.title, story.published), set())
        return next(iter(links)) if story.published and len(links) == 1 else link


def shorten_link(story: Story) -> str:
    return story.url.partition("://")[2].removeprefix("www.").rstrip("/")


def find_dates(story: Story, known: Iterable[datetime | None]) -> Iterator[datetime | None]:
    """The dates that the same story may have had. Without a link, only its date distinguishes it from others."""
    if story.url or story.published:
        yield story.published
    if story.url:
        yield None
    if story.url and story.published is None:
        yield from list(islice(known, 1))
