"""A name server on loopback, in its own thread: it answers, refuses or does not respond, as the test says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import ip_address
from threading import Thread
from typing import Any

import aiodns
import pytest
from dnslib import AAAA, QTYPE, RCODE, RR, A, DNSError, DNSRecord
from dnslib.server import DNSLogger, DNSServer

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
        self._server = DNSServer(self, "127.0.0.1", self.port, logger=DNSLogger(logf=lambda _: None)).server
        self.port = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), name="name server")
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join(WAIT_SECONDS)
        self._server.server_close()

    def resolve(self, question: DNSRecord, handler: Any) -> DNSRecord:
        """Called by the server."""
        name, kind = str(question.q.qname).rstrip(".").lower(), QTYPE[question.q.qtype]
        reply = question.reply()
        found = self._next(name, kind)
        if found == SILENT:
            raise DNSError("No answer is sent.")
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


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer() as names:
        yield names
