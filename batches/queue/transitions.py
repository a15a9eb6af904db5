"""The table of actions: the statuses that allow each action, its result, and its texts in the channels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.db.models import Q
from django.utils.translation import gettext_noop as _

from batches.limits import MAX_BULK
from batches.models import STATUS_WORDS, Action, Batch
from batches.text import Sentence, choose_plural, join

from .refusals import Code, Refused

Status = Batch.Status


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of one action.

    `goes_to` is the status after it (None: unchanged), which `BatchManager` writes; tests compare them. `participle`
    completes "can be …" in a refusal. `label` is its name for any batches, `name_button` its name for a single batch,
    `success` the message about a batch. In the statuses `changes_nothing_for` it is allowed but not offered. `cap` is
    the maximum number of batches in one bulk call.
    """

    allowed_from: frozenset[str]
    participle: str = ""
    goes_to: str | None = None
    label: str = ""
    name_button: Callable[[Batch], Sentence] | None = None
    success: str = ""
    changes_nothing_for: frozenset[str] = frozenset()
    needs_failures: bool = False
    leaves_queue: bool = False
    cap: int = MAX_BULK

    def label_of(self, batch: Batch) -> str:
        """The text of the action's button for this batch."""
        return self.name_button(batch) if self.name_button else self.label

    def describe_success(self, name: object) -> Sentence:
        return Sentence(self.success, batch=name)

    def is_offered(self, batch: Batch) -> bool:
        is_useful = bool(batch.failed_checks) or not self.needs_failures
        return is_useful and batch.status in self.allowed_from - self.changes_nothing_for

    @property
    def is_offered_for(self) -> Q:
        """`is_offered` as a condition for the database."""
        statuses = Q(status__in=self.allowed_from - self.changes_nothing_for)
        return statuses & Q(failed_checks__gt=0) if self.needs_failures else statuses


def name_queueing(batch: Batch) -> Sentence:
    """The button says what queueing does: only a done batch starts over."""
    if batch.status == Status.DONE:
        return Sentence("Recheck all")
    return Sentence("Continue") if batch.completed_profiles else Sentence("Add to queue")


def name_retry(batch: Batch) -> Sentence:
    return choose_plural("Recheck %(count)s failed", "Recheck %(count)s failed", count=batch.failed_checks)


ANY = frozenset(Status.values)
UNFINISHED = frozenset({Status.QUEUED, Status.RUNNING, Status.PAUSED})

#: Any other combination of action and status is refused and changes nothing.
RULES: Mapping[Action, Rule] = {
    # A queued batch moves to the end of its band, a done one is checked again. Pause a running one first.
    Action.QUEUE_BATCH: Rule(
        ANY - {Status.RUNNING},
        participle=Sentence("queued"),
        goes_to=Status.QUEUED,
        label=Sentence("Queue or recheck all"),
        name_button=name_queueing,
        success=_("“%(batch)s” was queued."),
        changes_nothing_for=frozenset({Status.QUEUED}),
    ),
    # Not from `error` or `done`, since queueing them clears their error and counters.
    Action.START_BATCH: Rule(
        frozenset({Status.QUEUED, Status.PAUSED}),
        participle=Sentence("started"),
        goes_to=Status.RUNNING,
        label=Sentence("Start now"),
        success=_("“%(batch)s” was started. A worker will begin shortly."),
        leaves_queue=True,
        cap=1,
    ),
    # A paused batch is already in the wanted status.
    Action.PAUSE_BATCH: Rule(
        UNFINISHED,
        participle=Sentence("paused"),
        goes_to=Status.PAUSED,
        label=Sentence("Pause"),
        success=_("“%(batch)s” was paused."),
        changes_nothing_for=frozenset({Status.PAUSED}),
        leaves_queue=True,
    ),
    # `completed_at` never changes, and a later error does not overwrite the first error.
    Action.COMPLETE_BATCH: Rule(UNFINISHED, participle=Sentence("completed"), goes_to=Status.DONE, leaves_queue=True),
    Action.HANDLE_ERROR: Rule(
        UNFINISHED, participle=Sentence("stopped by an error"), goes_to=Status.ERROR, leaves_queue=True
    ),
    # Also while paused, since the caller may report progress from before the pause.
    Action.UPDATE_PROGRESS: Rule(
        frozenset({Status.RUNNING, Status.PAUSED}), participle=Sentence("updated with progress")
    ),
    # Only the queue has an order.
    Action.MOVE_BATCH: Rule(frozenset({Status.QUEUED}), participle=Sentence("moved")),
    # In any status, since the priority applies the next time that the batch is queued.
    Action.SET_PRIORITY: Rule(ANY),
    Action.RENAME_BATCH: Rule(ANY),
    # Damage is possible in any status.
    Action.REPAIR_BATCH: Rule(ANY),
    # Not while queued or running, since pending profiles come first.
    Action.RETRY_FAILED: Rule(
        frozenset({Status.DONE, Status.PAUSED, Status.ERROR}),
        participle=Sentence("retried"),
        goes_to=Status.QUEUED,
        label=Sentence("Recheck failed"),
        name_button=name_retry,
        success=_("“%(batch)s” was queued to recheck its failed profiles."),
        needs_failures=True,
    ),
    Action.REPEAT_BATCH: Rule(ANY, label=Sentence("New run"), success=_("A new run of “%(batch)s” was queued.")),
    # The log determines whether there is a change to undo.
    Action.UNDO_CHANGE: Rule(ANY, label=Sentence("Undo"), success=_("The last change of “%(batch)s” was undone.")),
    # A worker is checking a running batch. Pause it first.
    Action.DELETE_BATCH: Rule(
        ANY - {Status.RUNNING},
        participle=Sentence("deleted"),
        label=Sentence("Delete"),
        success=_("“%(batch)s” was deleted."),
        leaves_queue=True,
    ),
}

#: The code of a refusal by the status of the batch.
CODE_BY_STATUS: Mapping[str, Code] = {
    Status.QUEUED: Code.ALREADY_QUEUED,
    Status.RUNNING: Code.ALREADY_RUNNING,
    Status.PAUSED: Code.NOT_QUEUED,
    Status.DONE: Code.FINISHED,
    Status.ERROR: Code.FINISHED,
}


def require_allowed(action: Action, batch: Batch) -> None:
    """Raises Refused if the action is not allowed in the status of the batch."""
    rule = RULES[action]
    if batch.status in rule.allowed_from:
        return
    message = Sentence(
        "“%(batch)s” is %(status)s. Only a batch that is %(allowed)s can be %(participle)s.",
        batch=batch,
        status=STATUS_WORDS[batch.status],
        allowed=join_statuses(rule.allowed_from),
        participle=rule.participle,
    )
    raise Refused(CODE_BY_STATUS[batch.status], message)


def join_statuses(statuses: frozenset[str]) -> Sentence:
    """ "queued, running or paused"."""
    *others, last = [STATUS_WORDS[status] for status in Status if status in statuses]
    if not others:
        return last
    return Sentence("%(listed)s or %(last)s", listed=join(others, ", "), last=last)
