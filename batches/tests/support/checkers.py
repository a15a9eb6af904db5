"""Checkers that do one thing each, for the settings of tests."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import ClassVar

from batches.checking.checkers.base import Checker, CheckResult

OK = CheckResult(ok=True, http_status=200)


class Scripted(Checker):
    """Runs a test's own function, in the test's process."""

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
    """Kills its worker."""

    async def check(self, profile):
        os.kill(os.getpid(), signal.SIGKILL)


class Unready(Checker):
    """Fails to start."""

    async def __aenter__(self):
        raise ConnectionError("The service does not know us.")

    async def check(self, profile):
        return OK


class NeverReady(Effortless):
    """Never starts."""

    async def __aenter__(self):
        await asyncio.Event().wait()


class Hung(Checker):
    """Waits in a thread that nothing can end, as a lookup of a name does."""

    async def check(self, profile):
        logging.getLogger("batches").warning("A thread hangs")
        await asyncio.to_thread(threading.Event().wait)
        return OK


#: Their names in the settings of tests.
NAMES = {
    checker.__name__.lower(): f"{__name__}.{checker.__name__}"
    for checker in (Scripted, Effortless, Endless, Deadly, Unready, NeverReady, Hung)
}
