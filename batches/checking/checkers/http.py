"""The checker "http": does the address answer?"""

from __future__ import annotations

from time import perf_counter
from typing import Self

from batches.conf import Config

from .base import Checker, CheckResult, ProfileToCheck
from .fetch import Fetcher, FetchError


class HttpChecker(Checker):
    """A check is ok when the final answer, after redirects, is 2xx. No body is read."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._fetcher = Fetcher(config)

    async def __aenter__(self) -> Self:
        await self._fetcher.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._fetcher.__aexit__(*exc_info)

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        started = perf_counter()
        try:
            answer = await self._fetcher.fetch(profile.url, read_body=False)
        except FetchError as error:
            return CheckResult(False, str(error), error.http_status, perf_counter() - started)
        return CheckResult(True, http_status=answer.status, duration=perf_counter() - started)
