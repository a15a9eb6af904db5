"""Checkers that do one thing each. Settings name them as `batches.tests.support.checkers.<class>`."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import ClassVar

from batches.checking.checkers.base import Checker, CheckResult

OK = CheckResult(ok=True, http_status=200)


class Scripted(Checker):
    """Does what the test says, in the test's own process."""

    script: ClassVar[Callable[..., Awaitable[CheckResult]]]

    async def check(self, profile):
        return await type(self).script(profile)


class Effortless(Checker):
    async def check(self, profile):
        return OK


class Endless(Checker):
    async def check(self, profile):
        await asyncio.Event().wait()


class Deadly(Checker):
    """Takes its worker with it."""

    async def check(self, profile):
        os.kill(os.getpid(), signal.SIGKILL)


class Unready(Checker):
    """Cannot be set up."""

    async def __aenter__(self):
        raise ConnectionError("The service does not know us.")

    async def check(self, profile):
        return OK


class NeverReady(Effortless):
    """Its set-up does not end."""

    async def __aenter__(self):
        await asyncio.Event().wait()


#: Their names in the settings of tests.
NAMES = {
    checker.__name__.lower(): f"{__name__}.{checker.__name__}"
    for checker in (Scripted, Effortless, Endless, Deadly, Unready, NeverReady)
}
