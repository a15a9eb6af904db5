"""Hostile responses, their outcomes, and a server that sends them."""

from __future__ import annotations

import gzip
import json
import re
import socket
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard

from batches.checking.checkers.parse import MAX_STORIES
from batches.tests.conftest import skip_or_fail

from .feedserver import FeedServer, Reply

#: For checks of hostile responses. Some trickle for ever, and end with this timeout.
CONFIG: Mapping[str, Any] = {"timeout": 0.5, "retries": 0, "max_body": 5_000_000, "allowed_networks": ("127.0.0.0/8",)}

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GZIPPED = HEAD + b"Content-Encoding: gzip\r\n\r\n"

BROKEN = r"^(sent an invalid response: [^\n]+|closed the connection too early)$"
TOO_LARGE = r"^the body is larger than 5 MB$"
TOO_SLOW = r"^did not answer within [\d.]+ s$"
NO_FEED = r"^the response is not a feed$"
NO_FEED_DECLARED = r"^the page declares no feed$"
TOO_MANY_REDIRECTS = r"^redirected too many times \(limit: 5\)$"
GIANT_HEAD = r"^sent headers larger than 64 kB$"


SECRET = "nobody may read this"


@dataclass(frozen=True)
class Forever:
    """The head and endless pieces, for each request again."""

    piece: bytes
    head: bytes = b""

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        while True:
            yield self.piece


def bomb(window: int, megabytes: int = 400) -> bytes:
    """Zeros, packed to a thousandth. All blocks but the first are equal, so that packing takes no time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    first, other = (packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + other * (megabytes - 1)


GZIP, DEFLATE, RAW_DEFLATE = 31, 15, -15

START, END = b'<rss version="2.0"><channel>', b"</channel></rss>"
ITEM = START + b"<item><title>"

# No HTTP, broken HTTP, or endless HTTP: the sent bytes, and a pattern for the reason.
RAW: dict[str, tuple[bytes | Iterable[bytes], str]] = {
    "nothing at all": (b"", BROKEN),
    "HTTP 0.9": (b"<html>hello</html>", BROKEN),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", BROKEN),
    "a header without a colon": (HEAD + b"Content-Type text/xml\r\n\r\n", BROKEN),
    "a giant header": (HEAD + b"X: " + b"a" * 200_000 + b"\r\n\r\n", GIANT_HEAD),
    "headers without end": (Forever(b"X-Header: hello\r\n" * 500, HEAD), BROKEN + "|" + GIANT_HEAD),
    "interim answers without end": (Forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), GIANT_HEAD + "|" + TOO_SLOW),
    "another protocol from now on": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        r"^answered 101 Switching Protocols$",
    ),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nhello", BROKEN),
    "a length of many digits": (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello", NO_FEED),
    "a body shorter than its length": (HEAD + b"Content-Length: 500\r\n\r\nhello", BROKEN),
    "a length over the limit": (HEAD + b"Content-Length: 50000000\r\n\r\nhello", BROKEN),
    "length and chunks": (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NO_FEED),
    "an invalid chunk size": (CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n", BROKEN),
    "chunks without the last one": (CHUNKED + b"5\r\nhello\r\n", BROKEN),
    "a chunk that is longer than it says": (CHUNKED + b"2\r\nhello\r\n0\r\n\r\n", BROKEN),
    "a chunk extension without end": (Forever(b"a" * 10_000, CHUNKED + b"5;"), BROKEN + "|" + TOO_SLOW),
    "trailers without end": (
        Forever(b"X: hello\r\n" * 500, CHUNKED + b"0\r\n"),
        "|".join((BROKEN, GIANT_HEAD, TOO_SLOW)),
    ),
    "no gzip where it says so": (GZIPPED + b"hello, this is plain text", NO_FEED),
    "a compression that nobody asked for": (HEAD + b"Content-Encoding: br\r\n\r\nhello", NO_FEED),
    "a gzip with a wrong checksum": (GZIPPED + gzip.compress(b"hello")[:-8] + b"\0" * 8, NO_FEED),
    "a body without end": (Forever(b"x" * 65_536, HEAD + b"\r\n"), TOO_LARGE),
    "chunks without end": (Forever(b"10000\r\n" + b"x" * 65_536 + b"\r\n", CHUNKED), TOO_LARGE),
    "gzip members without end": (Forever(gzip.compress(b"") * 1000, GZIPPED), TOO_LARGE + "|" + TOO_SLOW),
    "a million headers": (HEAD + b"X: a\r\n" * 1_000_000 + b"\r\n", BROKEN),
    "a chunk size without end": (Forever(b"0" * 10_000, CHUNKED), "|".join((BROKEN, GIANT_HEAD, TOO_SLOW))),
    "a chunk size over the limit": (Forever(b"x" * 65_536, CHUNKED + b"ffffffffff\r\n"), TOO_LARGE),
}

# The same, slowly: one piece after the other, for ever.
TRICKLES: dict[str, bytes | Iterable[bytes]] = {
    "a status line, byte by byte": Forever(b"a", b"HTTP/1.1 200 "),
    "header after header": Forever(b"X: a\r\n", HEAD),
    "a body, byte by byte": Forever(b"1", HEAD + b"\r\n"),
    "a body of known length, byte by byte": Forever(b"1", HEAD + b"Content-Length: 500\r\n\r\n"),
    "a chunk size, byte by byte": Forever(b"0", CHUNKED),
    "interim answer after interim answer": Forever(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


def compressed() -> dict[str, tuple[bytes, str, str]]:
    return {
        "a gzip bomb": (bomb(GZIP), "gzip", TOO_LARGE),
        "a deflate bomb": (bomb(DEFLATE), "deflate", TOO_LARGE),
        "a deflate bomb without its head": (bomb(RAW_DEFLATE), "deflate", TOO_LARGE),
        "half a gzip": (gzip.compress(b"hello " * 9)[:20], "gzip", NO_FEED),
        "a gzip bomb, twice": (gzip.compress(bomb(GZIP)), "gzip, gzip", TOO_LARGE),
        "a gzip bomb that does not say so": (bomb(GZIP), "", TOO_LARGE),
        # Not asked for, but understood.
        "a brotli bomb": (brotli.compress(bytes(400_000_000), quality=1), "br", TOO_LARGE),
        "a zstandard bomb": (zstandard.compress(bytes(400_000_000)), "zstd", TOO_LARGE),
        "a brotli": (b"\x8b\x02\x80hello\x03", "br", NO_FEED),
        "a zstandard": (b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello", "zstd", NO_FEED),
    }


LAUGHS = '<!ENTITY l0 "ha">' + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BLOWUP = f'<!ENTITY a "{"a" * 100_000}"><!ENTITY b "{"&a;" * 2000}">'


def feed(title: bytes = b"One", before: bytes = b"", attribute: bytes = b"a='b'") -> bytes:
    """A feed of one story."""
    item = b"<item %s><guid>1</guid><link>http://a.example/</link><title>%s</title></item>" % (attribute, title)
    return START + before + item + END


def with_doctype(declarations: str, title: bytes) -> bytes:
    return f"<!DOCTYPE rss [{declarations}]>".encode() + feed(title)


def with_encoding(encoding: bytes, title: bytes = b"One") -> bytes:
    return b'<?xml version="1.0" encoding="%s"?>' % encoding + feed(title)


REPEATED_IN_PAGES = [
    b"<link ", b'<link "', b"<link '", b'<link a="', b"<link a ", b"<link " + b"a " * 3000 + b">", b"<base href='//[' ",
    b"<link" + b" a=''" * 60 + b">", b"<!--", b"<script>", b"<style", b"<", b"<link " + b"a='b' " * 600_000 + b">",
    b"<script />", b"<title /", b'<meta http-equiv=refresh content="0;url=">',
    b"<meta refresh " + b"0;url=" * 300_000 + b">",
    b'<link rel="alternate" type="application/rss+xml" href="">', b'<link rel=alternate href="javascript:a">',
]  # fmt: skip


def documents() -> dict[str | int, dict[str, bytes]]:
    """Well-formed HTTP with documents that harm a naive reader, by expected outcome: the number of harmless stories,
    or a failure. @ORIGIN@ is the server, @FILE@ a file."""
    dates = (b"<item><pubDate>" + b"1:" * 120 + b"%d</pubDate></item>" % n for n in range(300))
    categories = (b"<category>%d</category>" % n for n in range(20_000))
    own_feed = b'<html><link rel="alternate" type="application/rss+xml" href="/a-page-that-is-its-own-feed">'
    return {
        1: {
            "a billion laughs": with_doctype(LAUGHS, b"&l9;"),
            "a quadratic blowup": with_doctype(BLOWUP, b"&b;"),
            "an entity of a file": with_doctype('<!ENTITY x SYSTEM "file://@FILE@">', b"&x;"),
            "an entity of an address": with_doctype('<!ENTITY x SYSTEM "@ORIGIN@/secret">', b"&x;"),
            "a document type of an address": b'<!DOCTYPE rss SYSTEM "@ORIGIN@/secret">' + feed(b"&x;"),
            "an inclusion": feed(
                b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" parse="text" href="@ORIGIN@/secret"/>'
            ),
            "a style sheet": b'<?xml-stylesheet type="text/xsl" href="@ORIGIN@/secret"?>' + feed(),
            "100,000 nested elements": feed(before=b"<a>" * 100_000),
            "a title of 4 MB": feed(b"a" * 4_000_000),
            "an id of 4 MB": START + b"<item><guid>" + b"a" * 4_000_000 + b"</guid></item>" + END,
            "an author of 500 KB": ITEM + b"a<b/></title><author>" + b"a" * 499_000 + b"</author></item>",
            "a creator of 600 KB": ITEM + b"a<b/></title><dc:creator>" + b"a." * 300_000 + b"</dc:creator></item>",
            "an encoding that is a compression": with_encoding(b"zip"),
            "an encoding that is slow": with_encoding(b"punycode", b"a-" * 2_000_000),
            "UTF-16 cut in the middle": feed().decode().encode("utf-16")[:-3],
            "300,000 attributes": feed(attribute=b" ".join(b"a%d='1'" % n for n in range(300_000))),
            "a link of 50,000 bases": ITEM
            + b"a</title>"
            + b"<link xml:base='b/' href='c'/>" * 50_000
            + b"</item>"
            + END,
            "UTF-8 that is too long": feed(b"\xc0\xbcscript\xc0\xbe \xf8\x88\x80\x80\x80" * 1000),
        },
        MAX_STORIES: {
            "100,000 items": START + b"".join(b"<item><guid>%d</guid></item>" % n for n in range(100_000)) + END,
            "100,000 items in JSON": json.dumps({"items": [{"id": str(n)} for n in range(100_000)]}).encode(),
        },
        0: {
            "nested items": START + b"<item>" * 100_000,
            "nested items and channels": START + b"<item><channel>" * 120_000,
            "nested channels and other ends": START + b"<channel>" * 200_000 + b"</image>" * 200_000,
            "100,000 nested name spaces": START + b"".join(b'<a xmlns:n%d="u%d">' % (n, n) for n in range(100_000)),
            "100,000 prefixes of items": START + b"".join(b"<p%d:item>" % n for n in range(100_000)) + b"</b>",
            "150,000 names of elements": START + b"<item>" + b"".join(b"<t xmlns='u%d'/>" % n for n in range(150_000)),
            "240,000 titles without end": ITEM + b"<title>" * 240_000 + b"<b a=>",
            "an attribute of 4 MB": START + b"<item " + b"a" * 4_000_000 + b">",
            "a million attributes without quotes": START + b"<item " + b"a  " * 1_000_000 + b">",
            "a million attributes of half a quote": START + b"<item " + b"a=\"' " * 800_000 + b">",
            "a million ends of CDATA": START + b"<item><b a=>" + b"]]>" * 1_300_000,
            "400,000 line breaks in a title": START + b"<item><title>" + b"<br/>" * 400_000 + b"</title></item>" + END,
            "nested tags in a title": ITEM + b"<b>" * 200_000,
            "the name of an element of 4 MB": START + b"<" + b"a" * 4_000_000,
            "20,000 categories": ITEM + b"a<b/></title>" + b"".join(categories),
            "300 long dates": START + b"".join(dates),
            "a comment of 4 MB without end": START + b"<!--" + b"-" * 4_000_000,
            "comments in CDATA without end": ITEM + b"<![CDATA[" + b"<!--" * 150_000,
            "150,000 texts in CDATA without end": START + b"<item><description><![CDATA[" * 150_000,
            "quotes without end": START + b'<a b="' * 100_000,
        },
        NO_FEED: {
            "a document type without end": b"<!DOCTYPE rss [<!ENTITY a '" + feed(),
            "200,000 document types without end": b"<!DOCTYPE a [" * 50_000,
            "50,000 document types": b"<!DOCTYPE a>" * 50_000,
            "an address in place of a feed": b"@ORIGIN@/secret",
            "a file's name in place of a feed": b"@FILE@",
            "a million items of nothing": START + b"<item/>" * 700_000 + END,
            "a million nested elements": feed(before=b"<a>" * 1_000_000),
            "two million nested brackets": b'{"items": ' + b"[" * 2_000_000,
            "700,000 small brackets": b'{"items": [' + b"[[[]]]," * 700_000 + b"{}]}",
            "a number of four million digits": b'{"items": [{"id": ' + b"9" * 4_000_000 + b"}]}",
            "a title of a million entities": feed(b"&a;" * 1_000_000),
            "a million CDATA sections without end": ITEM + b"<![CDATA[" * 500_000,
            "four million brackets": b"<" * 4_000_000,
            "four million NULs": bytes(4_000_000),
            "UTF-32 of no characters": b"\xff\xfe\0\0" + b"\xff" * 4_000_000,
        },
        NO_FEED_DECLARED: {
            f"a page of repeated tags {number}": b"<html>" + pattern * (4_500_000 // len(pattern))
            for number, pattern in enumerate(REPEATED_IN_PAGES)
        },
        TOO_LARGE: {"a title of 10 MB": feed(b"a" * 10_000_000)},
        r"^its feed: the response is not a feed$": {"a page that is its own feed": own_feed},
    }


# Where each redirect leads to.
REDIRECTS: dict[str, tuple[str, str]] = {
    "a redirect to itself": ("/a-redirect-to-itself", TOO_MANY_REDIRECTS),
    "a redirect chain": ("/chain/1", TOO_MANY_REDIRECTS),
    "a redirect to nowhere": ("", r"^answered 302 Found without a Location header$"),
    "a redirect to a file": ("file:///etc/passwd", r"^the redirect target is not http or https$"),
    "a redirect of 60,000 letters": ("/" + "a" * 60_000, r"^answered 404 Not Found$"),
    "a redirect to something that is not an address": ("http://[", r"^the redirect target is not valid$"),
}
FURTHER = {f"/chain/{n}": f"/chain/{n + 1}" for n in range(1, 100)}

# These only listen.
SILENT = {
    "no answer": "http://{silent}/",
    "no TLS": "https://{silent}/",
    "no answer to a request": "{origin}/held",
    "no TLS behind a greeting": "https://{server}/",
}


@dataclass(frozen=True)
class Attack:
    """`error` is a pattern for the reason, and empty if the outcome is a success with `stories`."""

    reply: Reply | None
    error: str
    stories: int = 0


@cache
def attacks() -> dict[str, Attack]:
    found = {kind: Attack(Reply(raw=raw), error) for kind, (raw, error) in RAW.items()}
    found |= {kind: Attack(Reply(raw=raw, every=0.05), TOO_SLOW) for kind, raw in TRICKLES.items()}
    for kind, (body, encoding, error) in compressed().items():
        found[kind] = Attack(Reply(body=body, headers={"Content-Encoding": encoding}), error)
    for outcome, bodies in documents().items():
        error, stories = ("", outcome) if isinstance(outcome, int) else (outcome, 0)
        found |= {kind: Attack(Reply(body=body), error, stories) for kind, body in bodies.items()}
    for kind, (location, error) in REDIRECTS.items():
        found[kind] = Attack(Reply(302, headers={"Location": location}), error)
    return found | {kind: Attack(None, TOO_SLOW) for kind in SILENT}


class HostileServer(FeedServer):
    """Sends each of `attacks` under its own address. Some name a file, `secret`, or `/secret`: both contain SECRET."""

    def __init__(self, secret: Path) -> None:
        super().__init__()
        self.secret = secret

    def __enter__(self) -> HostileServer:
        self._silent = socket.create_server(("127.0.0.1", 0))
        super().__enter__()
        for kind, attack in attacks().items():
            if attack.reply:
                self.answer_in_turn(path_of(kind), self._here(attack.reply))
        for path, location in FURTHER.items():
            self.redirect(path, location)
        self.hold("/held")
        self.answer("/secret", self.secret.read_bytes())
        return self

    def __exit__(self, *exc_info: object) -> None:
        super().__exit__(*exc_info)
        self._silent.close()

    @property
    def urls(self) -> dict[str, str]:
        silent = f"127.0.0.1:{self._silent.getsockname()[1]}"
        places = {"origin": self.url(""), "server": f"127.0.0.1:{self.port}", "silent": silent}
        return {kind: self.url(path_of(kind)) for kind in attacks()} | {
            kind: template.format(**places) for kind, template in SILENT.items()
        }

    def _here(self, reply: Reply) -> Reply:
        if not isinstance(reply.body, bytes):
            return reply
        body = reply.body.replace(b"@ORIGIN@", self.url("").encode()).replace(b"@FILE@", bytes(self.secret))
        return replace(reply, body=body)


def path_of(kind: str) -> str:
    return "/" + kind.replace(" ", "-")


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[HostileServer]:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with HostileServer(secret) as server:
        yield server


@contextmanager
def peak(limit: int) -> Iterator[None]:
    """Fails if this process ever has `limit` bytes more than at the start."""
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        skip_or_fail("The peak of a process's memory is measured on Linux only.")
    before = memory("VmRSS")
    peak.write_text("5")  # forget it
    yield
    more = memory("VmHWM") - before
    assert more < limit, f"{more / 1e6:.0f} MB more than at the beginning"


def memory(name: str) -> int:
    """Bytes of memory that the process has (VmRSS), or its peak (VmHWM)."""
    [kilobytes] = re.findall(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) * 1024
