"""What an operator can do with a batch by one click: the buttons of its page and the actions of the list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest

from batches.batch_manager import BatchManager
from batches.models import Action, Batch, Channel
from batches.queue.actions import RULES

#: Sentences shown after one click; those of 10,000 batches would not fit the screen, nor the session.
MAX_SENTENCES = 50


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of BatchManager, its button, what is said when it succeeded, and for which batches it would do nothing."""

    call: str
    label: str
    success: str
    is_idle: Callable[[Batch], bool] = lambda batch: False

    def is_offered(self, batch: Batch) -> bool:
        return batch.status in RULES[Action(self.call)].allowed_from and not self.is_idle(batch)


OPERATIONS = {
    operation.call: operation
    for operation in (
        Operation("queue_batch", "Queue", "“{}” was queued.", lambda batch: batch.status == Batch.Status.QUEUED),
        Operation("start_batch", "Start now", "“{}” was started: the worker takes it up next."),
        Operation("pause_batch", "Pause", "“{}” was paused.", lambda batch: batch.status == Batch.Status.PAUSED),
        Operation(
            "retry_failed",
            "Retry failed",
            "“{}” was queued to check its failed profiles again.",
            lambda batch: not batch.failed_checks,
        ),
        Operation("repeat_batch", "Repeat", "A repeat of “{}” was queued."),
    )
}
DELETION = Operation("delete_batch", "Delete", "“{}” was deleted.")


def manager(request: HttpRequest) -> BatchManager:
    """The manager that acts on behalf of the person who asks."""
    return BatchManager(actor=request.user.get_username(), channel=Channel.ADMIN)


def operations_offered(batch: Batch) -> list[Operation]:
    return [operation for operation in OPERATIONS.values() if operation.is_offered(batch)]


def operate(request: HttpRequest, operation: Operation, batches: Iterable[Batch]) -> list[tuple[Batch, Any]]:
    """Call the operation for each batch, and tell the person what became of it. Gives the (batch, answer) pairs."""
    call = getattr(manager(request), operation.call)
    answers = [(batch, call(batch.pk)) for batch in batches]
    for level, sentence in _sentences(operation, answers):
        messages.add_message(request, level, sentence)
    return answers


def _sentences(operation: Operation, answers: list[tuple[Batch, Any]]) -> Iterator[tuple[int, str]]:
    for batch, answer in answers[:MAX_SENTENCES]:
        if answer:
            yield messages.SUCCESS, operation.success.format(batch)
        else:
            yield messages.WARNING, answer.message
    if rest := answers[MAX_SENTENCES:]:
        done = sum(bool(answer) for _, answer in rest)
        yield messages.INFO, f"{operation.label}, {len(rest):,} more: {done:,} done, {len(rest) - done:,} refused."
