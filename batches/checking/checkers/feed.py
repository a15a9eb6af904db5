"""The checker "feed": fetches a profile's feed, finds it through the page if need be, and reads its stories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Self

from batches.limits import MAX_VALIDATOR

from .base import CheckResult, FetchError, ProfileToCheck
from .fetch import FetchingChecker, Response
from .parsers import Parsers
from .reading import Body, Reading, Unreadable

GONE = frozenset({404, 410})
# Sent back as a header's value, so it must not be anything else.
VALIDATOR = re.compile(rf"[!-~](?:[ -~]{{0,{MAX_VALIDATOR - 2}}}[!-~])?")


class FeedChecker(FetchingChecker):
    async def __aenter__(self) -> Self:
        self._parsers = Parsers()
        return await super().__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        self._parsers.close()

    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult:
        response, feed_url = await self._fetch_feed_or_page(profile)
        result = await self._evaluate(profile, response, feed_url)
        is_of_remembered_feed = profile.feed_url and feed_url is None
        return result if is_of_remembered_feed else replace(result, moved_to=response.moved_to)

    async def _evaluate(self, profile: ProfileToCheck, response: Response, feed_url: str | None) -> CheckResult:
        if response.status == 304:
            return make_unchanged(response)
        body = make_body(response, self.config.max_body)
        fingerprint = await self._parsers.compute_fingerprint(body)
        if fingerprint == profile.fingerprint:
            return make_result(response, Reading(), fingerprint, feed_url)
        reading = await self._read(body, response)
        if not reading.is_page:
            return make_result(response, reading, fingerprint, feed_url)
        if not reading.feeds:
            raise FetchError("the page declares no feed", response.status)
        return await self._fetch_declared(reading.feeds[0])

    async def _fetch_declared(self, feed_url: str) -> CheckResult:
        try:
            response = await self.fetch(feed_url)
            body = make_body(response, self.config.max_body)._replace(is_feed=True)
            fingerprint = await self._parsers.compute_fingerprint(body)
            return make_result(response, await self._read(body, response), fingerprint, feed_url)
        except FetchError as error:
            raise FetchError(f"its feed: {error}", error.http_status) from error

    async def _fetch_feed_or_page(self, profile: ProfileToCheck) -> tuple[Response, str | None]:
        """The response of the feed or else of the page, and the feed address to remember (None: no change)."""
        remembered = {"If-None-Match": profile.etag, "If-Modified-Since": profile.last_modified}
        validators = {name: value for name, value in remembered.items() if value}
        try:
            return await self.fetch(profile.feed_url or profile.url, validators), None
        except FetchError as error:
            if not profile.feed_url or error.http_status not in GONE:
                raise
        # The feed has moved, and the page knows where. The validators are the old feed's.
        return await self.fetch(profile.url), ""

    async def _read(self, body: Body, response: Response) -> Reading:
        try:
            return await self._parsers.read(body)
        except Unreadable as error:
            raise FetchError(str(error), response.status) from None


def make_body(response: Response, limit: int) -> Body:
    if response.is_cut:
        raise FetchError(f"the body is larger than {limit / 1e6:g} MB", response.status)
    return Body(response.body, response.url, response.charset, response.headers.get("Content-Type", ""))


def make_unchanged(response: Response) -> CheckResult:
    """For a 304. It may have new validators, which replace the remembered ones (RFC 9111, 4.3.4)."""
    return CheckResult(
        ok=True,
        http_status=response.status,
        etag=read_validator(response.headers, "ETag") or None,
        last_modified=read_validator(response.headers, "Last-Modified") or None,
    )


def make_result(response: Response, reading: Reading, fingerprint: str, feed_url: str | None) -> CheckResult:
    return CheckResult(
        ok=True,
        http_status=response.status,
        stories=reading.stories,
        feed_url=feed_url,
        etag=read_validator(response.headers, "ETag"),
        last_modified=read_validator(response.headers, "Last-Modified"),
        fingerprint=fingerprint,
    )


def read_validator(headers: Mapping[str, str], name: str) -> str:
    """A header to send back with the next check, or empty if it cannot be sent."""
    value = headers.get(name, "")
    return value if VALIDATOR.fullmatch(value) else ""
