"""Event loops of tests, and their time, which a test controls and need not wait for."""

import asyncio
from contextlib import asynccontextmanager
from functools import wraps
from inspect import Signature, signature


class Time:
    def __init__(self, loop):
        self.now = 100.0
        loop.time = lambda: self.now

    async def pass_by(self, seconds=0.0):
        """Call the timers that are due by then, and let all tasks react."""
        self.now += seconds
        for _ in range(10):
            await asyncio.sleep(0)


def put_forward(seconds):
    """Let this time pass at once by the clock of the running event loop, but not by that of libcurl."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds


def asynchronous(test):
    """Runs a test in its own event loop."""

    @wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run


def with_opened(open_value):
    """Runs a test in its own event loop. Its first argument is what this opens there, the others are fixtures."""

    def decorate(test):
        @wraps(test)
        @asynchronous
        async def run(**fixtures):
            async with open_value() as value:
                await test(value, **fixtures)

        run.__signature__ = Signature(list(signature(test).parameters.values())[1:])
        return run

    return decorate


@with_opened
@asynccontextmanager
async def in_time():
    yield Time(asyncio.get_running_loop())
