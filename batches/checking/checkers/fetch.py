"""Fetches strangers' addresses: guarded, polite, and bounded in time and memory."""

from __future__ import annotations

import asyncio
import errno
import random
import re
import socket
import ssl
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import responses as HTTP_PHRASES
from typing import NamedTuple, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from batches.conf import Config

from .base import Checker, CheckResult, FetchError, HostNote, ProfileToCheck
from .clock import Clock, not_charged
from .guard import NOT_PUBLIC, open_guarded_socket, read_networks
from .hosts import HostSlots

ACCEPT = "application/atom+xml, application/rss+xml, application/feed+json, text/html;q=0.9, */*;q=0.8"

REDIRECTS = frozenset({301, 302, 303, 307, 308})
BUSY = frozenset({429, 503})
TRANSIENT = frozenset({500, 502, 503, 504})

# Seconds before the second attempt, doubled for each further one, with jitter so that attempts do not come in waves.
FIRST_BACKOFF = 0.5
# Some sites send policies and cookies well over aiohttp's 8 kB. Nobody sends this much.
MAX_HEADER_BYTES = 64 * 1024
# Bodies are decompressed in steps of this size, and dropped once they are too large.
READ_BYTES = 64 * 1024
# Idle connections are reused, but with hundreds of hosts a second they must not use up the file descriptors.
KEEPALIVE_SECONDS = 1.0
DNS_CACHE_SECONDS = 60
# A dead name server holds its thread for seconds, and good names must not wait behind dead ones.
DNS_THREADS = 32

CLEAN_URL = re.compile(r"[!#-;=?-\[\]_a-z~]+")  # printable ASCII without what must be percent-encoded
# A name has at most 253 characters. Converting the 64 kB that fit into a header blocked the event loop for 1 s.
LONG_HOST = re.compile(r"\s*+(?:[^/?#:]*+:)?+//[^/?#]{300}")
CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.ASCII | re.IGNORECASE)

# All that a request can raise. Odd addresses and headers surface as ValueError (UnicodeError).
FAULTS = (aiohttp.ClientError, OSError, ValueError)
UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ETIMEDOUT)
CONNECTION_FAULTS: dict[int | None, str] = {
    errno.ECONNREFUSED: "refused the connection",
    **dict.fromkeys(UNREACHABLE, "could not be reached"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "was not checked: too many files are open on this machine"),
}


class Response(NamedTuple):
    """A final response: 2xx, or 304 to a conditional request. `url` is that of the last hop."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def charset(self) -> str:
        """What the Content-Type header says, or empty."""
        charset = CHARSET.search(self.headers.get("Content-Type", ""))
        return charset[1] if charset else ""


class Resolver(AbstractResolver):
    """Resolves names by the operating system, in its own threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DNS_THREADS, "dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        addresses = await loop.run_in_executor(
            self._threads, socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
        return [
            ResolveResult(hostname=host, host=str(ip), port=int(port), family=family, proto=proto, flags=0)
            for family, _, proto, _, (ip, port, *_) in addresses
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def open_guarded_session(config: Config, timeout: float, headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """Open a pool of connections to public addresses and allowed networks, within a running loop. `timeout` is for a
    whole exchange, in seconds."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,  # callers limit themselves
            keepalive_timeout=KEEPALIVE_SECONDS,
            ttl_dns_cache=DNS_CACHE_SECONDS,
            resolver=Resolver(),
            socket_factory=partial(open_guarded_socket, read_networks(config.allowed_networks)),
        ),
        headers={"User-Agent": config.user_agent, **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout),
        trust_env=False,  # a proxy would bypass the guard
        read_bufsize=READ_BYTES,
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


class FetchingChecker(Checker):
    """The base of all checkers that fetch by HTTP, over one pool of connections."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._hosts = HostSlots(config.per_host)

    async def __aenter__(self) -> Self:
        headers = {"Accept": ACCEPT, "Accept-Encoding": "gzip, deflate"}
        self._session = open_guarded_session(self.config, self.config.timeout, headers)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    def take_host_notes(self) -> Sequence[HostNote]:
        return self._hosts.take_notes()

    def recall_hosts(self, notes: Iterable[HostNote]) -> None:
        self._hosts.recall(notes)

    async def check(self, profile: ProfileToCheck) -> CheckResult:
        async with Clock() as clock:
            try:
                result = await self.fetch_result(profile)
            except FetchError as error:
                result = CheckResult(False, str(error), error.http_status)
            return replace(result, duration=clock.charged)

    @abstractmethod
    async def fetch_result(self, profile: ProfileToCheck) -> CheckResult:
        """Return the result without its duration. Raises FetchError."""

    async def fetch(self, url: str, headers: Mapping[str, str] | None = None, *, read_body: bool = True) -> Response:
        """Return the final response for `url` after redirects, waits and retries. Raises FetchError."""
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
        """Follow redirects here, not in aiohttp: each hop is checked and takes a slot of its own host."""
        hop = parse_url(url, "the address")
        for _ in range(self.config.max_redirects + 1):
            result = await self._request(hop, headers, read_body)
            if isinstance(result, Response):
                return result
            hop = result
        raise FetchError(f"redirected more than {self.config.max_redirects} times")

    async def _request(self, url: URL, headers: Mapping[str, str] | None, read_body: bool) -> Response | URL:
        """Make one request in a slot of its host. Returns the response, or the redirect target."""
        host = (url.raw_host or "").lower()  # an address that is sent as it is written may be in capitals
        try:
            async with (
                self._hosts.slot(host),
                self._session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
                if status in REDIRECTS:
                    self._hosts.note_answer(host, status)
                    return find_redirect_target(response)
                if not (200 <= status < 300 or (status == 304 and headers)):
                    raise self._fail(response, host)
                self._hosts.note_answer(host, status)
                body = await self._read_body(response) if read_body and status != 304 else b""
                return Response(str(response.url), status, response.headers, body)
        except FAULTS as fault:
            raise explain_fault(fault, self.config.timeout) from fault

    def _fail(self, response: aiohttp.ClientResponse, host: str) -> FetchError:
        """The failure for an error status. Raises HostPaused if the host wants to be asked later."""
        status = response.status
        if status in BUSY:
            self._hosts.note_refusal(host, status, parse_retry_after(response.headers.get("Retry-After", "")))
        else:
            self._hosts.note_answer(host, status)
        return FetchError(describe_status(status), status, transient=status in TRANSIENT)

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self.config.max_body
        body = bytearray()
        is_too_large = (response.content_length or 0) > limit
        while not is_too_large and (chunk := await response.content.readany()):
            body += chunk
            is_too_large = len(body) > limit
        if is_too_large:
            raise FetchError(f"the body is larger than {limit / 1e6:g} MB", response.status)
        return bytes(body)


def parse_url(text: str, subject: str, base: URL | None = None) -> URL:
    """Parse an address to fetch; it may be relative to `base`. Raises FetchError about the `subject`."""
    if LONG_HOST.match(text):
        raise FetchError(f"{subject} has a host name that is too long")
    try:
        # Keep existing percent-encoding: some servers distinguish "%7E" and "~".
        url = URL(text, encoded=CLEAN_URL.fullmatch(text) is not None)
        url = base.join(url) if base is not None else url
        if url.scheme not in {"http", "https"}:
            raise FetchError(f"{subject} is not http or https")
        if "@" in url.raw_authority:
            raise FetchError(f"{subject} contains a user name or password")
        if not url.raw_host:
            raise FetchError(f"{subject} has no host")
    except ValueError:
        raise FetchError(f"{subject} is not valid") from None
    return url


def find_redirect_target(response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location", "").strip()
    if not location:
        raise FetchError(f"{describe_status(response.status)} without a Location header", response.status)
    return parse_url(location, "the redirect target", response.url)


def describe_status(status: int) -> str:
    return f"answered {status} {HTTP_PHRASES.get(status, '')}".rstrip()


def parse_retry_after(value: str) -> float:
    """Return the seconds to wait, from a Retry-After header in seconds or as an HTTP date; 0 if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return 0.0


def explain_fault(fault: Exception, timeout: float) -> FetchError:
    """Turn one of FAULTS into a reason that people understand."""
    if private := NOT_PUBLIC.search(str(fault)):
        return FetchError(private[0])
    if isinstance(fault, TimeoutError):
        # Not retried: it has taken its time, and the next check will come.
        return FetchError(f"did not answer within {timeout:g} s")
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        problem = fault.certificate_error
        return FetchError(f"the certificate is not valid: {getattr(problem, 'verify_message', problem)}")
    if isinstance(fault, aiohttp.ClientConnectorDNSError):
        if fault.errno == socket.EAI_AGAIN:
            return FetchError("no such host, or its name servers do not answer", transient=True)
        return FetchError("no such host")
    if isinstance(fault, ssl.SSLError):
        return FetchError("the TLS handshake failed")
    if isinstance(fault, aiohttp.ServerConnectionError | OSError):
        reason = CONNECTION_FAULTS.get(getattr(fault, "errno", None), "broke off the connection")
        return FetchError(reason, transient=True)
    if isinstance(fault, aiohttp.ClientResponseError) and "bytes" in fault.message:
        return FetchError(f"sent headers larger than {MAX_HEADER_BYTES // 1024} kB")
    if isinstance(fault, aiohttp.InvalidURL | UnicodeError):
        return FetchError("the address is not valid")
    return FetchError("sent an invalid response")
