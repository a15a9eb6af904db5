"""Runs blocking calls in separate threads: a mail server that hangs must not keep a worker from stopping."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(call: Callable[[], T]) -> T:
    """The result of a call in a separate thread, which continues if the caller is cancelled."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # raised where the result is awaited
            future.set_exception(error)

    Thread(target=run, name="message", daemon=True).start()
    return await asyncio.wrap_future(future)
