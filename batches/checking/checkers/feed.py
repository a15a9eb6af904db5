"""The checker "feed": fetches a profile's feed, finds it through the page if need be, and shows its stories."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from time import perf_counter
from typing import Self

from batches.conf import Config

from .base import Checker, CheckResult, ProfileToCheck, Story
from .document import to_utf8
from .fetch import Fetcher, FetchError, Response
from .page import find_feed, is_html
from .parse import Feed, InvalidFeed, read_quickly, read_thoroughly
from .stories import stories_of

# A document up to this size is read in the event loop: a thread's round trip takes longer than that. Larger ones are
# not, so that the loop goes on to renew the run's lease.
MAX_BYTES_IN_LOOP = 200_000
# Few, since each may hold a document of megabytes and its tree.
PARSER_THREADS = 2

# Part of every fingerprint: to be changed when documents are read differently, so that all are read anew.
READER = b"reader 1"

GONE = frozenset({404, 410})
# It is sent back as a header's value, and must be nothing else.
VALIDATOR = re.compile(r"[!-~](?:[ -~]{0,498}[!-~])?")


class FeedChecker(Checker):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._fetcher = Fetcher(config)

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(PARSER_THREADS, "parser")
        await self._fetcher.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._fetcher.__aexit__(*exc_info)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        started = perf_counter()
        try:
            return await self._check(profile, started)
        except FetchError as error:
            return failure(str(error), error.http_status, started)

    async def _check(self, profile: ProfileToCheck, started: float) -> CheckResult:
        answer, feed_url = await self._ask(profile)
        if answer.status == 304:
            return CheckResult(True, http_status=304, duration=perf_counter() - started)
        if fingerprint(answer) == profile.fingerprint:
            return self._success(answer, (), feed_url, started)
        document = to_utf8(answer.body, answer.charset)
        if is_html(document, answer.content_type):
            feed_url = await self._find(document, answer.url)
            if feed_url is None:
                return failure("the page declares no feed", answer.status, started)
            answer = await self._ask_for_declared(feed_url)
            document = to_utf8(answer.body, answer.charset)
        try:
            feed = await self._read(document)
        except InvalidFeed as error:
            return failure(f"its feed: {error}" if feed_url else str(error), answer.status, started)
        return self._success(answer, stories_of(feed, answer.url), feed_url, started)

    def _success(self, answer: Response, stories: Sequence[Story], feed_url: str | None, started: float) -> CheckResult:
        return CheckResult(
            ok=True,
            http_status=answer.status,
            stories=stories,
            feed_url=feed_url,
            etag=validator(answer.headers, "ETag"),
            last_modified=validator(answer.headers, "Last-Modified"),
            fingerprint=fingerprint(answer),
            duration=perf_counter() - started,
        )

    async def _ask(self, profile: ProfileToCheck) -> tuple[Response, str | None]:
        """The answer of the feed or else of the page, and the feed address to remember (None: as it was)."""
        validators = {}
        if profile.etag:
            validators["If-None-Match"] = profile.etag
        if profile.last_modified:
            validators["If-Modified-Since"] = profile.last_modified
        try:
            return await self._fetcher.fetch(profile.feed_url or profile.url, validators), None
        except FetchError as error:
            if not profile.feed_url or error.http_status not in GONE:
                raise
        # The feed has moved: the page says where to. The validators are the old feed's.
        return await self._fetcher.fetch(profile.url), ""

    async def _ask_for_declared(self, feed_url: str) -> Response:
        try:
            return await self._fetcher.fetch(feed_url)
        except FetchError as error:
            raise FetchError(f"its feed: {error}", error.http_status) from error

    async def _read(self, document: bytes) -> Feed:
        feed = read_quickly(document) if len(document) <= MAX_BYTES_IN_LOOP else None
        if feed is None:
            feed = await asyncio.get_running_loop().run_in_executor(self._threads, read_thoroughly, document)
        return feed

    async def _find(self, document: bytes, address: str) -> str | None:
        if len(document) <= MAX_BYTES_IN_LOOP:
            return find_feed(document, address)
        return await asyncio.get_running_loop().run_in_executor(self._threads, find_feed, document, address)


def failure(sentence: str, http_status: int | None, started: float) -> CheckResult:
    return CheckResult(False, sentence, http_status, perf_counter() - started)


def fingerprint(answer: Response) -> str:
    """The same for the same document, read in the same way.

    Most servers know no ETag and send the same document again: then nothing of it need be read, compared or stored. It
    is remembered in the transaction that stores the document's stories, so that none of them can be missed.
    """
    return blake2b(answer.body, digest_size=16, key=answer.charset.encode()[:64], person=READER).hexdigest()


def validator(headers: Mapping[str, str], name: str) -> str:
    """A header to send back with the next check, or empty where it cannot be."""
    value = headers.get(name, "")
    return value if VALIDATOR.fullmatch(value) else ""
