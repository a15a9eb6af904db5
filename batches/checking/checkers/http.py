"""The checker "http" (does the address answer?), and the base of all checkers that fetch by HTTP."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from time import perf_counter
from typing import Self

from .base import Checker, CheckResult, FetchError, ProfileToCheck
from .fetch import Fetcher


class FetchingChecker(Checker):
    """A checker with a Fetcher. `fetch_result` makes a result without its duration, or raises FetchError."""

    async def __aenter__(self) -> Self:
        self._fetcher = await Fetcher(self.config).__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._fetcher.__aexit__(*exc_info)

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        started = perf_counter()
        try:
            result = await self.fetch_result(profile)
        except FetchError as error:
            result = CheckResult(False, str(error), error.http_status)
        return replace(result, duration=perf_counter() - started)

    @abstractmethod
    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult: ...


class HttpChecker(FetchingChecker):
    """A check is ok if the final response, after redirects, is 2xx. Reads no body."""

    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult:
        response = await self._fetcher.fetch(profile.url, read_body=False)
        return CheckResult(True, http_status=response.status)
