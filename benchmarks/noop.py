"""Checkers that do nothing, so that only the queue works."""

import asyncio

from batches.checking.checkers.base import Checker, CheckResult, ProfileToCheck


class NoopChecker(Checker):
    async def check(self, profile: ProfileToCheck) -> CheckResult:
        return CheckResult(True)


class WaitingChecker(Checker):
    """Waits as long as a fast site takes to respond."""

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        await asyncio.sleep(0.05)
        return CheckResult(True)
