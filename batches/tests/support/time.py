"""Event loops of tests, and their time, which a test controls and need not wait for."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from inspect import Signature, signature
from typing import Any

Test = Callable[..., Any]


class Time:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = 100.0
        loop.time = lambda: self.now  # type: ignore[method-assign]

    async def pass_by(self, seconds: float = 0.0) -> None:
        """Call the timers that are due by then, and let all tasks react."""
        self.now += seconds
        for _ in range(10):
            await asyncio.sleep(0)


def put_forward(seconds: float) -> None:
    """Let this time pass at once by the clock of the running event loop, but not by that of libcurl."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds  # type: ignore[method-assign]


def asynchronous(test: Callable[..., Awaitable[None]]) -> Test:
    """Runs a test in its own event loop."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


def with_opened(open_value: Callable[[], AbstractAsyncContextManager[Any]]) -> Callable[[Test], Test]:
    """Runs a test in its own event loop. Its first argument is what this opens there, the others are fixtures."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Test:
        @wraps(test)
        @asynchronous
        async def run(**fixtures: Any) -> None:
            async with open_value() as value:
                await test(value, **fixtures)

        run.__signature__ = Signature(list(signature(test).parameters.values())[1:])
        return run

    return decorate


@with_opened
@asynccontextmanager
async def in_time() -> AsyncIterator[Time]:
    yield Time(asyncio.get_running_loop())
