"""Two identical calls at the same instant, from two processes: what each pair starts from, and how it has to end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from django.db.backends.base.base import BaseDatabaseWrapper

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.models import Batch, Queue
from batches.queue.refusals import Code, Refusal

#: Seconds that each COMMIT is late, so that the two really meet: a call alone is over in two or three milliseconds.
SLOWNESS = 0.005
#: Seconds from the order to the call, for both to have read it.
HEAD_START = 0.003

YES, NOTHING, RAISED = "yes", "nothing", "raised"

Call = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Makes the state of before and gives the two calls; both answers, in any order; lines they leave in the log."""

    prepare: Callable[[], Sequence[Call]]
    answers: Sequence[str]
    lines: int


def take_orders(link: Connection) -> None:
    """Make each call that is sent, at the instant that is sent with it. "stop" ends it."""
    _slow_commits()
    manager = BatchManager(actor="one of two")
    while (order := link.recv()) != "stop":
        name, arguments, instant = order
        call = _insert if name == "insert" else getattr(manager, name)
        while time.monotonic() < instant:
            pass
        try:
            answer = _in_a_word(call(*arguments))
        except Exception as error:
            answer = f"{RAISED} {type(error).__name__}: {error}"
        link.send(("answered", time.monotonic(), answer))


def _slow_commits() -> None:
    commit = BaseDatabaseWrapper._commit

    def late(self: BaseDatabaseWrapper) -> Any:
        time.sleep(SLOWNESS)
        return commit(self)

    BaseDatabaseWrapper._commit = late


def _in_a_word(answer: Any) -> str:
    if isinstance(answer, Refusal):
        return answer.code.value
    return YES if answer else NOTHING


def _insert(name: str) -> Batch:
    return Batch.objects.create(name=name)


# What a pair starts from. The harness's own process makes it, with the project as it is.

manager = BatchManager(actor="harness")
URLS = [f"https://example.org/{number}" for number in range(3)]


def _made(status: str) -> UUID:
    """A batch in this status, of three profiles, of which the first is ok and the second failed; two wait beside it."""
    batch = manager.create_batch("it", URLS)
    assert isinstance(batch, Batch)
    assert manager.start_batch(batch.pk)
    run = manager.claim_run("harness")
    assert run
    checked = list(batch.profiles.order_by("pk").values_list("profile_id", flat=True))[:2]
    results = [
        (pk, CheckResult(ok=ok, error="" if ok else "No.")) for pk, ok in zip(checked, (True, False), strict=True)
    ]
    assert manager.record_results(batch.pk, run.run_token, results)
    ways: dict[str, list[Callable[[UUID], Any]]] = {
        "running": [],
        "paused": [manager.pause_batch],
        "done": [manager.complete_batch],
        "error": [lambda pk: manager.handle_error(pk, "It broke.")],
        "queued": [manager.pause_batch, manager.queue_batch],
    }
    for change in ways[status]:
        assert change(batch.pk)
    _wait_in_any_order(2)
    return batch.pk


def _wait_in_any_order(count: int) -> list[UUID]:
    """So many further batches in the queue, in an order that is not that of their making."""
    pks = [Batch.objects.create(name=f"beside {number}").pk for number in range(count)]
    for pk in pks:
        assert manager.move_batch(pk, random.randint(1, count))
    return pks


def _twice(status: str, name: str, *arguments: Any) -> Callable[[], Sequence[Call]]:
    return lambda: [(name, (_made(status), *arguments))] * 2


def _move_with_version() -> Sequence[Call]:
    pk = _made("queued")
    manager.move_batch(pk, 3)
    return [("move_batch", (pk, 1, Queue.objects.get().version))] * 2


def _two_others(status: str, name: str, *arguments: Any) -> Callable[[], Sequence[Call]]:
    def prepare() -> Sequence[Call]:
        pks = _wait_in_any_order(2)
        if status == "paused":
            assert all(manager.pause_batch(pk) for pk in pks)
        _wait_in_any_order(3)
        return [(name, (pk, *arguments)) for pk in pks]

    return prepare


def _of_the_queue(name: str, *arguments: Any) -> Callable[[], Sequence[Call]]:
    def prepare() -> Sequence[Call]:
        _wait_in_any_order(3)
        return [(name, arguments)] * 2

    return prepare


def _release() -> Sequence[Call]:
    manager.hold_queue("why")
    return [("release_queue", ())] * 2


def _claim_what_was_started() -> Sequence[Call]:
    [pk] = _wait_in_any_order(1)
    assert manager.start_batch(pk)
    return [("claim_run", ("worker",))] * 2


def _move_to_the_head() -> Sequence[Call]:
    pk = _made("queued")
    assert manager.move_batch(pk, 3)
    return [("move_batch", (pk, 1))] * 2


PAIRS = {
    "start a queued one": Pair(_twice("queued", "start_batch"), [YES, Code.ALREADY_RUNNING], 1),
    "start a paused one": Pair(_twice("paused", "start_batch"), [YES, Code.ALREADY_RUNNING], 1),
    "start two": Pair(_two_others("queued", "start_batch"), [YES, Code.ANOTHER_RUNNING], 1),
    "pause": Pair(_twice("running", "pause_batch"), [YES, YES], 1),
    "complete": Pair(_twice("running", "complete_batch"), [YES, Code.FINISHED], 1),
    "fail": Pair(_twice("running", "handle_error", "It broke."), [YES, Code.FINISHED], 1),
    "retry": Pair(_twice("done", "retry_failed"), [YES, Code.ALREADY_QUEUED], 1),
    "delete": Pair(_twice("done", "delete_batch"), [YES, Code.NOT_FOUND], 1),
    "repeat": Pair(_twice("done", "repeat_batch"), [YES, YES], 2),
    "queue a done one": Pair(_twice("done", "queue_batch"), [YES, YES], 1),
    "queue two": Pair(_two_others("paused", "queue_batch"), [YES, YES], 2),
    "promote": Pair(_of_the_queue("promote_next_batch"), [YES, NOTHING], 1),
    "claim": Pair(_of_the_queue("claim_run", "worker"), [YES, NOTHING], 1),
    "claim a started one": Pair(_claim_what_was_started, [YES, NOTHING], 1),
    "move": Pair(_move_to_the_head, [YES, YES], 1),
    "move with a version": Pair(_move_with_version, [YES, Code.STALE_VERSION], 1),
    "set the priority": Pair(_twice("queued", "set_priority", 5), [YES, YES], 1),
    "hold": Pair(_of_the_queue("hold_queue", "why"), [YES, YES], 1),
    "release": Pair(_release, [YES, YES], 1),
    "insert": Pair(_of_the_queue("insert", "new"), [YES, YES], 2),
}
