"""Checkers that do nothing: what is left is the work of the queue."""

import asyncio

from batches.checking.checkers.base import Checker, CheckResult, ProfileToCheck


class NoopChecker(Checker):
    async def check(self, profile: ProfileToCheck) -> CheckResult:
        return CheckResult(True)


class WaitingChecker(Checker):
    """As long as a site takes that answers soon."""

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        await asyncio.sleep(0.05)
        return CheckResult(True)
