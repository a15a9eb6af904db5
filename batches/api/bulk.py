"""One action for many batches: which ones, in which order, and what became of each.

Every batch gets the call that it would get by itself, and has an outcome of its own. Without an `Idempotency-Key` each
call is a transaction, so that others get their turn in between; with one all of them are a single transaction, since
the answer that is kept has to be true of all or of none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django import forms
from django.db.models import F, Q, QuerySet
from django.utils.datastructures import MultiValueDict
from rest_framework.exceptions import ValidationError

from batches.batch_manager import BatchManager
from batches.models import Action, Batch
from batches.queue.actions import RULES
from batches.queue.refusals import Refusal
from batches.text import UNSTORABLE, clean_text

from . import permissions as may
from .filters import SHOWN_UNKNOWN, BatchFilters

#: A request has to end, and others want their turn. Measured on SQLite with nothing else in the queue, 1,000 calls take
#: 4 s of CPU (pause) to 9 s (requeue, delete): each closes its own gap and leaves its own line in the log.
MAX_AT_ONCE = 1000

#: Characters of what is no id that an outcome repeats.
MAX_ID = 100

Status = Batch.Status


@dataclass(frozen=True, slots=True)
class BulkAction:
    """A call of BatchManager, and of the batches that match a filter those that it is for: what it does to one takes
    that one out, so that the same request goes on with the rest."""

    call: str
    permission: str = may.OPERATE
    idle: frozenset[str] = frozenset()
    only: Q = field(default_factory=Q)
    #: From the end of the queue, since what leaves there leaves no gap to be closed.
    leaves_queue: bool = False
    is_for_each_once: bool = True

    @property
    def is_for(self) -> Q:
        return Q(status__in=RULES[Action(self.call)].allowed_from - self.idle) & self.only


ACTIONS = {
    "queue": BulkAction("queue_batch", idle=frozenset({Status.QUEUED})),
    "pause": BulkAction("pause_batch", idle=frozenset({Status.PAUSED}), leaves_queue=True),
    "retry": BulkAction("retry_failed", only=Q(failed_checks__gt=0)),
    "repeat": BulkAction("repeat_batch", is_for_each_once=False),
    "delete": BulkAction("delete_batch", may.DELETE, leaves_queue=True),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one batch; `status` and `position` as they are at the end, `made` the id of its repeat."""

    id: str
    answer: Any
    now: Batch | None

    @property
    def ok(self) -> bool:
        return bool(self.answer)

    @property
    def code(self) -> str | None:
        return None if self.ok else self.answer.code

    @property
    def detail(self) -> str:
        return "" if self.ok else self.answer.message

    @property
    def status(self) -> str | None:
        return self.now.status if self.now else None

    @property
    def position(self) -> int | None:
        return self.now.position if self.now else None

    @property
    def made(self) -> UUID | None:
        return self.answer.pk if isinstance(self.answer, Batch) else None


def matching(asked: Mapping[str, Any]) -> QuerySet[Batch]:
    """The batches that the list would show with these filters. Raises ValidationError that names what is no filter.

    A value that filters nothing is refused: it would be a slip that means every batch.
    """
    known = BatchFilters.base_filters.keys() - {"ordering"}
    if unknown := sorted(asked.keys() - known):
        message = f"There is no such filter, only {', '.join(sorted(known))}."
        raise ValidationError({name: [message] for name in unknown[:SHOWN_UNKNOWN]})
    texts = {name: _texts(name, value) for name, value in asked.items()}
    found = BatchFilters(MultiValueDict(texts), queryset=Batch.objects.all())
    problems = {name: list(messages) for name, messages in found.form.errors.items()}
    for name in texts.keys() - problems.keys():
        if found.form.cleaned_data[name] in (None, "", []):
            problems[name] = ["A filter may not be empty."]
    if problems:
        raise ValidationError(problems)
    return found.qs  # type: ignore[no-any-return]


def _texts(name: str, value: Any) -> list[str]:
    """The value as a query would have it."""
    values = value if isinstance(value, list) else [value]
    if not all(type(value) in {str, int} for value in values) or any(UNSTORABLE.search(str(value)) for value in values):
        raise ValidationError({name: ["A text or a number is required, or a list of them."]})
    if len(values) > 1 and not isinstance(BatchFilters.base_filters[name].field, forms.MultipleChoiceField):
        raise ValidationError({name: ["This filter takes one value."]})
    return [str(value) for value in values]


def first_of(batches: QuerySet[Batch], action: BulkAction) -> tuple[list[str], int]:
    """The ids of the first MAX_AT_ONCE of them that the action is for, and how many are left for later."""
    batches = batches.filter(action.is_for).order_by("created_at", "pk")
    if action.leaves_queue:
        batches = batches.order_by(F("position").desc(nulls_last=True), "created_at", "pk")
    ids = list(batches.values_list("pk", flat=True)[: MAX_AT_ONCE + 1])
    left = batches.count() - MAX_AT_ONCE if len(ids) > MAX_AT_ONCE else 0
    if left and not action.is_for_each_once:
        message = f"More than {MAX_AT_ONCE:,} batches match, and the next request could not tell which were done."
        raise ValidationError({"filter": [f"{message} Narrow it, or send ids."]})
    return [str(pk) for pk in ids[:MAX_AT_ONCE]], left


def carry_out(manager: BatchManager, action: BulkAction, ids: Sequence[str]) -> list[Outcome]:
    """Make the action's call for each of these different ids; the outcomes in the order given."""
    order = _last_first(ids) if action.leaves_queue else ids
    answers: dict[str, Any | Refusal] = dict(zip(order, _answers(manager, action, order), strict=True))
    now = {str(pk): batch for pk, batch in _batches(ids).in_bulk().items()}
    return [Outcome(clean_text(pk, MAX_ID), answers[pk], now.get(pk)) for pk in ids]


def _answers(manager: BatchManager, action: BulkAction, ids: Sequence[str]) -> list[Any | Refusal]:
    if action is ACTIONS["delete"]:
        return manager.delete_batches(ids)  # their rows go together: half the time
    call = getattr(manager, action.call)
    return [call(pk) for pk in ids]


def _last_first(ids: Sequence[str]) -> list[str]:
    positions = {str(pk): position for pk, position in _batches(ids).values_list("pk", "position")}
    return sorted(ids, key=lambda pk: positions.get(pk) or 0, reverse=True)


def _batches(ids: Sequence[str]) -> QuerySet[Batch]:
    return Batch.objects.filter(pk__in=[pk for pk in ids if canonical(pk) is not None])


def canonical(text: str) -> str | None:
    """An id in the one form that the API shows; None for what cannot be one."""
    try:
        return str(UUID(text)) if len(text) <= 40 else None
    except ValueError:
        return None
