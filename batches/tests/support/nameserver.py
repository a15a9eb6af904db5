"""A name server on loopback, in its own thread: it answers, refuses or does not respond, as the test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any

import aiodns
import pytest
from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSRecord

from batches.checking.checkers import resolver as resolver_module

from .feedserver import WAIT_SECONDS

SILENT = "silent"


class NameServer:
    """`with NameServer() as names: names.answer("a.example", ["192.0.2.1"])`. Other names do not exist.

    The time to live of every answer is `ttl` seconds.
    """

    def __init__(self, ttl: int = 0) -> None:
        self.port = 0
        self.ttl = ttl
        #: The names that were looked up.
        self.asked: list[str] = []
        self._answers: dict[tuple[str, str], list[Sequence[str] | str]] = {}

    def answer(self, name: str, *answers: Sequence[str] | str) -> None:
        """Set what questions for this name find, one after the other: addresses, or SILENT, or a code such as
        SERVFAIL. The last answer stays."""
        for kind in ("A", "AAAA"):
            self._answers[name.rstrip(".").lower(), kind] = list(answers)

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let checks in this process ask this server only. A busy machine may take its time."""
        dns = partial(aiodns.DNSResolver, nameservers=[f"127.0.0.1:{self.port}"], lookups="b")
        monkeypatch.setattr(resolver_module.aiodns, "DNSResolver", dns)
        monkeypatch.setattr(resolver_module, "MAX_SECONDS", WAIT_SECONDS)

    def __enter__(self) -> NameServer:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="name server")
        self._thread.start()
        assert started.wait(WAIT_SECONDS), "the name server did not start"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        transport, _ = await self._loop.create_datagram_endpoint(lambda: Conversation(self), ("127.0.0.1", self.port))
        self.port = transport.get_extra_info("sockname")[1]
        started.set()
        await self._stop.wait()
        transport.close()

    def reply(self, question: DNSRecord) -> DNSRecord | None:
        name, kind = str(question.q.qname).rstrip(".").lower(), QTYPE[question.q.qtype]
        reply = question.reply()
        found = self._next(name, kind)
        if found == SILENT:
            return None
        if isinstance(found, str):
            reply.header.rcode = getattr(RCODE, found)
            return reply
        for address in found:
            ip = ip_address(address)
            if kind == ("A" if ip.version == 4 else "AAAA"):
                data = A(address) if ip.version == 4 else AAAA(tuple(ip.packed))
                reply.add_answer(RR(question.q.qname, question.q.qtype, rdata=data, ttl=self.ttl))
        return reply

    def _next(self, name: str, kind: str) -> Sequence[str] | str:
        """A lookup asks for addresses of both families, in any order."""
        if kind == "A":
            self.asked.append(name)
        answers = self._answers.get((name, kind), ["NXDOMAIN"])
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Conversation(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, client: Any) -> None:
        if reply := self._server.reply(DNSRecord.parse(data)):
            self._transport.sendto(reply.pack(), client)


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names
