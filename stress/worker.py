"""A real worker that reports its actions, and dies, freezes or loses a response according to its plan."""

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
    """The action (`act`) and its place: each `number`-th of these places, or after `seconds`."""

    act: str
    where: str
    number: int = 1
    seconds: float = 0.0


def plan_death(number: int) -> Plan:
    """Die, in turn, anywhere, just before a COMMIT, just after one, and with results that are not recorded."""
    where = (ANYWHERE, BEFORE_COMMIT, AFTER_COMMIT, BEFORE_RECORDING)[number % 4]
    return Plan("die", where, random.randint(1, 6), random.uniform(0, 0.15))


def work(link: Connection, plan: Plan | None = None, processes: int = 1) -> None:
    Instrument(link, plan).install()
    Worker(processes=processes).work()


@dataclass
class Instrument:
    """Wraps the calls of the manager and the commits of the connection without changing what they do."""

    link: Connection
    plan: Plan | None
    #: Whether the current transaction changes a batch: polling an empty queue does not count.
    changes: bool = False
    passed: int = 0
    was_frozen: bool = False
    timer: threading.Timer | None = None

    def install(self) -> None:
        wrap(BatchManager, "claim_run", self.claim_run)
        wrap(BatchManager, "record_results", self.record_results)
        wrap(BatchManager, "_log", self.log)
        wrap(BaseDatabaseWrapper, "_commit", self.commit)

    def claim_run(self, call: Callable[[], Any], *_: Any) -> Any:
        self.read_plans()
        claimed = call()
        if claimed is not None:
            self.report("claimed", str(claimed.batch.pk))
            if self.plan and self.plan.where == ANYWHERE and self.timer is None:
                self.start_timer(self.plan)
        return claimed

    def record_results(self, call: Callable[[], Any], manager: BatchManager, batch_id: Any, token: Any, *_: Any) -> Any:
        self.read_plans()
        self.changes = True
        audit.sign(token)
        if self.plan and self.plan.where == BEFORE_RECORDING:
            self.act(self.plan)
        result = call()
        if self.was_frozen:
            self.was_frozen = False
            self.report("late", bool(result))
        elif result:
            self.report("recorded")
        return result

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
            _signal_self(signal.SIGKILL)
        elif plan.act == "freeze":
            self.plan = None  # once
            # After an aimed freeze, the worker records results next.
            self.was_frozen = plan.where == BEFORE_RECORDING
            self.report("freezing")
            _signal_self(signal.SIGSTOP)
        else:
            self.report("lost")
            raise OperationalError("server closed the connection unexpectedly (the response to COMMIT is lost)")

    def read_plans(self) -> None:
        """Follow the latest plan from the harness."""
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

    def report(self, kind: str, *values: Any) -> None:
        self.link.send((kind, time.monotonic(), *values))


def _signal_self(number: int) -> None:
    """Signal this thread: another thread could handle a signal to the process while this one continues."""
    signal.pthread_kill(threading.get_ident(), number)


def wrap(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace `owner.name` by `wrapper(call, *its arguments)`."""
    original = getattr(owner, name)

    @wraps(original)
    def call(*arguments: Any, **keywords: Any) -> Any:
        return wrapper(lambda: original(*arguments, **keywords), *arguments)

    setattr(owner, name, call)
