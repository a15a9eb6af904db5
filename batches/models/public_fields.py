"""One vocabulary: the fields of each object have the same names in the API, in `--json` and in webhooks.

Programs rely on these names: fields can be added, but not removed or given another meaning.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from .attempts import Attempt
from .batches import Batch, BatchProfile
from .feeds import ListFeed
from .lists import ProfileList
from .logs import BatchLog
from .profiles import Profile, StoryResult
from .queue import Queue
from .redirects import Redirect
from .subscriptions import Subscription


def _names_of(model: type[Model], *hidden: str) -> tuple[str, ...]:
    return tuple(field.name for field in model._meta.concrete_fields if field.name not in hidden)


#: Fields that only the manager and the workers need are hidden.
BATCH = _names_of(Batch, "takeovers", "deleted_at", "reset_after", "reset_since", "reset_reasons")
PROGRESS = ("percent", "rate", "seconds_left")
STORY = (*_names_of(StoryResult), "profile_url", "profile_name")
LOG = _names_of(BatchLog, "batch", "list")
QUEUE = _names_of(Queue, "id", "probed_at", "looked_at", "wanted_at")
PROFILE = _names_of(Profile, "etag", "last_modified", "fingerprint", "recovered_at", "recovered_from")
#: A profile of a batch with its result.
ROW = (*_names_of(BatchProfile, "batch", "partition"), "url", "name", "feed_url")
#: The result of an earlier check of a profile in a batch.
ATTEMPT = (*_names_of(Attempt, "batch"), "url", "name")
#: A check of a profile in its history.
CHECK = ("batch", "batch_name", *Attempt.RESULT, "is_earlier")
LIST = (
    *_names_of(ProfileList, "edition", "editor", "edit_until", "deleted_at"),
    "schedule_in_words",
    "next_times",
)
#: The addresses of a feed are shown once, to its creator.
FEED = _names_of(ListFeed, "digest")
#: A permanent redirect that can be accepted, and the outcome of accepting it.
REDIRECT = (*_names_of(Redirect), "old_url", "profile_name", "merges")
ACCEPTANCE = ("profile", "old_url", "url", "merged")
#: The figures of a host, by the last check of each of its profiles.
HOST = (
    *("host", "profiles", "has_more", "failing", "failing_percent", "median_seconds", "last_error", "last_failed_at"),
    "paused_until",
)
#: A process that looks for work, and its part in the running batch.
WORKER = ("name", "version", "started_at", "seen_at", "alive", "batch", "partitions", "rate")
#: A subscription. An Apprise address is secret, and therefore shortened.
SUBSCRIPTION = _names_of(Subscription, "webhook")
#: How an edit changed the profiles of a list.
CHANGE = ("added", "removed", "unchanged")

#: The attribute of a field, if it has another name: related rows are represented by their keys.
SOURCES = {
    "address": "shown_address",
    "batch": "batch_id",
    "list": "list_id",
    "previous": "previous_id",
    "profile": "profile_id",
    "profile_name": "profile.name",
    "profile_url": "profile.url",
    "stopped": "stopped_id",
}


def batch_as_dict(batch: Batch) -> dict[str, Any]:
    return as_dict(batch, BATCH) | {"progress": as_dict(batch, PROGRESS)}


def as_dict(thing: object, fields: Sequence[str]) -> dict[str, Any]:
    """The object as a dictionary with these fields, which are one of the tuples above."""
    return {name: attrgetter(SOURCES.get(name, name))(thing) for name in fields}


class VocabularyEncoder(DjangoJSONEncoder):
    """Writes times in UTC with microseconds, like the API."""

    def default(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return super().default(value)


def as_plain(value: Any) -> Any:
    """The value as JSON would represent it."""
    return json.loads(as_json(value))


def as_json(value: Any, **options: Any) -> str:
    """JSON in ASCII, which works in any encoding, and in which no stranger's title can control a terminal."""
    return json.dumps(value, cls=VocabularyEncoder, **options)
