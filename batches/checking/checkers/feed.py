"""The checker "feed": fetches a profile's feed, finds it through the page if need be, and reads its stories."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Self

from batches.limits import MAX_VALIDATOR

from .base import CheckResult, FetchError, ProfileToCheck, Story
from .document import to_utf8
from .fetch import FetchingChecker, Response
from .page import find_feed, is_html
from .parse import InvalidFeed, read_quickly, read_thoroughly
from .stories import make_stories

# Documents up to this size are read in the event loop: a thread's round trip takes longer. Larger ones would keep the
# loop from renewing the run's lease.
MAX_BYTES_IN_LOOP = 200_000
# Few, because each may hold a document of megabytes and its tree.
PARSER_THREADS = 2

# Part of every fingerprint. Change it when documents are read differently, so that all are read again.
READER = b"reader 1"

GONE = frozenset({404, 410})
# Sent back as a header's value, so it must not be anything else.
VALIDATOR = re.compile(rf"[!-~](?:[ -~]{{0,{MAX_VALIDATOR - 2}}}[!-~])?")


class FeedChecker(FetchingChecker):
    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(PARSER_THREADS, "parser")
        return await super().__aenter__()

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult:
        response, feed_url = await self._fetch_feed_or_page(profile)
        if response.status == 304:
            return CheckResult(True, http_status=304)
        if compute_fingerprint(response) == profile.fingerprint:
            return make_result(response, (), feed_url)
        document = to_utf8(response.body, response.charset)
        if not is_html(document, response.headers.get("Content-Type", "")):
            return await self._read(response, document, feed_url)
        feed_url = await self._find_feed(document, response.url)
        if feed_url is None:
            raise FetchError("the page declares no feed", response.status)
        try:
            response = await self.fetch(feed_url)
            return await self._read(response, to_utf8(response.body, response.charset), feed_url)
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

    async def _read(self, response: Response, document: bytes, feed_url: str | None) -> CheckResult:
        try:
            feed = read_quickly(document) if len(document) <= MAX_BYTES_IN_LOOP else None
            if feed is None:
                feed = await asyncio.get_running_loop().run_in_executor(self._threads, read_thoroughly, document)
        except InvalidFeed:
            raise FetchError("the response is not a feed", response.status) from None
        return make_result(response, make_stories(feed, response.url), feed_url)

    async def _find_feed(self, document: bytes, url: str) -> str | None:
        if len(document) <= MAX_BYTES_IN_LOOP:
            return find_feed(document, url)
        return await asyncio.get_running_loop().run_in_executor(self._threads, find_feed, document, url)


def make_result(response: Response, stories: Sequence[Story], feed_url: str | None) -> CheckResult:
    return CheckResult(
        ok=True,
        http_status=response.status,
        stories=stories,
        feed_url=feed_url,
        etag=read_validator(response.headers, "ETag"),
        last_modified=read_validator(response.headers, "Last-Modified"),
        fingerprint=compute_fingerprint(response),
    )


def compute_fingerprint(response: Response) -> str:
    """Equal for the same document, read in the same way.

    Most servers send no ETag and the same document again: nothing of it needs to be read, compared or stored. Stored in
    the transaction that stores the document's stories, so that none of them is missed.
    """
    return blake2b(response.body, digest_size=16, key=response.charset.encode()[:64], person=READER).hexdigest()


def read_validator(headers: Mapping[str, str], name: str) -> str:
    """A header to send back with the next check, or empty if it cannot be sent."""
    value = headers.get(name, "")
    return value if VALIDATOR.fullmatch(value) else ""
