"""Fetches strangers' addresses: guarded, polite, and bounded in time and memory."""

import asyncio
import random
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import responses
from typing import Self

from batches.conf import Config
from batches.lists.domains import domain_of_host

from .base import TOO_LATE, Checker, CheckResult, FetchError, NoAnswer, ProfileToCheck, Unreachable
from .client import Client, RawResponse, Transfer
from .clock import Clock, charged_seconds, not_charged
from .compression import Unpacked, choose_method, unpack
from .memory import SMALL_BYTES
from .politeness import parse_retry_after
from .target import Target, parse_url

ACCEPT = "application/atom+xml, application/rss+xml, application/feed+json, text/html;q=0.9, */*;q=0.8"

REDIRECTS = frozenset({301, 302, 303, 307, 308})
PERMANENT = frozenset({301, 308})
BUSY = frozenset({429, 503})
# The last five are Cloudflare's, for a site behind it that does not answer.
TRANSIENT = frozenset({408, 500, 502, 503, 504, 520, 521, 522, 523, 524})
PHRASES = {int(status): phrase for status, phrase in responses.items()} | {
    520: "Web Server Returned an Unknown Error",
    521: "Web Server Is Down",
    522: "Connection Timed Out",
    523: "Origin Is Unreachable",
    524: "A Timeout Occurred",
    525: "SSL Handshake Failed",
    526: "Invalid SSL Certificate",
}

# Seconds before the second attempt, doubled for each further attempt, with jitter so that attempts do not come in
# waves.
FIRST_BACKOFF = 0.5
# Smaller bodies are decompressed in the event loop: a thread's round trip takes as long.
SMALL_PACKED = 4 * 1024
# Most feeds are compressed to a fifth. If each waited for memory up to the limit, few could be decompressed at once.
USUAL_RATIO = 10


@dataclass(slots=True, weakref_slot=True)  # not frozen, which would take twice as long to create
class Response:
    """A final response: 2xx, or 304 to a conditional request. Its memory is released when it is deleted."""

    url: str  # of the last hop, without a fragment
    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    #: The body is longer than allowed.
    is_cut: bool = False
    #: The same as `url` if redirects led there and all of them were permanent, otherwise empty.
    moved_to: str = ""


class FetchingChecker(Checker):
    """The base of all checkers that fetch by HTTP, over one pool of connections."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        headers = [f"Accept: {ACCEPT}", "Accept-Encoding: gzip, deflate"]
        self._client = Client(config, headers, timeout=config.timeout, limit=config.max_body)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.__aexit__(*exc_info)

    def send_while(self, may_send: Callable[[], bool]) -> None:
        self._client.may_send = may_send

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        began = charged_seconds()
        try:
            result = await self.fetch_result(profile)
        except FetchError as error:
            is_unreachable = isinstance(error, Unreachable)
            result = CheckResult(False, str(error), error.http_status, is_unreachable=is_unreachable)
        return result._replace(duration=charged_seconds() - began)

    @abstractmethod
    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult:
        """Return the result without its duration. Raises FetchError."""

    async def fetch(self, url: str, headers: Mapping[str, str] | None = None, *, read_body: bool = True) -> Response:
        """Return the final response for `url` after redirects, waits and retries. Raises FetchError.

        All of them together have one deadline: a site that fails slowly takes no longer than a slow site.
        """
        try:
            with Clock(self.config.timeout):
                return await self._try(url, headers, read_body)
        except TimeoutError:
            # Not retried: it has used its time, and the next check tries again.
            raise NoAnswer(f"{TOO_LATE} {self.config.timeout:g} s") from None

    async def _try(self, url: str, headers: Mapping[str, str] | None, read_body: bool) -> Response:
        for attempt in range(self.config.retries):
            try:
                return await self._follow(url, headers, read_body)
            except FetchError as error:
                if not error.transient:
                    raise
            with not_charged():
                await asyncio.sleep(FIRST_BACKOFF * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
        return await self._follow(url, headers, read_body)

    async def _follow(self, url: str, headers: Mapping[str, str] | None, read_body: bool) -> Response:
        """Follow redirects here, not in libcurl, so that each hop is checked and takes a slot of its own host."""
        target = parse_url(url, "the address")
        lines = [f"{name}: {value}" for name, value in (headers or {}).items()]
        statuses: set[int] = set()
        with self._client.chain() as transfer:
            for _ in range(self.config.max_redirects + 1):
                raw = await self._request(transfer, target, lines, read_body)
                if raw.status not in REDIRECTS:
                    encodings = raw.headers.get("Content-Encoding", "")
                    if choose_method(raw.body, encodings):
                        raw = await self._unpack(raw, encodings)
                    return make_response(raw, target.url, is_moved=bool(statuses) and statuses <= PERMANENT)
                statuses.add(raw.status)
                location = raw.headers.get("Location", "")
                if not location:
                    raise FetchError(f"{describe_status(raw.status)} without a Location header", raw.status)
                target = parse_url(location, "the redirect target", target.url)
        raise FetchError(f"redirected too many times (limit: {self.config.max_redirects})")

    async def _request(
        self, transfer: Transfer, target: Target, headers: Sequence[str], read_body: bool
    ) -> RawResponse:
        """Make one request in a slot of its domain. The answer is final or a redirect."""
        domain = domain_of_host(target.host)
        await self.hosts.take_slot(domain)
        try:
            raw = await self._client.request(transfer, target, headers, reads_body=read_body)
            status = raw.status
            if not (200 <= status < 300 or status in REDIRECTS or (status == 304 and headers)):
                raise self._fail(raw, domain)
            self.hosts.note_answer(domain, status)
            return raw
        finally:
            self.hosts.release(domain)

    def _fail(self, raw: RawResponse, domain: str) -> FetchError:
        """The failure for an error status. Raises HostPaused if the site asks for a pause."""
        status = raw.status
        if status in BUSY:
            self.hosts.note_refusal(domain, status, parse_retry_after(raw.headers.get("Retry-After", "")))
        else:
            self.hosts.note_answer(domain, status)
        return FetchError(describe_status(status), status, transient=status in TRANSIENT)

    async def _unpack(self, raw: RawResponse, encodings: str) -> RawResponse:
        packed, limit = raw.body, self.config.max_body
        try:
            if len(packed) <= SMALL_PACKED:
                unpacked = unpack(packed, encodings, limit)
            else:
                unpacked = await self._unpack_within(min(USUAL_RATIO * len(packed), limit), raw, encodings)
                if unpacked.is_cut:
                    unpacked = await self._unpack_within(limit, raw, encodings)
            raw.share.resize(len(unpacked.body))
        except BaseException:
            raw.share.close()
            raise
        return raw._replace(body=unpacked.body, is_cut=raw.is_cut or unpacked.is_cut)

    async def _unpack_within(self, room: int, raw: RawResponse, encodings: str) -> Unpacked:
        """Decompress at most `room` bytes in a thread, once there is memory for them."""
        with not_charged(keeps_place=True):  # other attempts would wait as well
            await raw.share.wait_to_grow(room)
            return await asyncio.to_thread(unpack, raw.body, encodings, room)


def make_response(raw: RawResponse, url: str, *, is_moved: bool) -> Response:
    response = Response(url, raw.status, raw.headers, raw.body, raw.is_cut, url if is_moved else "")
    if len(raw.body) > SMALL_BYTES:
        weakref.finalize(response, raw.share.close)
    else:
        raw.share.close()
    return response


def describe_status(status: int) -> str:
    return f"answered {status} {PHRASES.get(status, '')}".rstrip()
