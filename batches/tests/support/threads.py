"""Threads for race tests: they close their own database connections, and what they raise comes back to the test."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Barrier, Thread
from typing import Any, TypeVar

from django.db import connections

Result = TypeVar("Result")

# Longer than SQLite waits for a lock (20 s), shorter than a test may last.
TIMEOUT = 60.0


def in_thread(task: Callable[[], Result]) -> Future[Result]:
    """Starts `task` in a thread of its own; `.result(timeout)` waits for it, and raises what it raised.

    When the result is there, the thread's database connections are closed. The test needs
    `django_db(transaction=True)`: otherwise the thread sees nothing of what the test wrote.
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

    # A daemon: a task that hangs fails its test, and must not keep the whole run from ending.
    Thread(target=run, daemon=True).start()
    return future


def run_in_threads(tasks: Sequence[Callable[[], Any]], timeout: float = TIMEOUT) -> list[Any]:
    """Runs all tasks at once, each in a thread of its own, and gives their results in order.

    Waits for all of them before it raises what the first of them raised; TimeoutError after `timeout` seconds.
    """
    # Without it the first task is often over before the last thread has started.
    start = Barrier(len(tasks))

    def together(task: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            start.wait()
            return task()

        return run

    futures = [in_thread(together(task)) for task in tasks]
    unfinished = wait(futures, timeout).not_done
    if unfinished:
        raise TimeoutError(f"{len(unfinished)} of {len(tasks)} threads still run after {timeout} s.")
    return [future.result() for future in futures]
