"""Fetching: answers and redirects as they should be, and every way in which they are not."""

import asyncio
import gzip
import socket
import ssl
import threading
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from batches.checking.checkers import fetch as fetch_module
from batches.checking.checkers.fetch import Fetcher, FetchError, Response, parse_retry_after
from batches.tests.support.feedserver import FeedServer, Reply
from batches.tests.support.hostile import HEAD, RAW

from .conftest import quick_config, short


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


# What is asked


def test_the_request_says_who_asks_and_nothing_of_other_requests(server, fetch):
    server.answer("/", headers={"Set-Cookie": "track=1; Path=/"}, body=b"a")
    fetch(server.url("/"), user_agent="somebody/1.0 (who@example.org)")
    assert server.last_request("/").headers["user-agent"] == "somebody/1.0 (who@example.org)"

    async def twice() -> None:
        async with Fetcher(quick_config()) as fetcher:
            # By name: no client keeps cookies of numeric addresses.
            await fetcher.fetch(server.url("/", host="localhost"))
            await fetcher.fetch(server.url("/", host="localhost"))

    asyncio.run(twice())
    assert "cookie" not in server.last_request("/").headers
    assert "authorization" not in server.last_request("/").headers


def test_connections_are_used_again(server):
    async def thrice() -> int:
        server.answer("/", body=b"a")
        async with Fetcher(quick_config()) as fetcher:
            for _ in range(3):
                await fetcher.fetch(server.url("/"))
            return server.connections

    assert asyncio.run(thrice()) == 1


@pytest.mark.parametrize(
    "path",
    ["/a%2Fb", "/a%7Eb?c=%20d+e&f=%E4", "/%zz", "/a;b=c,d?e=f/g?h", "/a//b", "/?a=1&&b", "/'a'(b)*", "/a%c3%a9"],
)
def test_an_address_is_asked_for_as_it_is_written(path, server, fetch):
    server.answer(path, body=b"a")
    fetch(server.url(path))
    server.redirect("/redirect", path)
    fetch(server.url("/redirect"))
    assert server.hits(path) == 2


@pytest.mark.parametrize(("path", "asked"), [("/é b", "/%C3%A9%20b"), ('/"a"', "/%22a%22"), ("/a#b", "/a")])
def test_what_cannot_stand_in_a_request_is_percent_encoded(path, asked, server, fetch):
    server.answer(asked, body=b"a")
    assert fetch(server.url(path)).body == b"a"


# What is answered


def test_an_answer_has_the_final_address_the_headers_and_the_body(server, fetch):
    server.redirect("/old", "new/er?x=1")
    server.answer("/new/er?x=1", body=b"hello", headers={"ETag": '"5"', "Content-Type": "text/xml; Charset='KOI8-R'"})
    answer: Response = fetch(server.url("/old"))
    assert (answer.url, answer.status, answer.body) == (server.url("/new/er?x=1"), 200, b"hello")
    assert (answer.headers["etag"], answer.charset) == ('"5"', "KOI8-R")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_the_same_headers(status, server, fetch):
    server.redirect("/a", "/b", status)
    server.answer("/b", body=b"b")
    assert fetch(server.url("/a"), {"If-None-Match": '"1"'}).body == b"b"
    assert server.last_request("/b").headers["if-none-match"] == '"1"'


def test_a_redirect_may_lead_to_another_host():
    with FeedServer(hosts=["127.0.0.1", "127.0.0.2"]) as server:
        server.redirect("/a", server.url("/b", host="127.0.0.2"))
        server.answer("/b", body=b"b")

        async def run() -> Response:
            async with Fetcher(quick_config()) as fetcher:
                return await fetcher.fetch(server.url("/a"))

        assert asyncio.run(run()).url == server.url("/b", host="127.0.0.2")


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_decompressed(encoding, pack, server, fetch):
    body = b"hello " * 10_000
    server.answer("/", body=pack(body), headers={"Content-Encoding": encoding})
    assert fetch(server.url("/")).body == body


@pytest.mark.parametrize("encoding", ["compress", "gzip, gzip", "nonsense", "identity", ""])
def test_a_body_in_an_unknown_encoding_is_left_as_it_is(encoding, server, fetch):
    server.answer("/", body=b"\x8b\x00hello", headers={"Content-Encoding": encoding})
    assert fetch(server.url("/")).body == b"\x8b\x00hello"


def test_a_body_may_come_in_chunks_and_may_end_with_the_connection(server, fetch):
    server.answer("/chunks", raw=HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    server.answer("/end", raw=[HEAD + b"\r\n", b"abc", b"de"], every=0.01)
    assert fetch(server.url("/chunks")).body == b"abcde"
    assert fetch(server.url("/end")).body == b"abcde"


def test_a_body_as_large_as_allowed_is_read(server, fetch):
    server.answer("/", body=b"x" * 300_000)
    assert len(fetch(server.url("/"), max_body=300_000).body) == 300_000
    with pytest.raises(FetchError, match=r"^the body is larger than 0.299999 MB$"):
        fetch(server.url("/"), max_body=299_999)


def test_headers_may_be_larger_than_usual(server, fetch):
    server.answer("/", body=b"a", headers={"Content-Security-Policy": "a" * 20_000})
    assert fetch(server.url("/")).body == b"a"


def test_304_is_an_answer_to_a_conditional_request_only(server, fetch):
    server.answer("/", status=304)
    assert fetch(server.url("/"), {"If-None-Match": '"1"'}).status == 304
    with pytest.raises(FetchError, match=r"^answered 304 Not Modified$"):
        fetch(server.url("/"))


# What goes wrong


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (400, "answered 400 Bad Request"),
        (401, "answered 401 Unauthorized"),
        (403, "answered 403 Forbidden"),
        (404, "answered 404 Not Found"),
        (410, "answered 410 Gone"),
        (429, "answered 429 Too Many Requests"),
        (500, "answered 500 Internal Server Error"),
        (503, "answered 503 Service Unavailable"),
    ],
)
def test_an_error_status_is_told_with_its_name(status, sentence, server, fetch):
    server.answer("/", status=status, body=b"sorry")
    with pytest.raises(FetchError) as failed:
        fetch(server.url("/"))
    assert (str(failed.value), failed.value.http_status) == (sentence, status)


def test_the_reason_is_ours_not_the_servers(server, fetch):
    server.answer("/", raw=b"HTTP/1.1 404 <script>\xff\x00\r\nContent-Length: 0\r\n\r\n")
    server.answer("/odd", raw=b"HTTP/1.1 799 Whatever\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(FetchError, match=r"^(answered 404 Not Found|sent an invalid response)$"):
        fetch(server.url("/"))
    with pytest.raises(FetchError, match=r"^answered 799$"):
        fetch(server.url("/odd"))


def test_redirects_end_somewhere(server, fetch):
    for number in range(6):
        server.redirect(f"/{number}", f"/{number + 1}")
    server.answer("/6", body=b"a")
    assert fetch(server.url("/1")).body == b"a"
    with pytest.raises(FetchError, match=r"^redirected more than 5 times$"):
        fetch(server.url("/0"))


def test_a_redirect_loop_is_left(server, fetch):
    server.redirect("/a", "/b")
    server.redirect("/b", "/a")
    with pytest.raises(FetchError, match=r"^redirected more than 5 times$"):
        fetch(server.url("/a"))
    assert len(server.requests) == 6


def test_a_redirect_to_nowhere_is_told(server, fetch):
    server.answer("/", status=302)
    with pytest.raises(FetchError, match=r"^answered 302 Found without a Location header$"):
        fetch(server.url("/"))


def test_a_closed_port_is_told(fetch):
    with pytest.raises(FetchError, match=r"^refused the connection$"):
        fetch(f"http://127.0.0.1:{closed_port()}/")


@pytest.mark.parametrize(
    ("code", "sentence", "lookups"),
    [
        (socket.EAI_NONAME, "no such host", 1),
        (socket.EAI_AGAIN, "no such host, or its name servers do not answer", 3),
    ],
)
@pytest.mark.usefixtures("no_backoff")
def test_an_unknown_host_is_told(code, sentence, lookups, monkeypatch, fetch):
    asked = []

    def unknown(host: str, *_: object) -> None:
        asked.append(host)
        raise socket.gaierror(code, "Name or service not known")

    monkeypatch.setattr(fetch_module.socket, "getaddrinfo", unknown)
    with pytest.raises(FetchError, match=f"^{sentence}$"):
        fetch("http://unknown.example/", retries=2)
    assert asked == ["unknown.example"] * lookups


@pytest.mark.parametrize(
    "host", ["a" * 64 + ".example", "a..example", "-.-", "xn--\u0080", "%00", "a b", "\ud800.example"], ids=short
)
def test_a_host_name_that_cannot_be_one_is_told(host, fetch):
    with pytest.raises(FetchError, match=r"^(the address is not valid|no such host)"):
        fetch(f"http://{host}/")


def test_a_certificate_that_nobody_vouches_for_is_refused(fetch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "self_signed.pem")
    expected = pytest.raises(FetchError, match=r"^the certificate is not valid: self.signed")
    with FeedServer(tls=context) as server, expected:
        fetch(server.url("/"))
    assert server.requests == []


def test_a_server_that_does_not_speak_tls_is_told(fetch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=greet).start()
        with pytest.raises(FetchError, match=r"^the TLS handshake failed$"):
            fetch(f"https://127.0.0.1:{server.getsockname()[1]}/")


@pytest.mark.parametrize(
    "location",
    [
        "\x01",
        "//",
        "///",
        "?",
        "http://[::1",
        "http://a b/",
        "%",
        "\\\\evil",
        "http:\\\\evil",
        "a" * 50_000,
        "http:",
        ":",
    ],
    ids=short,
)
def test_an_odd_redirect_is_no_exception(location, server, fetch):
    server.redirect("/", location)
    with pytest.raises(FetchError):
        fetch(server.url("/"))


@pytest.mark.parametrize("start", ["http://", "//", "HTTPS://", "ht\ttp://", "http://a@"])
@pytest.mark.parametrize("character", ["\ufdfa", "é", "a", "%61"])
def test_a_host_name_without_end_is_refused_as_it_stands(start, character, server, fetch):
    """Making 20,000 of the first character ASCII would take more than a second, in which no lease is renewed."""
    location = (start + character * 20_000).encode()
    server.answer("/", raw=b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(FetchError, match=r"^the redirect target has a host name that is too long$"):
        fetch(server.url("/"))


def test_a_path_may_be_long_and_have_double_slashes(server, fetch):
    path = "/a//" + "b" * 1000 + "?c=http://" + "d" * 1000
    server.redirect("/", path)
    server.redirect("/relative", path[1:])
    server.answer(path, body=b"hello")
    assert fetch(server.url("/")).body == fetch(server.url("/relative")).body == b"hello"


def test_a_redirect_in_raw_bytes_is_no_exception(server, fetch):
    server.answer("/", raw=b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9\xff\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(FetchError):
        fetch(server.url("/"))


def test_a_fetcher_goes_on_after_hostile_answers(server):
    async def run() -> Response:
        async with Fetcher(quick_config(timeout=0.5, per_host=50)) as fetcher:
            tasks = [fetcher.fetch(server.url(f"/{number}")) for number in range(len(RAW))]
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {FetchError}
            return await fetcher.fetch(server.url("/good"))

    for number, (raw, _) in enumerate(RAW.values()):
        server.answer(f"/{number}", raw=raw)
    server.answer("/good", body=b"good")
    assert asyncio.run(run()).body == b"good"


# Further tries


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_transient_fault_is_tried_again(status, server, fetch):
    server.answer_in_turn("/", Reply(status), Reply(status), Reply(body=b"at last"))
    assert fetch(server.url("/"), retries=2).body == b"at last"
    assert server.hits("/") == 3


@pytest.mark.usefixtures("no_backoff")
def test_tries_come_to_an_end(server, fetch):
    server.answer("/", status=500)
    with pytest.raises(FetchError, match=r"^answered 500 Internal Server Error$"):
        fetch(server.url("/"), retries=2)
    assert server.hits("/") == 3


@pytest.mark.usefixtures("no_backoff")
def test_a_broken_connection_is_tried_again(server, fetch):
    server.answer_in_turn("/", Reply(raw=b""), Reply(raw=b""), Reply(body=b"at last"))
    assert fetch(server.url("/"), retries=2).body == b"at last"


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_an_answer_that_will_not_change_is_not_asked_for_again(status, server, fetch):
    server.answer("/", status=status)
    with pytest.raises(FetchError):
        fetch(server.url("/"), retries=2)
    assert server.hits("/") == 1


@pytest.mark.usefixtures("no_backoff")
def test_a_timeout_is_not_tried_again(server, fetch):
    gate = server.hold("/")
    with pytest.raises(FetchError, match="did not answer"):
        fetch(server.url("/"), retries=2, timeout=0.2)
    gate.open()
    assert server.hits("/") == 1


def test_tries_are_spaced_out_ever_further(server, fetch, monkeypatch):
    waits = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(fetch_module.asyncio, "sleep", sleep)
    server.answer("/", status=500)
    with pytest.raises(FetchError):
        fetch(server.url("/"), retries=3)
    assert [0.5 * 2**n * 0.5 <= wait <= 0.5 * 2**n * 1.5 for n, wait in enumerate(waits)] == [True] * 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5),
        (" 120 ", 120),
        ("0", 0),
        ("", 0),
        ("-5", 0),
        ("5.5", 0),
        ("soon", 0),
        ("٥", 0),
        ("9" * 400, 999_999_999),
    ],
    ids=short,
)
def test_retry_after_is_read_as_seconds(value, seconds):
    assert parse_retry_after(value) == seconds


def test_retry_after_is_read_as_a_date():
    in_a_minute = datetime.now(UTC) + timedelta(seconds=60)
    assert 55 < parse_retry_after(format_datetime(in_a_minute, usegmt=True)) <= 60
    assert 55 < parse_retry_after(in_a_minute.strftime("%A, %d-%b-%y %H:%M:%S GMT")) <= 60
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert parse_retry_after("Thu, 99 Foo 9999 00:00:00 GMT") == 0
    assert parse_retry_after("Fri, 31 Dec 9999 23:59:59 -2359") >= 0
