"""Host names and their servers: of 100 hosts, 2 are dead, 2 are tarpits and 1 does not exist.

As a script, it is the name server, the dead address and the tarpit in one process; nginx serves the others.
"""

import asyncio
import socket
import ssl
import struct
import sys
from ipaddress import IPv4Address

GOOD, DEAD, TARPIT, MISSING = "good", "dead", "tarpit", "missing"
KINDS = {0: DEAD, 50: DEAD, 1: TARPIT, 51: TARPIT, 2: MISSING}

#: Few, since nginx keeps a table of all names for each.
GOOD_ADDRESSES = 4
DEAD_ADDRESS, TARPIT_ADDRESS = "127.0.3.1", "127.0.4.1"
#: Seconds, like a resolver that has to ask others.
LOOKUP_SECONDS = 0.05
#: Seconds between two bytes of the tarpit.
DRIP_SECONDS = 1.0

TYPE_A, NO_ERROR, NO_SUCH_NAME = 1, 0x8180, 0x8183


def host(number: int) -> str:
    return f"host{number}.example"


def kind_of(number: int) -> str:
    return KINDS.get(number % 100, GOOD)


def address_of(number: int) -> str:
    kind = kind_of(number)
    return {DEAD: DEAD_ADDRESS, TARPIT: TARPIT_ADDRESS}.get(kind) or f"127.0.2.{1 + number % GOOD_ADDRESSES}"


class NameServer(asyncio.DatagramProtocol):
    """Answers for host<number>.example with an IPv4 address and no IPv6 address."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        reply = answer(data)
        asyncio.get_running_loop().call_later(LOOKUP_SECONDS, self.transport.sendto, reply, sender)


def answer(query: bytes) -> bytes:
    end = query.index(b"\0", 12) + 1
    name = query[13 : 13 + query[12]].decode("ascii", "replace").lower()
    (kind,) = struct.unpack_from("!H", query, end)
    number = int(name.removeprefix("host")) if name.removeprefix("host").isdigit() else None
    question = query[12 : end + 4]
    if number is None or kind_of(number) == MISSING:
        return query[:2] + struct.pack("!5H", NO_SUCH_NAME, 1, 0, 0, 0) + question
    if kind != TYPE_A:
        return query[:2] + struct.pack("!5H", NO_ERROR, 1, 0, 0, 0) + question
    record = struct.pack("!3HIH", 0xC00C, TYPE_A, 1, 60, 4) + IPv4Address(address_of(number)).packed
    return query[:2] + struct.pack("!5H", NO_ERROR, 1, 1, 0, 0) + question + record


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin a good response and never end it."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/rss+xml\r\nContent-Length: 40000\r\n\r\n<?xml")
        for _ in range(600):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(DRIP_SECONDS)
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def open_dead_port() -> list[socket.socket]:
    """A port with a full queue: the kernel drops each further SYN, as a firewall does."""
    listener = socket.create_server((DEAD_ADDRESS, 443), backlog=0)
    filling = [socket.socket() for _ in range(4)]
    for client in filling:
        client.setblocking(False)
        client.connect_ex((DEAD_ADDRESS, 443))
    return [listener, *filling]


async def serve(certificate: str, key: str) -> None:
    sockets = open_dead_port()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    loop = asyncio.get_running_loop()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    names.bind(("127.0.0.1", 53))
    await loop.create_datagram_endpoint(NameServer, sock=names)
    server = await asyncio.start_server(drip, TARPIT_ADDRESS, 443, ssl=context, backlog=4096)
    async with server:
        await server.serve_forever()
    del sockets


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
