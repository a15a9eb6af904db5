"""Addresses that lead inside, in every known spelling, and canaries that listen there.

The canaries are real sockets on 127.0.0.1 and ::1. Made up are the owners of names, and that the inside (10.0.0.1,
169.254.169.254, fd00::1, …) can be reached from here at all.
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from ipaddress import ip_address
from itertools import product
from typing import Any

import pycurl
import pytest

from batches.tests.conftest import skip_or_fail

from .feedserver import WAIT_SECONDS, FeedServer, Request
from .nameserver import NameServer

IPV4, IPV6 = "127.0.0.1", "::1"
OPEN = ("0.0.0.0/0", "::/0")

#: The address of `public.example`, and one where nobody answers.
PUBLIC, DEAD = "93.184.215.14", "93.184.215.15"
PUBLIC_IPV6 = f"::ffff:{PUBLIC}"


def words(text: str) -> list[str]:
    return text.split()


def table(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in words(text))


NAMES_IPV4 = table("""
    localhost.localdomain=127.0.0.1
    localtest.me=127.0.0.1 lvh.me=127.0.0.1 127.0.0.1.nip.io=127.0.0.1 127-0-0-1.nip.io=127.0.0.1
    7f000001.nip.io=127.0.0.1 www.127.0.0.1.sslip.io=127.0.0.1 10.0.0.1.nip.io=10.0.0.1
    192-168-0-1.sslip.io=192.168.0.1 169.254.169.254.nip.io=169.254.169.254 metadata.google.internal=169.254.169.254
    kubernetes.default.svc=10.96.0.1 host.docker.internal=172.17.0.1 router.lan=192.168.1.1 zero.example=0.0.0.0
    shared.example=100.64.0.1 mapped.example=::ffff:127.0.0.1 mapped-private.example=::ffff:10.0.0.1
""")
NAMES_IPV6 = table("""
    ip6-localhost=::1 ip6-loopback=::1 localhost6=::1 --1.sslip.io=::1 fd00--1.sslip.io=fd00::1
    fe80--1.sslip.io=fe80::1 64-ff9b--7f00-1.sslip.io=64:ff9b::7f00:1 2002-7f00-1--1.sslip.io=2002:7f00:1::1
    compatible.example=::7f00:1 v6.intranet.example=fd12:3456:789a::1
""")


def spellings_of_loopback() -> Iterator[str]:
    """::1 with any of its zeros written or left out, and ending like IPv6 or IPv4."""
    for zero, one, groups in (("0", "1", 7), ("0000", "0001", 7), ("0", "0.0.0.1", 6)):
        yield f"[{':'.join([zero] * groups + [one])}]"
        for before, after in product(range(groups), repeat=2):
            if before + after < groups:
                yield f"[{':'.join([zero] * before)}::{':'.join([zero] * after + [one])}]"


# Each leads to the canary on IPv4, or on IPv6, if the guard lets it.
HOSTS_IPV4 = [
    *words("""
    0.0.0.0 0.1.2.3 0.255.255.255 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.64.0.1 100.100.100.200
    100.127.255.255 127.0.0.1 127.0.0.53 127.1.2.3 127.255.255.254 169.254.0.1 169.254.169.254 169.254.170.2
    172.16.0.1 172.17.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.170 192.0.0.192 192.0.2.1 192.88.99.1
    192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250
    239.255.255.255 240.0.0.1 255.255.255.255

    １２７.0.0.1 １２７．０．０．１ 127。0。0。1 127｡0｡0｡1 127．0．0．1 ①②⑦.⓪.⓪.① ①②⑦.0.0.1 ⑫⑦.0.0.1 ¹²⁷.⁰.⁰.¹
    ₁₂₇.₀.₀.₁ 𝟏𝟐𝟕.𝟎.𝟎.𝟏 𝟙𝟚𝟟.0.0.1 127.０.0.1 ①⓪.0.0.1 ①⑥⑨.②⑤④.①⑥⑨.②⑤④ １６９。２５４。１６９。２５４

    [::ffff:127.0.0.1] [::ffff:7f00:1] [::ffff:7f00:0001] [0::ffff:127.0.0.1] [::FFFF:127.0.0.1]
    [0:0:0:0:0:ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [::ffff:10.0.0.1] [::ffff:169.254.169.254]
    [::ffff:a9fe:a9fe] [::ffff:192.168.0.1] [::ffff:0:0] [::ffff:0.0.0.0]

    """),
    *NAMES_IPV4,
]

HOSTS_IPV6 = [
    *spellings_of_loopback(),
    *words("""
    [::01] [::001] [::1%1] [::] [0::] [::0.0.0.0]

    [::127.0.0.1] [::7f00:1] [::10.0.0.1] [::a00:1] [::169.254.169.254] [::8.8.8.8] [::ffff]
    [::ffff:0:7f00:1] [::ffff:0:127.0.0.1] [::fffe:127.0.0.1]

    [64:ff9b::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::a00:1] [64:ff9b::169.254.169.254] [64:ff9b::192.168.1.1]
    [0064:FF9B::127.0.0.1] [64:ff9b:1::1] [64:ff9b:1:ffff::10.0.0.1] [64:ff9b:1:7f:0:100::] [64:ff9b:2::1]

    [2002:7f00:1::1] [2002:7f00:1::] [2002:a00:1::1] [2002:a9fe:a9fe::1] [2002:c0a8:101::1] [2002:ac10:1::]

    [2001::1] [2001:0:7f00:1::1] [2001:0:4136:e378:8000:63bf:80ff:fffe] [2001:0:5ef5:79fd:0:59d:f5ff:fffe]
    [2001:2::1] [2001:10::1] [2001:20::1] [2001:1ff:ffff::1] [2001:db8::1] [2001:DB8:ffff::1] [3fff::1]
    [3fff:fff:ffff::1] [100::1] [200::1] [1000::1] [4000::1] [5f00::1] [8000::1]

    [fc00::1] [fd00::1] [fd00:ec2::254] [fd12:3456:789a::1] [fdff:ffff::1] [fe80::1] [fe80::1%1] [fe80::a9fe:a9fe]
    [febf::1] [fec0::1] [feff::1] [ff01::1] [ff02::1] [ff05::2] [ff0e::1]

    IP6-LOCALHOST ⓘp6-localhost

    localhost localhost. any.localhost v6.any.localhost LOCALHOST LocalHost ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ ˡᵒᶜᵃˡʰᵒˢᵗ
    ℓocalhost any。localhost
    """),
    *NAMES_IPV6,
]

# A careless reader sees another host than the one that is connected to.
TRICKS_IPV4 = [
    *words("""
    http://127.0.0.1:{port}#@public.example/ http://127.0.0.1:{port}?@public.example/ HTTP://127.0.0.1:{port}/
    http://127.0.0.1:{port}/@public.example/ http://127.0.0.1:{port}/\\@public.example/ http://127.0.0.1:0{port}/
    """),
    "http://127.\t0.0.1:{port}/",
    "ht\ttp://127.0.0.1:{port}/",
]
TRICKS_IPV6 = [
    *words("http://[::1]:{port}#@public.example/ http://[::1]:{port}?@public.example/"),
    "http://[::\t1]:{port}/",
]

#: Some program would read these as addresses inside. Ours refuses them even if the guard is open, by some way at least,
#: or looks up a name that nobody has.
HOPELESS = [
    *(
        "http://" + host + ":{port}/"
        for host in words("""
        0x7f000001 0x7f.1 0x7f.0.1 0x7f.0.0.1 0x7f.0x1 0X7F.0.0.1 0x7F.0x0.0x0.0x1 127.0.0.0x1 127.0x1 0x0 0xa000001
        0xa9fea9fe 0xA9.0xFE.0xA9.0xFE 169.254.0xa9fe 0xc0a80001 0x0000007f.0x1 0x7f.1.2.3 0x7F000001 127.0x000001
        127.0x0.0x0.0x1 127.0.0x1

        127.1 127.0.1 127.65535 2130706433 017700000001 0177.0.0.1 0177.1 127.0.0.01 0127.0.0.1 0 00.0.0.0 127.0.0.1.
        4294967297 127.0.0.257 127.0.0.1.0 0x100000001 2852039166 0251.0376.0251.0376 10.1 ⑯.1 ⓪x7f.1 0ⓧ7f.0.0.1
        ١٢٧.٠.٠.١ ۱۲۷.۰.۰.۱ १२७.०.०.१ ⒈27.0.0.1 127.0.0.⒈ ⑴27.0.0.1
        127%2e0%2e0%2e1 %31%32%37.0.0.1 %6c%6f%63alhost 127.0.0.1%00 127.0.0.1%00.public.example 127.0.0.1%2f
        127.0.0.1%20 %5B::1%5D 127.0.0.1%23.public.example lo%E2%80%8Bcalhost 127.0.0.1%0d%0aHost:x
        [fe80::1%25lo] [fe80::1%lo0] [::1%25lo] [::1%lo] [::1%25] [::ffff:0x7f.0.0.1] [::ffff:127.1] [v1.127.0.0.1]
        [::%16777216]
        [127.0.0.1] [localhost] [::1]. [::1]@ [::１] [::①] 1.0.0.127.in-addr.arpa 127.0.0.1,8.8.8.8 127.0.0.1;x
        127.0.0.1&x ::1
        """)
    ),
    *words("""
    http://public.example@127.0.0.1:{port}/ http://public.example:80@127.0.0.1:{port}/ http://@127.0.0.1:{port}/
    http://public.example%40127.0.0.1:{port}/ http://:@[::1]:{port}/ http://public.example@[::1]:{port}/
    http://public.example\\@127.0.0.1:{port}/ http://public.example\\.127.0.0.1:{port}/
    http://127.0.0.1\\@public.example:{port}/ http:\\\\127.0.0.1:{port}/ http:/\\127.0.0.1:{port}/
    http://public.example&@127.0.0.1:{port}#@public.example/ http://a@127.0.0.1:{port}@public.example/
    http://public.example:80:127.0.0.1:{port}/ http://lo\u00adcalhost:{port}/ http://127.0.0.1\u200b:{port}/
    http://127.0.0.1\0:{port}/ gopher://127.0.0.1:{port}/_GET ftp://127.0.0.1:{port}/ file://127.0.0.1/etc/passwd
    dict://127.0.0.1:{port}/ ws://127.0.0.1:{port}/ jar:http://127.0.0.1:{port}!/ unix:/run/docker.sock
    http+unix://%2Frun%2Fdocker.sock/ url:http://127.0.0.1:{port}/
    """),
    "http://127.0.0.1\u3000:{port}/",
]

LEADING = {
    IPV4: [*(f"http://{host}:{{port}}/" for host in HOSTS_IPV4), *TRICKS_IPV4],
    IPV6: [*(f"http://{host}:{{port}}/" for host in HOSTS_IPV6), *TRICKS_IPV6],
}


class Canary(FeedServer):
    """Listens on 127.0.0.1 and ::1, counts connections, and answers with a status for each of the two."""

    STATUSES: Mapping[str, int] = {IPV4: 461, IPV6: 466}

    def __init__(self) -> None:
        super().__init__(hosts=(IPV4, IPV6))
        self._accepted: Counter[str] = Counter()

    def reached(self) -> dict[str, int]:
        """How many connections each of the two has accepted."""
        for host in self.hosts:
            self._knock(host)
        return {host: self._accepted[host] for host in self.hosts}

    def _knock(self, host: str) -> None:
        """Connections are accepted in order: once ours is, all earlier ones are."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as own:
            own.settimeout(WAIT_SECONDS)
            own.connect((host, self.port))
            own.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert own.recv(100).startswith(b"HTTP/1.1 46")
        self._accepted[host] -= 1

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted[self._own_address(writer)] += 1
        await super()._converse(reader, writer)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        status = self.STATUSES[self._own_address(writer)]
        writer.write(b"HTTP/1.1 %d Canary\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        await writer.drain()
        return False

    @staticmethod
    def _own_address(writer: asyncio.StreamWriter) -> str:
        return str(writer.get_extra_info("sockname")[0])


class World:
    """`PUBLIC` is a server of ours, nobody answers at `DEAD`, and every other address is the canary's.

    Names are asked for at a real name server. libcurl gets its sockets from the function that it is given for this, and
    here they are then connected to where they should lead. `connected` are the addresses that it got a socket for.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, canary: Canary, server_port: int, names: NameServer) -> None:
        self.canary = canary
        self.connected: list[str] = []
        self._server = (IPV4, server_port)
        self.name = names.answer
        names.use(monkeypatch)
        for name, address in (NAMES_IPV4 | NAMES_IPV6 | {"public.example": PUBLIC}).items():
            self.name(name, [address])
        world = self

        class Curl(pycurl.Curl):
            def setopt(self, option: int, value: Any) -> None:
                if option == pycurl.OPENSOCKETFUNCTION:
                    super().setopt(pycurl.SOCKOPTFUNCTION, lambda fd, purpose: pycurl.SOCKOPT_ALREADY_CONNECTED)
                    value = partial(world.open_socket, value)
                super().setopt(option, value)

        monkeypatch.setattr(pycurl, "Curl", Curl)

    def open_socket(self, guard: Callable[..., int], purpose: int, address: Any) -> int:
        fd = guard(purpose, address)
        if fd == pycurl.SOCKET_BAD:
            return fd
        self.connected.append(address.addr[0])
        with socket.socket(fileno=fd) as own:
            try:
                own.connect(self._route(own, address.addr))
            except OSError:
                return int(pycurl.SOCKET_BAD)
            return own.detach()

    def _route(self, own: socket.socket, address: tuple[Any, ...]) -> tuple[Any, ...]:
        ip = ip_address(address[0])
        if address[0] == PUBLIC:
            return self._server
        if address[0] == PUBLIC_IPV6:
            return (f"::ffff:{self._server[0]}", self._server[1], 0, 0)
        if address[0] == DEAD:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        if ip.version == 6 and ip.ipv4_mapped:  # loopback, too, since Python 3.13
            return ("::ffff:127.0.0.1", self.canary.port, 0, 0)
        if ip.is_loopback or ip.is_unspecified:
            # The operating system connects these to us itself, except 127.0.0.53.
            return address if str(ip) in {IPV4, IPV6, "0.0.0.0", "::"} else (IPV4, self.canary.port)
        if own.family == socket.AF_INET:
            return (IPV4, self.canary.port)
        return (IPV6, self.canary.port, 0, 0)

    def assert_untouched(self) -> None:
        """The canary has accepted nothing, and only public servers were tried."""
        reached = self.canary.reached()
        assert reached == {IPV4: 0, IPV6: 0}, f"connections that the canary accepted: {reached}"
        tried = set(self.connected) - {PUBLIC, PUBLIC_IPV6, DEAD}
        assert not tried, f"connections were begun to {tried}"


def addresses(templates: Iterable[str], port: int) -> list[str]:
    return [template.replace("{port}", str(port)) for template in templates]


def in_a_header(text: str) -> str:
    """Makes a server that writes headers in latin-1 send UTF-8."""
    return text.encode().decode("latin-1")


@pytest.fixture
def canary() -> Iterator[Canary]:
    try:
        socket.create_server((IPV6, 0), family=socket.AF_INET6).close()
    except OSError as error:
        skip_or_fail(f"IPv6 is not available: {error}")
    with Canary() as canary:
        yield canary
