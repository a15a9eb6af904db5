"""Threads for race tests. They close their database connections and pass exceptions on to the test."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from threading import Barrier, Event, Thread
from typing import Any, TypeVar

from django.db import connections

from .processes import wait_until
from .tables import run_sql

Result = TypeVar("Result")

# Longer than SQLite waits for a lock (20 s), shorter than a test may last.
TIMEOUT = 180.0


def in_thread(task: Callable[[], Result]) -> Future[Result]:
    """Starts `task` in a new thread. `.result(timeout)` waits for it and raises its exception.

    The thread closes its database connections first. The test needs `django_db(transaction=True)`, or the thread does
    not see what the test wrote.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            try:
                result = task()
            finally:
                connections.close_all()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    # A daemon, so that a task that hangs fails its test but does not block the end of the run.
    Thread(target=run, daemon=True).start()
    return future


def wait_for_lock(call: Future[Any]) -> None:
    """Waits until the call waits for a lock of PostgreSQL, or has ended."""
    wait_until(lambda: call.done() or run_sql("SELECT 1 FROM pg_locks WHERE NOT granted"))


class Gate:
    """Stops the first call of `owner.name` until it is opened: `arrived` says that the call waits there."""

    def __init__(self, monkeypatch: Any, owner: Any, name: str) -> None:
        self.arrived, self.may_go_on, function = Event(), Event(), getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.arrived.is_set():
                self.arrived.set()
                assert self.may_go_on.wait(TIMEOUT)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    def stop(self, task: Callable[[], Result]) -> Future[Result]:
        """Start `task` in a thread, and return when it waits at the gate."""
        future = in_thread(task)
        assert self.arrived.wait(TIMEOUT)
        return future

    def open(self) -> None:
        self.may_go_on.set()


def run_in_threads(tasks: Sequence[Callable[[], Any]], timeout: float = TIMEOUT) -> list[Any]:
    """Runs all tasks at once, each in its own thread, and returns their results in order.

    Waits for all of them before it raises the exception of the first. Raises TimeoutError after `timeout` seconds.
    """
    # Without it, the first task often ends before the last thread starts.
    barrier = Barrier(len(tasks))

    def run(task: Callable[[], Any]) -> Any:
        barrier.wait()
        return task()

    futures = [in_thread(partial(run, task)) for task in tasks]
    unfinished = wait(futures, timeout).not_done
    if unfinished:
        raise TimeoutError(f"{len(unfinished)} of {len(tasks)} threads are still running after {timeout} s.")
    return [future.result() for future in futures]
