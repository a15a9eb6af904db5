"""The time of an event loop, controlled by a test, which need not wait."""

import asyncio
from collections.abc import Awaitable, Callable


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


def in_time(work: Callable[[Time], Awaitable[None]]) -> None:
    async def run() -> None:
        await work(Time(asyncio.get_running_loop()))

    asyncio.run(run())
