"""Removes old rows, a few at a time, while checks run: one rule for each kind of row.

The settings `BATCHES_PRUNE_…_DAYS` say after how many days; 0 means never. Several workers can prune at once: each
skips the rows that another has locked.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.apps import apps
from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.conf import get_config
from batches.models import Attempt, Batch, BatchLog, Host, StoryResult
from batches.models.api import StoredResponse
from batches.notifications.outbox import find_idle
from batches.text import pluralise

logger = logging.getLogger(__name__)

#: Rows that one transaction removes, in 10 to 50 ms. A few batches at once: their rows follow.
CHUNK, FEW_BATCHES = 1_000, 10
#: Seconds after which a worker looks again, once nothing is left to remove.
INTERVAL = 3600.0


@dataclass(frozen=True, slots=True)
class Rule:
    """`find` returns the rows that are too old at this time, according to `setting`."""

    setting: str
    noun: str
    plural: str
    find: Callable[[datetime], QuerySet[Any]]

    @property
    def days(self) -> int:
        days: int = getattr(get_config(), f"prune_{self.setting}_days")
        return days

    def find_old(self) -> QuerySet[Any]:
        return self.find(timezone.now() - timedelta(days=self.days))


def older(model: type[Model], column: str, order: str = "pk") -> Callable[[datetime], QuerySet[Any]]:
    """A function that finds the rows of the model with an earlier time in this column, in the order of an index."""
    return lambda before: model._default_manager.filter(**{f"{column}__lt": before}).order_by(order)


def find_logs(before: datetime) -> QuerySet[BatchLog]:
    """Entries of the log, except the last entry of each batch, which explains its status."""
    later = BatchLog.objects.filter(batch=OuterRef("batch"), pk__gt=OuterRef("pk"))
    return BatchLog.objects.filter(Q(batch=None) | Exists(later), created_at__lt=before).order_by("pk")


BATCHES = Rule("batches", "batch", "batches", Batch.objects.ended_before)


def list_rules() -> Iterator[Rule]:
    """The rules that are switched on."""
    rules = [
        BATCHES,
        Rule("stories", "story", "stories", older(StoryResult, "found_at", "found_at")),
        Rule("attempts", "earlier check", "earlier checks", older(Attempt, "checked_at")),
        Rule("logs", "log entry", "log entries", find_logs),
        Rule("deliveries", "delivery", "deliveries", find_idle),
        Rule("hosts", "host", "hosts", older(Host, "not_before")),
        Rule("responses", "stored answer", "stored answers", older(StoredResponse, "created_at", "created_at")),
    ]
    if apps.is_installed("django.contrib.sessions"):
        sessions = older(apps.get_model("sessions", "Session"), "expire_date", "expire_date")
        rules.append(Rule("sessions", "expired session", "expired sessions", sessions))
    return (rule for rule in rules if rule.days)


class Pruner:
    """Removes a chunk by each rule whenever it is called, then rests for a while when nothing is left."""

    def __init__(self) -> None:
        self._next = 0.0

    def prune(self, manager: BatchManager, should_stop: Callable[[], bool]) -> None:
        if time.monotonic() < self._next:
            return
        has_more = False
        for rule in list_rules():
            if should_stop():
                return
            has_more |= prune_chunk(rule, manager, should_stop)
        self._next = time.monotonic() + (0.0 if has_more else INTERVAL)


def prune_chunk(rule: Rule, manager: BatchManager, should_stop: Callable[[], bool] = lambda: False) -> bool:
    """Returns whether there may be more."""
    limit = FEW_BATCHES if rule is BATCHES else CHUNK
    old = rule.find_old()
    # Read before anything is locked: on SQLite a transaction would lock out all writers.
    ids = list(old.values_list("pk", flat=True)[:limit])
    if ids and rule is BATCHES:
        manager.delete_batches(ids, should_stop=should_stop, expected_in=old)
    elif ids:
        manager.remove_old(old, ids)
    if ids:
        logger.info("Pruned %s older than %s: %s", rule.plural, pluralise(rule.days, "day"), len(ids))
    return len(ids) == limit
