"""The one table of actions: from which statuses each is allowed, where it leads, and how the doors offer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Q

from batches.limits import MAX_BULK
from batches.models import Action, Batch

from .refusals import Code, Refused

Status = Batch.Status


@dataclass(frozen=True, slots=True)
class Rule:
    """What the table says of an action.

    `goes_to` is the status after it, None where the status stays. `label` is its button; `success` is what a person
    reads afterwards, about a batch called {}. `changes_nothing_for` are statuses from which it is allowed but idle:
    the doors do not offer it there. `cap` is how many batches one bulk action takes at most.
    """

    allowed_from: frozenset[str]
    participle: str = ""
    goes_to: str | None = None
    label: str = ""
    success: str = ""
    changes_nothing_for: frozenset[str] = frozenset()
    needs_failures: bool = False
    leaves_queue: bool = False
    cap: int = MAX_BULK

    def is_offered(self, batch: Batch) -> bool:
        is_useful = bool(batch.failed_checks) or not self.needs_failures
        return is_useful and batch.status in self.allowed_from - self.changes_nothing_for

    @property
    def is_offered_for(self) -> Q:
        """The same as a condition for the database."""
        statuses = Q(status__in=self.allowed_from - self.changes_nothing_for)
        return statuses & Q(failed_checks__gt=0) if self.needs_failures else statuses


ANY = frozenset(Status.values)
UNFINISHED = frozenset({Status.QUEUED, Status.RUNNING, Status.PAUSED})

#: Every combination of an action and a status that is not here is refused, and changes nothing.
RULES: Mapping[Action, Rule] = {
    # `queued` goes to the end of its band; `done` is checked again; a running one is paused first.
    Action.QUEUE_BATCH: Rule(
        ANY - {Status.RUNNING},
        participle="queued",
        goes_to=Status.QUEUED,
        label="Queue",
        success="“{}” was queued.",
        changes_nothing_for=frozenset({Status.QUEUED}),
    ),
    # `error` and `done` have to be queued again first: that is where their error or their counters are cleared.
    Action.START_BATCH: Rule(
        frozenset({Status.QUEUED, Status.PAUSED}),
        participle="started",
        goes_to=Status.RUNNING,
        label="Start now",
        success="“{}” was started. A worker will begin shortly.",
        leaves_queue=True,
        cap=1,
    ),
    # Pausing what is paused is what the caller wanted already.
    Action.PAUSE_BATCH: Rule(
        UNFINISHED,
        participle="paused",
        goes_to=Status.PAUSED,
        label="Pause",
        success="“{}” was paused.",
        changes_nothing_for=frozenset({Status.PAUSED}),
        leaves_queue=True,
    ),
    # Finished is finished: `completed_at` never moves, and an error is not overwritten by a later one.
    Action.COMPLETE_BATCH: Rule(UNFINISHED, participle="completed", goes_to=Status.DONE, leaves_queue=True),
    Action.HANDLE_ERROR: Rule(UNFINISHED, participle="stopped by an error", goes_to=Status.ERROR, leaves_queue=True),
    # A pause must not lose the progress of a caller that was about to report it.
    Action.UPDATE_PROGRESS: Rule(frozenset({Status.RUNNING, Status.PAUSED}), participle="updated with progress"),
    # Only the queue has an order.
    Action.MOVE_BATCH: Rule(frozenset({Status.QUEUED}), participle="moved"),
    # Whatever its status: the priority counts when the batch is queued the next time.
    Action.SET_PRIORITY: Rule(ANY),
    Action.RENAME_BATCH: Rule(ANY),
    # What is wrong may be wrong in any status.
    Action.REPAIR_BATCH: Rule(ANY),
    # While queued or running, the pending profiles come first.
    Action.RETRY_FAILED: Rule(
        frozenset({Status.DONE, Status.PAUSED, Status.ERROR}),
        participle="retried",
        goes_to=Status.QUEUED,
        label="Retry failed",
        success="“{}” was queued to check its failed profiles again.",
        needs_failures=True,
    ),
    Action.REPEAT_BATCH: Rule(ANY, label="Repeat", success="A repeat of “{}” was queued."),
    # A worker is at work on a running one: pause it first.
    Action.DELETE_BATCH: Rule(
        ANY - {Status.RUNNING}, participle="deleted", label="Delete", success="“{}” was deleted.", leaves_queue=True
    ),
}

#: What a batch's status says against an action that is not allowed from it.
CODE_BY_STATUS: Mapping[str, Code] = {
    Status.QUEUED: Code.ALREADY_QUEUED,
    Status.RUNNING: Code.ALREADY_RUNNING,
    Status.PAUSED: Code.NOT_QUEUED,
    Status.DONE: Code.FINISHED,
    Status.ERROR: Code.FINISHED,
}


def require_allowed(action: Action, batch: Batch) -> None:
    """Raises Refused where the action is not allowed from the batch's status."""
    rule = RULES[action]
    if batch.status in rule.allowed_from:
        return
    *others, last = [status.value for status in Status if status in rule.allowed_from]
    allowed = f"{', '.join(others)} or {last}" if others else last
    message = f"“{batch}” is {batch.status}. Only a batch that is {allowed} can be {rule.participle}."
    raise Refused(CODE_BY_STATUS[batch.status], message)
