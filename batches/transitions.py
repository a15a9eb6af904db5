"""Which call is allowed from which status, and how a call says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from .models import Batch
from .text import clean_text

Status = Batch.Status


class Code(StrEnum):
    """Why a call was refused."""

    NOT_FOUND = "not_found"
    ALREADY_RUNNING = "already_running"
    ALREADY_QUEUED = "already_queued"
    NOT_QUEUED = "not_queued"
    FINISHED = "finished"
    ANOTHER_RUNNING = "another_running"
    QUEUE_HELD = "queue_held"
    STALE_VERSION = "stale_version"
    NOTHING_TO_RETRY = "nothing_to_retry"
    BAD_PROGRESS = "bad_progress"
    BAD_VALUE = "bad_value"
    FENCED = "fenced"
    NOT_FINISHED = "not_finished"
    ALREADY_EXISTS = "already_exists"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An expected no: falsy, with a code for programs and a sentence for people. Nothing was changed."""

    code: Code
    message: str

    def __bool__(self) -> Literal[False]:
        return False

    def __str__(self) -> str:
        return self.message


class Refused(Exception):
    """Carries a refusal out of a change that has begun, so that its transaction is rolled back."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message)


#: From which statuses each call is allowed; every other combination is refused and changes nothing.
ALLOWED: Mapping[str, frozenset[str]] = {
    # `queued` goes to the end of its band; `done` is checked anew; a running one is paused first.
    "queue_batch": frozenset({Status.QUEUED, Status.PAUSED, Status.ERROR, Status.DONE}),
    # `error` and `done` have to be queued again first: that is where their error or their counters are cleared.
    "start_batch": frozenset({Status.QUEUED, Status.PAUSED}),
    # Pausing what is paused is what the caller wanted already.
    "pause_batch": frozenset({Status.QUEUED, Status.RUNNING, Status.PAUSED}),
    # Finished is finished: `completed_at` never moves, and an error is not overwritten by a later one.
    "complete_batch": frozenset({Status.QUEUED, Status.RUNNING, Status.PAUSED}),
    "handle_error": frozenset({Status.QUEUED, Status.RUNNING, Status.PAUSED}),
    # A pause must not lose the progress of a caller that was about to report it.
    "update_progress": frozenset({Status.RUNNING, Status.PAUSED}),
    # Only the queue has an order.
    "move_batch": frozenset({Status.QUEUED}),
    # Wherever it stands: what it stores matters when the batch is queued the next time.
    "set_priority": frozenset(Status),
    "rename_batch": frozenset(Status),
    # What is wrong may be wrong in any of them.
    "repair_batch": frozenset(Status),
    # While queued or running, the pending profiles come first.
    "retry_failed": frozenset({Status.DONE, Status.PAUSED, Status.ERROR}),
    # A worker is at work on a running one: pause it first.
    "delete_batch": frozenset(set(Status) - {Status.RUNNING}),
}

PARTICIPLES: Mapping[str, str] = {
    "queue_batch": "queued",
    "start_batch": "started",
    "pause_batch": "paused",
    "complete_batch": "completed",
    "handle_error": "stopped by an error",
    "update_progress": "given progress",
    "move_batch": "moved",
    "retry_failed": "retried",
    "delete_batch": "deleted",
}

#: What a batch's status says against a call that is not allowed from it.
CODE_BY_STATUS: Mapping[str, Code] = {
    Status.QUEUED: Code.ALREADY_QUEUED,
    Status.RUNNING: Code.ALREADY_RUNNING,
    Status.PAUSED: Code.NOT_QUEUED,
    Status.DONE: Code.FINISHED,
    Status.ERROR: Code.FINISHED,
}


def require_allowed(call: str, batch: Batch) -> None:
    """Raises Refused where `call` is not allowed for a batch in the status that it has."""
    if batch.status in ALLOWED[call]:
        return
    *others, last = [status.value for status in Status if status in ALLOWED[call]]
    allowed = f"{', '.join(others)} or {last}" if others else last
    message = f"“{batch}” is {batch.status}: only a batch that is {allowed} can be {PARTICIPLES[call]}."
    raise Refused(CODE_BY_STATUS[batch.status], message)


def not_found(batch_id: object) -> Refused:
    return Refused(Code.NOT_FOUND, f"There is no batch with the id {clean_text(batch_id, 40)!r}.")


def fenced() -> Refused:
    return Refused(Code.FENCED, "This run is over: the batch was paused, finished or taken over by another worker.")
