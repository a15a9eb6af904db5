"""Two identical calls at the same instant from two processes: their initial state and the expected results."""

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
from batches.models import Batch, BatchProfile, Queue
from batches.queue.refusals import Code, Refusal

#: Seconds by which each COMMIT is delayed. A call takes two or three milliseconds, so the two would rarely overlap.
SLOWNESS = 0.005
#: Seconds between the order and the call, so that both processes can read the order in time.
HEAD_START = 0.003

YES, NOTHING, RAISED = "yes", "nothing", "raised"

#: The name of a call of the manager, its positional arguments, and its keyword arguments.
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Pair:
    """The state and the two calls, their expected results in any order, and the number of new audit log lines."""

    prepare: Callable[[], Sequence[Call]]
    results: Sequence[str]
    lines: int


def make_calls(link: Connection) -> None:
    """Make each call at the instant that comes with it, until "stop" arrives."""
    _slow_commits()
    manager = BatchManager(actor="caller")
    while (order := link.recv()) != "stop":
        name, arguments, named, instant = order
        call = _create_batch if name == "insert" else getattr(manager, name)
        while time.monotonic() < instant:
            pass
        try:
            result = _describe(call(*arguments, **named))
        except Exception as error:
            result = f"{RAISED} {type(error).__name__}: {error}"
        link.send(("returned", time.monotonic(), result))


def _slow_commits() -> None:
    commit = BaseDatabaseWrapper._commit

    def late(self: BaseDatabaseWrapper) -> Any:
        time.sleep(SLOWNESS)
        return commit(self)

    BaseDatabaseWrapper._commit = late


def _describe(result: Any) -> str:
    if isinstance(result, Refusal):
        return result.code.value
    return YES if result else NOTHING


def _create_batch(name: str) -> Batch:
    return Batch.objects.create(name=name)


# The initial state of a pair. The harness itself creates it, without a mutant.

manager = BatchManager(actor="harness")
URLS = [f"https://example.org/{number}" for number in range(3)]


def _make_in_status(status: str) -> UUID:
    """A batch of three profiles in this status: one ok, one failed, one pending. Two other batches are queued."""
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
    steps: dict[str, list[Callable[[UUID], Any]]] = {
        "running": [],
        "paused": [manager.pause_batch],
        "done": [manager.complete_batch],
        "error": [lambda pk: manager.handle_error(pk, "It broke.")],
        "queued": [manager.pause_batch, manager.queue_batch],
    }
    for change in steps[status]:
        assert change(batch.pk)
    _make_waiting(2)
    return batch.pk


def _make_waiting(count: int) -> list[UUID]:
    """Queue more batches, in random order."""
    pks = [Batch.objects.create(name=f"beside {number}").pk for number in range(count)]
    for pk in pks:
        assert manager.move_batch(pk, random.randint(1, count))
    return pks


def _call_twice(status: str, name: str, *arguments: Any) -> Callable[[], Sequence[Call]]:
    return lambda: [(name, (_make_in_status(status), *arguments), {})] * 2


def _move_with_version() -> Sequence[Call]:
    pk = _make_in_status("queued")
    manager.move_batch(pk, 3)
    return [("move_batch", (pk, 1), {"expected_version": Queue.objects.get().version})] * 2


def _call_on_two(status: str, name: str, *arguments: Any) -> Callable[[], Sequence[Call]]:
    def prepare() -> Sequence[Call]:
        pks = _make_waiting(2)
        if status == "paused":
            assert all(manager.pause_batch(pk) for pk in pks)
        _make_waiting(3)
        return [(name, (pk, *arguments), {}) for pk in pks]

    return prepare


def _call_queue(name: str, *arguments: Any) -> Callable[[], Sequence[Call]]:
    def prepare() -> Sequence[Call]:
        _make_waiting(3)
        return [(name, arguments, {})] * 2

    return prepare


def _retry_the_failed_one() -> Sequence[Call]:
    pk = _make_in_status("done")
    failed = BatchProfile.objects.get(batch=pk, status=BatchProfile.Status.FAILED).profile_id
    return [("retry_failed", (pk,), {"profiles": [failed]})] * 2


def _hold_and_stop() -> Sequence[Call]:
    _make_in_status("running")
    return [("hold_queue", ("why",), {"stop_running": True})] * 2


def _release() -> Sequence[Call]:
    manager.hold_queue("why")
    return [("release_queue", (), {})] * 2


def _claim_started() -> Sequence[Call]:
    [pk] = _make_waiting(1)
    assert manager.start_batch(pk)
    return [("claim_run", ("worker",), {})] * 2


def _interrupt() -> Sequence[Call]:
    _make_in_status("running")
    [pk] = _make_waiting(1)
    return [("start_batch", (pk,), {"preempt": True})] * 2


def _move_to_the_head() -> Sequence[Call]:
    pk = _make_in_status("queued")
    assert manager.move_batch(pk, 3)
    return [("move_batch", (pk, 1), {})] * 2


PAIRS = {
    "start a queued one": Pair(_call_twice("queued", "start_batch"), [YES, Code.ALREADY_RUNNING], 1),
    "start a paused one": Pair(_call_twice("paused", "start_batch"), [YES, Code.ALREADY_RUNNING], 1),
    "start two": Pair(_call_on_two("queued", "start_batch"), [YES, Code.ANOTHER_RUNNING], 1),
    "interrupt": Pair(_interrupt, [YES, Code.ALREADY_RUNNING], 2),
    "pause": Pair(_call_twice("running", "pause_batch"), [YES, YES], 1),
    "complete": Pair(_call_twice("running", "complete_batch"), [YES, Code.FINISHED], 1),
    "fail": Pair(_call_twice("running", "handle_error", "It broke."), [YES, Code.FINISHED], 1),
    "retry": Pair(_call_twice("done", "retry_failed"), [YES, Code.ALREADY_QUEUED], 1),
    "retry by reason": Pair(_call_twice("done", "retry_failed", ["No."]), [YES, Code.ALREADY_QUEUED], 1),
    "retry one profile": Pair(_retry_the_failed_one, [YES, Code.ALREADY_QUEUED], 1),
    "delete": Pair(_call_twice("done", "delete_batch"), [YES, Code.NOT_FOUND], 1),
    "repeat": Pair(_call_twice("done", "repeat_batch"), [YES, YES], 2),
    "queue a done one": Pair(_call_twice("done", "queue_batch"), [YES, YES], 1),
    "queue two": Pair(_call_on_two("paused", "queue_batch"), [YES, YES], 2),
    "promote": Pair(_call_queue("promote_next_batch"), [YES, NOTHING], 1),
    "claim": Pair(_call_queue("claim_run", "worker"), [YES, NOTHING], 1),
    "claim a started one": Pair(_claim_started, [YES, NOTHING], 1),
    "move": Pair(_move_to_the_head, [YES, YES], 1),
    "move with a version": Pair(_move_with_version, [YES, Code.STALE_VERSION], 1),
    "set the priority": Pair(_call_twice("queued", "set_priority", 5), [YES, YES], 1),
    "hold": Pair(_call_queue("hold_queue", "why"), [YES, YES], 1),
    "undo": Pair(_call_twice("paused", "undo_change"), [YES, Code.NOTHING_TO_UNDO], 1),
    "hold and stop": Pair(_hold_and_stop, [YES, YES], 2),
    "release": Pair(_release, [YES, YES], 1),
    "insert": Pair(_call_queue("insert", "new"), [YES, YES], 2),
}
