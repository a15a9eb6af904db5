"""HTTP by libcurl in the event loop, with one watched file descriptor for any number of connections.

libcurl reports the sockets that it waits for, and our own selector watches them. asyncio watches only that selector, so
its cost per event is not paid for each socket, and no thread is involved.
"""

import asyncio
import errno
import re
import selectors
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from math import inf
from time import perf_counter
from typing import Any, NamedTuple, Self

import pycurl

from batches.conf import Config

from .base import NO_SUCH_HOST, OUT_OF_REACH, REFUSED, TOO_LATE, FetchError, NoConnection, Unreachable
from .clock import not_charged
from .guard import NOT_PUBLIC, Network, open_guarded_socket, read_networks
from .memory import Memory, Share
from .resolver import Resolver
from .target import Target

# Idle connections are reused, but with hundreds of hosts a second they must not use up the file descriptors.
MAX_IDLE_CONNECTIONS = 200
IDLE_SECONDS = 5
# A short body is read even if nobody needs it, so that its connection can be reused.
UNWANTED_BYTES = 16 * 1024
UNWANTED_SECONDS = 1.0
# A server that does not connect within half of the time will not answer within the other half.
CONNECT_SHARE = 0.5
# A TLS handshake takes 2 ms, and a hundred may be due at the same moment. The event loop has other work too.
SECONDS_AT_ONCE = 0.02
# While nothing may be sent.
SECONDS_BETWEEN_LOOKS = 0.1
# Bytes for all bodies of a process, and how many bodies of maximum size fit into the reserve: compressed and
# decompressed.
MEMORY_BYTES = 64_000_000
RESERVED_BODIES = 2

#: libcurl refuses a line of more than 100 kB, more than 300 kB in all, and more than 5,000 lines.
LARGE_HEADERS = 64 * 1024
END_OF_HEAD = frozenset({b"\r\n", b"\n"})
#: For SO_LINGER: drop unsent data when the socket is closed.
NOTHING = struct.pack("ii", 1, 0)
STATUS_LINE = re.compile(rb"HTTP/\S+\s+([0-9]{3})")
SWITCHING_PROTOCOLS, NOT_MODIFIED = 101, 304
# Headers that are lists: each of several lines counts.
LISTS = frozenset({b"\nlink:"})

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
INTERESTS = {pycurl.POLL_IN: READ, pycurl.POLL_OUT: WRITE, pycurl.POLL_INOUT: READ | WRITE}
READINESS = {READ: pycurl.CSELECT_IN, WRITE: pycurl.CSELECT_OUT, READ | WRITE: pycurl.CSELECT_IN | pycurl.CSELECT_OUT}


class Headers(Mapping[str, str]):
    """The headers of a response, by name in any case. Of repeated headers, the first counts, except for LISTS.

    Few of them are needed, so each is found on demand, which takes a quarter of the time of parsing all.
    """

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self._block = b"\n" + b"".join(lines)
        self._lower_block = self._block.lower()

    def get(self, name: str, default: Any = None) -> Any:  # without the KeyError of `Mapping.get`
        start = find_start(name)
        found = self._lower_block.find(start)
        if found < 0:
            return default
        return ", ".join(self._read_all(start)) if start in LISTS else self._read(found + len(start))

    def __getitem__(self, name: str) -> str:
        value: str | None = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def _read(self, start: int) -> str:
        return self._block[start : self._block.find(b"\n", start)].decode("utf-8", "surrogateescape").strip()

    def _read_all(self, start: bytes) -> Iterator[str]:
        end = 0
        while (found := self._lower_block.find(start, end)) >= 0:
            end = found + len(start)
            yield self._read(end)

    def __iter__(self) -> Iterator[str]:
        lines = self._lower_block.decode("latin-1").split("\n")
        return iter(dict.fromkeys(name for name, colon, _ in (line.partition(":") for line in lines) if colon))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@lru_cache(maxsize=100)
def find_start(name: str) -> bytes:
    """The beginning of a header's line."""
    return f"\n{name.lower()}:".encode()


class RawResponse(NamedTuple):
    """A final answer. `body` is as it was sent, and empty if it was not wanted or the answer is not successful."""

    status: int
    headers: Headers
    body: bytes
    is_cut: bool  # the rest of the body is beyond the limit
    share: Share  # the memory that the body takes; close it when the body is no longer needed


class Transfer:
    """One of libcurl's handles, with the data received for its current request."""

    def __init__(
        self, options: Mapping[int, Any], allowed: Sequence[Network], memory: Memory, idle: "list[Transfer]"
    ) -> None:
        self._loop = asyncio.get_running_loop()  # once: it is a system call before Python 3.12
        self._allowed = allowed
        self._memory = memory
        self._idle = idle
        self.connect_seconds = options[pycurl.CONNECTTIMEOUT_MS] / 1000
        self._known_host = ""  # to libcurl, with its port
        self.curl = pycurl.Curl()
        for option, value in options.items():
            self.curl.setopt(option, value)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._take_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take_body)

    def prepare(self, target: Target, addresses: Sequence[str], headers: Sequence[str], limit: int) -> None:
        """Set up the next request. `limit` is for the bytes of the body; 0 if it is not wanted."""
        self.status = 0
        self.head: list[bytes] = []
        self.body: list[bytes] = []
        self.share = Share(self._memory)
        self.room_needed = 0
        self.is_cut = self.is_unwanted = self.has_ended = False
        self.refusal: OSError | None = None  # by our guard, or of a socket by the operating system
        self.fault: tuple[int, str] | None = None  # libcurl's code and message
        self._limit = limit
        self._received = 0
        self._linger: asyncio.TimerHandle | None = None
        self.news: asyncio.Future[None] = self._loop.create_future()  # it has ended or needs memory
        self.curl.setopt(pycurl.URL, target.url)
        self.curl.setopt(pycurl.REQUEST_TARGET, target.path)
        self.curl.setopt(pycurl.HTTPHEADER, headers)
        self._set_addresses(target, addresses)

    def _set_addresses(self, target: Target, addresses: Sequence[str]) -> None:
        """Let libcurl forget the previous addresses. With the request, it also forgets the address of a numeric host,
        which it caches itself.

        We know how long addresses are valid. libcurl would search all of its cached ones with each request.
        """
        self.curl.setopt(pycurl.DNS_CACHE_TIMEOUT, -1 if addresses else 0)
        known = [f"-{self._known_host}"] if self._known_host else []
        self._known_host = f"{target.host}:{target.port}" if addresses else ""
        listed = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
        new = [f"+{self._known_host}:{listed}"] if addresses else []
        self.curl.setopt(pycurl.RESOLVE, known + new)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Drop the cookies, so that the next requests do not send them."""
        self.curl.setopt(pycurl.COOKIELIST, "ALL")
        self._idle.append(self)

    def go_on(self) -> None:
        """Resume a transfer that was paused for lack of memory."""
        self.room_needed = 0
        self.news = self._loop.create_future()
        self.curl.pause(pycurl.PAUSE_CONT)

    def end(self, fault: tuple[int, str] | None = None) -> None:
        if not self.has_ended:
            self.has_ended = True
            self.fault = fault
            self._wake()

    def _wake(self) -> None:
        if not self.news.done():  # otherwise it already waits for memory, or was cancelled
            self.news.set_result(None)

    def drop_unsent(self) -> None:
        """Call it before the connection is closed. While the network is down, the operating system keeps unsent data.
        It would send it long after this worker's lease, to a host that then gets its requests from another worker.
        """
        if (fd := self.curl.getinfo(pycurl.ACTIVESOCKET)) >= 0:
            opened = socket.socket(fileno=fd)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOTHING)
            opened.detach()

    def release(self) -> None:
        if self._linger:
            self._linger.cancel()
        self.head, self.body = [], []

    # Called by libcurl:

    def _open_socket(self, purpose: int, address: Any) -> int:
        """Guard the address that libcurl will connect to.

        It tries the host's other addresses if this one is refused.
        """
        try:
            return open_guarded_socket(self._allowed, address)
        except OSError as refusal:
            self.refusal = refusal
            return int(pycurl.SOCKET_BAD)

    def _take_header(self, line: bytes) -> None:
        if line in END_OF_HEAD:
            self._end_head()
        elif not self.status:  # otherwise it is a trailer
            self.head.append(line)

    def _end_head(self) -> None:
        line = STATUS_LINE.match(self.head[0]) if self.head else None
        status = int(line[1]) if line else 0
        if 100 <= status < 200 and status != SWITCHING_PROTOCOLS:
            self.head.clear()
        elif not self.status:
            self.status = status
            self.is_unwanted = not (self._limit and 200 <= status < 300)
            if self.is_unwanted and status != NOT_MODIFIED:  # a final response without a body
                self._linger = self._loop.call_later(UNWANTED_SECONDS, self.end)

    def _take_body(self, piece: bytes) -> int | None:
        """Returns None if all of it is taken."""
        received = self._received + len(piece)
        if self.is_unwanted:
            self.is_cut = received > UNWANTED_BYTES
        else:
            self.is_cut = received > self._limit
            piece = piece[: self._limit - self._received]
            needed = self._received + len(piece) - self.share.size
            if needed > 0 and not self.share.grow(needed):
                self.room_needed = needed
                self._wake()
                return int(pycurl.WRITEFUNC_PAUSE)
            self.body.append(piece)
        self._received = received
        if self.is_cut:
            self.end()
            return 0
        return None


class Client:
    """A pool of connections to public addresses and allowed networks. Entered and left within one event loop.

    `headers` are lines that every request has. `timeout` is for an exchange, in seconds; the caller watches it.
    `limit` is for the bytes of a body; larger ones are cut.
    """

    def __init__(self, config: Config, headers: Sequence[str], *, timeout: float, limit: int = 0) -> None:
        self._headers = headers
        self._limit = limit
        self._allowed = read_networks(config.allowed_networks)
        self._options = choose_options(config, timeout)
        reserve = RESERVED_BODIES * limit
        self.memory = Memory(max(MEMORY_BYTES, 2 * reserve), reserve)
        self._idle: list[Transfer] = []
        self._running: dict[Any, Transfer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._next_timer = inf
        #: Checked before libcurl does anything. A process that was frozen comes here before its timers fire.
        self.may_send: Callable[[], bool] = lambda: True

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._resolver = Resolver()
        self._sockets = selectors.DefaultSelector()
        self._watched: set[int] = set()  # of these sockets: asking the selector takes longer
        self._loop.add_reader(self._sockets.fileno(), self._on_ready)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, MAX_IDLE_CONNECTIONS)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_interest)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for transfer in list(self._running.values()):
            self._remove(transfer)
        if self._timer:
            self._timer.cancel()
        for transfer in self._idle:
            transfer.curl.close()
        self._multi.close()
        self._loop.remove_reader(self._sockets.fileno())
        self._sockets.close()
        await self._resolver.close()

    def chain(self) -> Transfer:
        """A context manager: a transfer for a chain of requests, which share cookies."""
        if self._idle:
            return self._idle.pop()
        return Transfer(self._options, self._allowed, self.memory, self._idle)

    async def request(
        self,
        transfer: Transfer,
        target: Target,
        headers: Sequence[str] = (),
        *,
        reads_body: bool = True,
        data: bytes | None = None,
    ) -> RawResponse:
        """Make one request (a POST if there is `data`), and follow no redirect. Raises FetchError."""
        addresses = () if target.is_numeric else await self._resolver.resolve(target.host)
        transfer.prepare(target, addresses, [*self._headers, *headers], self._limit if reads_body else 0)
        if data is not None:
            transfer.curl.setopt(pycurl.POSTFIELDS, data)
        self._running[transfer.curl] = transfer
        self._multi.add_handle(transfer.curl)
        self._act_at(0.0)
        try:
            while True:
                await transfer.news
                if transfer.has_ended:
                    return read_response(transfer)
                with not_charged(keeps_place=True):  # its connection is open
                    await transfer.share.wait_to_grow(transfer.room_needed)
                if not transfer.has_ended:  # the connection may be lost by now
                    transfer.go_on()
                    self._act_at(0.0)
        except BaseException:
            transfer.share.close()
            raise
        finally:
            self._remove(transfer)

    def _remove(self, transfer: Transfer) -> None:
        """Also closes the connection if the answer is not complete."""
        if self._running.pop(transfer.curl, None):
            if not transfer.has_ended:
                transfer.drop_unsent()
            self._multi.remove_handle(transfer.curl)
        transfer.release()

    def _on_interest(self, event: int, fd: int, multi: Any, data: Any) -> None:
        """Called by libcurl: it waits for this socket, or no longer."""
        is_watched = fd in self._watched
        if event == pycurl.POLL_REMOVE:
            if is_watched:
                self._watched.remove(fd)
                self._sockets.unregister(fd)
        elif is_watched:
            self._sockets.modify(fd, INTERESTS[event])
        else:
            self._watched.add(fd)
            self._sockets.register(fd, INTERESTS[event])

    def _act_at(self, due: float) -> None:
        """A timer that fires too early is cheaper than a new one each time."""
        self._due = due
        if due < self._next_timer:
            if self._timer:
                self._timer.cancel()
            self._next_timer = due
            self._timer = self._loop.call_at(due, self._on_time)

    def _on_time(self) -> None:
        self._next_timer = inf
        now = self._loop.time()
        if not self.may_send():
            self._act_at(max(self._due, now + SECONDS_BETWEEN_LOOKS))
        elif now < self._due:
            self._act_at(self._due)
        else:
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._end_transfers()

    def _on_ready(self) -> None:
        enough = perf_counter() + SECONDS_AT_ONCE
        for ready, events in self._sockets.select(0):
            if not self.may_send():  # checked for each socket: the process may be frozen between two
                break  # its transfers are about to be removed
            self._multi.socket_action(ready.fd, READINESS[events])
            if perf_counter() > enough:
                break  # the others are ready in the next turn of the event loop as well
        self._end_transfers()

    def _end_transfers(self) -> None:
        remaining = 1
        while remaining:
            remaining, complete, failed = self._multi.info_read()
            for curl in complete:
                self._running[curl].end()
            for curl, *fault in failed:
                self._running[curl].end(tuple(fault))
        # Ask libcurl when it has work to do. It could also call us, which takes longer: several times per request.
        milliseconds = self._multi.timeout()  # -1: never
        self._act_at(inf if milliseconds < 0 else self._loop.time() + milliseconds / 1000)


def choose_options(config: Config, timeout: float) -> dict[int, Any]:
    """The options of all requests. Proxies of the environment are ignored, since they would bypass the guard."""
    options = {
        pycurl.USERAGENT: config.user_agent,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.PROXY: "",
        pycurl.PATH_AS_IS: True,
        pycurl.COOKIEFILE: "",  # keep cookies, but in memory
        pycurl.CONNECTTIMEOUT_MS: max(1, int(1000 * CONNECT_SHARE * timeout)),
        pycurl.MAXAGE_CONN: IDLE_SECONDS,
        pycurl.NOSIGNAL: True,
    }
    authorities = ssl.get_default_verify_paths()  # the operating system's; libcurl's wheel does not know them
    if authorities.cafile:
        options[pycurl.CAINFO] = authorities.cafile
    if authorities.capath:
        options[pycurl.CAPATH] = authorities.capath
    return options


def read_response(transfer: Transfer) -> RawResponse:
    """The response of an ended transfer. Raises FetchError."""
    if transfer.fault and not (transfer.status and transfer.is_unwanted):
        code, message = transfer.fault
        message = message or pycurl.easy_strerror(code)
        number = transfer.curl.getinfo(pycurl.OS_ERRNO)
        raise explain_fault(code, message, transfer.refusal or OSError(number, ""), transfer.connect_seconds)
    if not transfer.status:  # libcurl accepts headers that end with the connection
        raise FetchError(CLOSED_EARLY, transient=True)
    body = b"".join(transfer.body)
    return RawResponse(transfer.status, Headers(transfer.head), body, transfer.is_cut, transfer.share)


CLOSED_EARLY = "closed the connection too early"
LOST = frozenset({pycurl.E_GOT_NOTHING, pycurl.E_PARTIAL_FILE, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR})
# libcurl reports these as E_RECV_ERROR, too, but a retry would not help.
NOT_LOST = re.compile("chunk|headers", re.IGNORECASE)
LARGE_HEADER = re.compile("Too large response headers|grew larger")


def explain_fault(code: int, message: str, cause: OSError, connect_seconds: float) -> FetchError:
    """Turn libcurl's code into a readable reason. `cause` is the operating system's error, if any."""
    if code == pycurl.E_COULDNT_CONNECT:
        if NOT_PUBLIC.search(str(cause)):
            return FetchError(str(cause.strerror))
        if cause.errno in (errno.EMFILE, errno.ENFILE):
            return FetchError("was not checked: too many files are open on this machine", transient=True)
        return Unreachable(REFUSED if cause.errno == errno.ECONNREFUSED else OUT_OF_REACH, transient=True)
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return NoConnection(f"{TOO_LATE} {connect_seconds:g} s")
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        return FetchError(f"the certificate is not valid: {describe_certificate(message)}")
    if code == pycurl.E_SSL_CONNECT_ERROR:
        return FetchError("the TLS handshake failed")
    if code == pycurl.E_COULDNT_RESOLVE_HOST:
        return Unreachable(NO_SUCH_HOST)
    if code in LOST and not NOT_LOST.search(message):
        return FetchError(CLOSED_EARLY, transient=True)
    if LARGE_HEADER.search(message):
        return FetchError(f"sent headers larger than {LARGE_HEADERS // 1024} kB")
    return FetchError(f"sent an invalid response: {message}")


def describe_certificate(message: str) -> str:
    """In OpenSSL's words, without its number and the certificate's own names."""
    if "does not match" in message or "no alternative certificate subject name" in message:
        return "hostname mismatch"
    return re.sub(r" \(\d+\)$", "", message.rpartition(": ")[2])
