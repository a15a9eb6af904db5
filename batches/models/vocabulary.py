"""One vocabulary: the fields of each thing, named alike in the API, in `--json` and in webhooks.

Programs rely on these names: fields may be added, none may change its meaning or go.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from .batches import Batch
from .logs import BatchLog
from .profiles import StoryResult

BATCH = (
    "id",
    "name",
    "status",
    "position",
    "priority",
    "checker",
    "total_profiles",
    "completed_profiles",
    "successful_checks",
    "failed_checks",
    "stories_found",
    "progress",
    "error",
    "created_at",
    "started_at",
    "completed_at",
    "run_seconds",
    "previous",
)
PROGRESS = ("percent", "rate", "seconds_left")
STORY = (
    "id",
    "batch",
    "profile",
    "profile_url",
    "profile_name",
    "story_id",
    "title",
    "url",
    "published_at",
    "found_at",
)
LOG = (
    "id",
    "created_at",
    "action",
    "actor",
    "channel",
    "from_status",
    "to_status",
    "from_position",
    "to_position",
    "message",
)

#: Where a field is found, if not in the attribute of its name: related rows go by their keys.
SOURCES = {
    "batch": "batch_id",
    "previous": "previous_id",
    "profile": "profile_id",
    "profile_name": "profile.name",
    "profile_url": "profile.url",
}


def batch_as_dict(batch: Batch) -> dict[str, Any]:
    return _as_dict(batch, BATCH) | {"progress": _as_dict(batch.progress, PROGRESS)}


def story_as_dict(story: StoryResult) -> dict[str, Any]:
    return _as_dict(story, STORY)


def log_as_dict(entry: BatchLog) -> dict[str, Any]:
    return _as_dict(entry, LOG)


def _as_dict(thing: object, fields: Sequence[str]) -> dict[str, Any]:
    return {name: attrgetter(SOURCES.get(name, name))(thing) for name in fields}


class VocabularyEncoder(DjangoJSONEncoder):
    """Times in UTC and to the microsecond, as the API has them."""

    def default(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return super().default(value)


def as_json(value: Any, **options: Any) -> str:
    """ASCII, so that it arrives whole in any encoding, and no terminal obeys a stranger's title."""
    return json.dumps(value, cls=VocabularyEncoder, **options)
