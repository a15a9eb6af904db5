"""Refusals: expected outcomes of a call that changed nothing."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Literal, ParamSpec, TypeVar

from django.utils.translation import gettext_noop as _

from batches.limits import MAX_WANTED
from batches.text import Sentence, clean_text

P = ParamSpec("P")
R = TypeVar("R")


NO_BATCH = _("No batch has the ID %(id)s.")
NO_LIST = _("No list has the ID %(id)s.")
NO_PROFILE = _("No profile has the ID %(id)s.")
NO_FEED = _("No feed has the ID %(id)s.")
NO_SUBSCRIPTION = _("No subscription has the ID %(id)s.")
NO_REDIRECT = _("No proposed redirect has the ID %(id)s.")


class Code(StrEnum):
    """The reasons for refusals."""

    NOT_FOUND = "not_found"
    ALREADY_RUNNING = "already_running"
    ALREADY_QUEUED = "already_queued"
    NOT_QUEUED = "not_queued"
    FINISHED = "finished"
    ANOTHER_RUNNING = "another_running"
    QUEUE_HELD = "queue_held"
    STALE_VERSION = "stale_version"
    NOTHING_TO_RETRY = "nothing_to_retry"
    NOTHING_TO_UNDO = "nothing_to_undo"
    BAD_PROGRESS = "bad_progress"
    BAD_VALUE = "bad_value"
    FENCED = "fenced"
    NOT_FINISHED = "not_finished"
    ALREADY_EXISTS = "already_exists"
    TOO_MANY_REMOVALS = "too_many_removals"
    BEING_ADDED = "being_added"
    BEING_EDITED = "being_edited"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Falsy, with a code for programs and an English sentence for people, which a page can translate."""

    code: Code
    message: str

    def __bool__(self) -> Literal[False]:
        return False

    def __str__(self) -> str:
        return self.message


class Refused(Exception):
    """Carries a refusal out of a transaction, so that it is rolled back."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(code, message)


class NotFound(Refused):
    def __init__(self, wanted: object, sentence: str) -> None:
        super().__init__(Code.NOT_FOUND, Sentence(sentence, id=repr(clean_text(wanted, MAX_WANTED))))


class OrderChanged(Refused):
    def __init__(self) -> None:
        super().__init__(Code.STALE_VERSION, Sentence("The queue has changed. Check the new order and try again."))


class Fenced(Refused):
    def __init__(self) -> None:
        message = Sentence("This run is over: the batch was paused, finished or taken over by another worker.")
        super().__init__(Code.FENCED, message)


def require_granted(outcome: R | Refusal) -> R:
    """The outcome of a call of the manager. Raises Refused if it is a refusal."""
    if isinstance(outcome, Refusal):
        raise Refused(outcome.code, outcome.message)
    return outcome


def refusable(call: Callable[P, R]) -> Callable[P, R | Refusal]:
    """Return the refusal of a raised `Refused`, which is an expected outcome for the caller."""

    @wraps(call)
    def call_or_refuse(*args: P.args, **kwargs: P.kwargs) -> R | Refusal:
        try:
            return call(*args, **kwargs)
        except Refused as refused:
            return refused.refusal

    return call_or_refuse


def at_once(prepare: Callable[P, AbstractContextManager[Callable[[], R]]]) -> Callable[P, R | Refusal]:
    """The whole call of which this is the first half. It yields the second half."""

    @wraps(prepare)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with prepare(*args, **kwargs) as complete:
            return complete()

    return refusable(call)
