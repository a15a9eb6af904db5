"""A real worker that tells what it does, and that dies, freezes or loses an answer exactly where its plan says."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from multiprocessing.connection import Connection
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from batches.batch_manager import BatchManager
from batches.checking.worker import Worker

from . import audit

BEFORE_COMMIT, AFTER_COMMIT, BEFORE_RECORDING, ANYWHERE = (
    "before commit",
    "after commit",
    "before recording",
    "anywhere",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do (`act`), where, and at the how-maniest of these places, or after how many seconds."""

    act: str
    where: str
    number: int = 1
    seconds: float = 0.0


def death(number: int) -> Plan:
    """In turn: anywhere, just before a COMMIT, just after one."""
    where = (ANYWHERE, BEFORE_COMMIT, AFTER_COMMIT)[number % 3]
    return Plan("die", where, random.randint(1, 6), random.uniform(0, 0.15))


def work(link: Connection, plan: Plan | None = None) -> None:
    Instrument(link, plan).install()
    Worker().work()


@dataclass
class Instrument:
    """Stands around the calls of the manager and the commits of the connection; changes nothing of what they do."""

    link: Connection
    plan: Plan | None
    #: Whether the transaction under way changes a batch: an idle worker's looks are no places to die at.
    changes: bool = False
    passed: int = 0
    was_frozen: bool = False
    timer: threading.Timer | None = None

    def install(self) -> None:
        _around(BatchManager, "claim_run", self.claim_run)
        _around(BatchManager, "record_results", self.record_results)
        _around(BatchManager, "_log", self.log)
        _around(BaseDatabaseWrapper, "_commit", self.commit)

    def claim_run(self, call: Callable[[], Any], *_: Any) -> Any:
        self.obey()
        claimed = call()
        if claimed is not None:
            self.tell("claimed", str(claimed.batch.pk))
            if self.plan and self.plan.where == ANYWHERE and self.timer is None:
                self.start_timer(self.plan)
        return claimed

    def record_results(self, call: Callable[[], Any], manager: BatchManager, batch_id: Any, token: Any, *_: Any) -> Any:
        self.obey()
        self.changes = True
        audit.sign(token)
        if self.plan and self.plan.where == BEFORE_RECORDING:
            self.act(self.plan)
        answer = call()
        if self.was_frozen:
            self.was_frozen = False
            self.tell("late", bool(answer))
        elif answer:
            self.tell("recorded")
        return answer

    def log(self, call: Callable[[], Any], *_: Any) -> Any:
        self.changes = True
        return call()

    def commit(self, call: Callable[[], Any], *_: Any) -> Any:
        changes, self.changes = self.changes, False
        self.passed += changes
        plan = self.plan if changes and self.plan and self.passed % self.plan.number == 0 else None
        if plan and plan.where == BEFORE_COMMIT:
            self.act(plan)
        done = call()
        if plan and plan.where == AFTER_COMMIT:
            self.act(plan)
        return done

    def act(self, plan: Plan) -> None:
        if plan.act == "die":
            _to_myself(signal.SIGKILL)
        elif plan.act == "freeze":
            self.plan = None  # once
            # Where the freeze is aimed, the next thing that is done is recording.
            self.was_frozen = plan.where == BEFORE_RECORDING
            self.tell("freezing")
            _to_myself(signal.SIGSTOP)
        else:
            self.tell("lost")
            raise OperationalError("server closed the connection unexpectedly (the answer to COMMIT is lost)")

    def obey(self) -> None:
        """Take the plan that the harness has sent, if it has."""
        while self.link.poll():
            plan: Plan = self.link.recv()
            if plan.where == ANYWHERE:
                self.start_timer(plan)
            else:
                self.plan, self.passed = plan, 0

    def start_timer(self, plan: Plan) -> None:
        self.timer = threading.Timer(plan.seconds, self.act, [plan])
        self.timer.daemon = True
        self.timer.start()

    def tell(self, kind: str, *values: Any) -> None:
        self.link.send((kind, time.monotonic(), *values))


def _to_myself(number: int) -> None:
    """To this very thread: sent to the process, another one may take it while this one goes on for a moment."""
    signal.pthread_kill(threading.get_ident(), number)


def _around(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    """Have each call of `owner.name` go through `wrapper(call, *its arguments)`."""
    original = getattr(owner, name)

    @wraps(original)
    def call(*arguments: Any, **keywords: Any) -> Any:
        return wrapper(lambda: original(*arguments, **keywords), *arguments)

    setattr(owner, name, call)
