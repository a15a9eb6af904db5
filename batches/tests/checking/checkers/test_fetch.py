"""Fetching: correct responses and redirects, and all kinds of broken ones."""

import errno
import gzip
import random
import socket
import ssl
import threading
import zlib
from pathlib import Path

import pycurl
import pytest

from batches.checking.checkers import client
from batches.checking.checkers import fetch as fetch_module
from batches.checking.checkers.base import FetchError, Unreachable
from batches.checking.checkers.client import explain_fault
from batches.tests.support.feedserver import FeedServer, Reply
from batches.tests.support.hostile import CHUNKED, HEAD, Forever

from .conftest import check, fetch, short, with_checker


def failure_of(url, *arguments, **config):
    with pytest.raises(FetchError) as failure:
        fetch(url, *arguments, **config)
    return str(failure.value)


# Requests


@with_checker(user_agent="somebody/1.0 (who@example.org)")
async def test_the_request_names_its_sender_and_carries_nothing_of_other_requests(checker, server):
    server.answer("/", headers={"Set-Cookie": "track=1; Path=/"}, body=b"a")
    for _ in range(3):  # by name: no client keeps cookies of numeric addresses
        await checker.fetch(server.url("/", host="localhost"))
    assert server.connections == 1
    headers = server.last_request("/").headers
    assert headers["user-agent"] == "somebody/1.0 (who@example.org)"
    assert not {"cookie", "authorization"} & set(headers)


AS_WRITTEN = ["/a%2Fb", "/a%7Eb?c=%20d+e&f=%E4", "/%zz", "/a;b=c,d?e=f/g?h", "/a?b=1&&c", "/'a'(b)*", "/a%c3%a9"]
AS_WRITTEN += ["/a//" + "b" * 1000 + "?c=http://" + "d" * 1000]


@pytest.mark.parametrize("path", AS_WRITTEN, ids=short)
def test_an_address_is_requested_as_it_is_written(path, server):
    server.answer(path, body=b"a")
    server.redirect("/redirect", path)
    server.redirect("/relative", path[1:])
    for written in (path, "/redirect", "/relative"):
        assert fetch(server.url(written)).body == b"a"


@pytest.mark.parametrize(("path", "requested"), [("/é b", "/%C3%A9%20b"), ('/"a"', "/%22a%22"), ("/a#b", "/a")])
def test_characters_that_a_request_cannot_contain_are_percent_encoded(path, requested, server):
    server.answer(requested, body=b"a")
    assert fetch(server.url(path)).body == b"a"


@with_checker()
async def test_cookies_live_as_long_as_a_chain_of_redirects(checker, server):
    """As sites need them that set one and send back to the same address."""
    gate = Reply(302, headers={"Location": "/gate"})
    server.answer_in_turn(
        "/", lambda request: Reply(body=b"a") if "open=1" in request.headers.get("cookie", "") else gate
    )
    server.answer("/gate", status=302, headers={"Location": "/", "Set-Cookie": "open=1; Path=/"})
    for _ in range(2):
        assert (await checker.fetch(server.url("/"))).body == b"a"
    assert [request.headers.get("cookie") for request in server.requests] == [None, None, "open=1"] * 2


def test_a_cookie_stays_with_its_host(server):
    server.answer("/", status=302, headers={"Location": server.url("/b", host="127.0.0.2"), "Set-Cookie": "a=1"})
    server.answer("/b", body=b"b")
    assert fetch(server.url("/")).body == b"b"
    assert "cookie" not in server.last_request("/b").headers


# Responses


def test_a_response_has_the_final_address_the_headers_and_the_body(server):
    server.redirect("/old", "new/er?x=1")
    server.answer("/new/er?x=1", body=b"hello", headers={"ETag": '"5"'})
    response = fetch(server.url("/old"))
    assert (response.url, response.status, response.body) == (server.url("/new/er?x=1"), 200, b"hello")
    assert response.headers["etag"] == '"5"'


@pytest.mark.parametrize(
    ("location", "requested"),
    [
        (b"/caf\xc3\xa9", "/caf%C3%A9"),
        (b"/caf\xe9", "/caf%E9"),  # neither UTF-8 nor ASCII: byte for byte
        (b"/a b\tc", "/a%20bc"),
        (b"?a=1", "/?a=1"),
        (b"#top", "/"),
        (b"./a/../b", "/b"),
        (b"//127.0.0.2:@PORT@/c", "/c"),
    ],
)
def test_a_location_is_read_as_browsers_read_it(location, requested, server):
    location = location.replace(b"@PORT@", str(server.port).encode())
    redirect = Reply(raw=b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
    server.answer_in_turn("/", redirect, Reply(body=b"a"))
    server.answer(requested, body=b"a") if requested != "/" else None
    assert fetch(server.url("/")).body == b"a"
    assert server.requests[-1].path == requested


def test_a_response_names_the_target_of_permanent_redirects(server):
    statuses = {"/1": 301, "/2": 308, "/3": 302}
    for path, status in statuses.items():
        server.redirect(path, f"/{int(path[1:]) - 1}" if path != "/3" else "/2", status)
    server.answer("/0", body=b"a")
    moved = {path: fetch(server.url(path)).moved_to for path in ("/0", "/1", "/2", "/3")}
    assert moved == {"/0": "", "/1": server.url("/0"), "/2": server.url("/0"), "/3": ""}
    assert check(server.url("/2"), "http").moved_to == server.url("/0")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_to_other_hosts_with_the_same_headers(status, server):
    there = server.url("/b", host="127.0.0.2")
    server.redirect("/a", there, status)
    server.answer("/b", body=b"b")
    assert fetch(server.url("/a"), {"If-None-Match": '"1"'}).url == there
    assert server.last_request("/b").headers["if-none-match"] == '"1"'


def test_five_redirects_are_followed(server):
    for number in range(6):
        server.redirect(f"/{number}", f"/{number + 1}")
    server.answer("/6", body=b"a")
    assert fetch(server.url("/1")).body == b"a"
    assert failure_of(server.url("/0")) == "redirected too many times (limit: 5)"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"x" * 300_000, ""),
        ([b"x" * 150_000] * 2, ""),
        (gzip.compress(b"x" * 300_000), ""),
        (zlib.compress(b"x" * 300_000), "deflate"),
    ],
    ids=["of known length", "in pieces", "packed", "packed, as only its header says"],
)
def test_a_body_is_read_until_it_is_as_large_as_allowed(body, encoding, server):
    server.answer("/", body=body, headers={"Content-Security-Policy": "a" * 20_000, "Content-Encoding": encoding})
    for limit, is_cut in ((300_000, False), (299_999, True)):
        response = fetch(server.url("/"), max_body=limit)
        assert (len(response.body), response.is_cut) == (limit, is_cut)


def test_a_packed_body_that_is_larger_than_allowed_is_cut(server):
    content = random.Random(7).randbytes(300_000)
    server.answer("/", body=gzip.compress(content))
    response = fetch(server.url("/"), max_body=200_000)
    assert response.is_cut
    assert content.startswith(response.body)


SLOPPY = {
    "bytes behind the length": HEAD + b"Content-Length: 2\r\n\r\nhi\r\n<!-- cached -->",
    "bytes behind the last chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n<!-- cached -->",
    "lines that end in LF": b"HTTP/1.1 200 OK\nContent-Length: 2\nETag: 1\n\nhi",
    "a header over two lines": HEAD + b"X-Long: one\r\n two\r\nContent-Length: 2\r\n\r\nhi",
    "a header in Latin-1": HEAD + b"X-City: Z\xfcrich\r\nContent-Length: 2\r\n\r\nhi",
    "the same length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "a space before the colon": HEAD + b"Content-Length : 2\r\n\r\nhi",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\nETag: 0\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nhi",
    "trailers": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nETag: 2\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhi",
}


@pytest.mark.parametrize("raw", SLOPPY.values(), ids=SLOPPY)
def test_a_sloppy_response_is_read_as_curl_and_browsers_read_it(raw, server):
    server.answer("/", raw=raw)
    response = fetch(server.url("/"))
    assert response.body == b"hi"
    assert response.headers.get("ETag") in {None, "1"}


def test_the_body_of_a_redirect_is_not_read_for_long(server, monkeypatch):
    """Neither much of it nor for more than a second."""
    monkeypatch.setattr(client, "UNWANTED_SECONDS", 0.1)
    server.answer("/", raw=Forever(b"x", HEAD.replace(b"200 OK", b"302 Found") + b"Location: /b\r\n\r\n"), every=0.1)
    server.answer("/endless", raw=Forever(b"x" * 65_536, HEAD.replace(b"200 OK", b"404 Gone") + b"\r\n"))
    server.answer("/b", body=b"b")
    assert fetch(server.url("/")).body == b"b"
    assert failure_of(server.url("/endless")) == "answered 404 Not Found"


# Failures


def test_a_closed_port_refuses_the_connection():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert failure_of(f"http://127.0.0.1:{port}/") == "refused the connection"


COULD_NOT_CONNECT = {
    errno.EHOSTUNREACH: (True, "could not be reached"),
    errno.EPROTO: (True, "could not be reached"),
    errno.EMFILE: (False, "was not checked: too many files are open on this machine"),
}
OTHER_FAULTS = {pycurl.E_OPERATION_TIMEDOUT: True, pycurl.E_COULDNT_RESOLVE_HOST: True}
OTHER_FAULTS |= {pycurl.E_PEER_FAILED_VERIFICATION: False, pycurl.E_SSL_CONNECT_ERROR: False}
OTHER_FAULTS |= {pycurl.E_GOT_NOTHING: False, pycurl.E_RECV_ERROR: False}


def test_only_a_host_without_a_connection_is_unreachable():
    for number, (is_unreachable, reason) in COULD_NOT_CONNECT.items():
        failure = explain_fault(pycurl.E_COULDNT_CONNECT, "Whatever", OSError(number, "Whatever"), 5.0)
        assert (isinstance(failure, Unreachable), str(failure), failure.transient) == (is_unreachable, reason, True)
    for code, is_unreachable in OTHER_FAULTS.items():
        assert isinstance(explain_fault(code, "Whatever", OSError(0, ""), 5.0), Unreachable) is is_unreachable, code


def test_a_check_says_that_its_host_was_unreachable(server):
    server.answer("/gone", status=410)
    addresses = f"http://127.0.1.1:{server.port}/", server.url("/gone"), "http://nothing.invalid/", "ftp://x/"
    assert [check(address, "http").is_unreachable for address in addresses] == [True, False, True, False]


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "-.-", "xn--\u0080", "a b", "\ud800.example"], ids=short)
def test_an_impossible_host_name_is_a_failure(host):
    assert failure_of(f"http://{host}/").startswith(("the address is not valid", "no such host"))


def test_a_self_signed_certificate_is_refused():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "self_signed.pem")
    with FeedServer(tls=context) as server:
        assert failure_of(server.url("/")).startswith("the certificate is not valid: self")
    assert server.requests == []


def test_a_server_without_tls_fails_the_handshake():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=greet).start()
        assert failure_of(f"https://127.0.0.1:{server.getsockname()[1]}/") == "the TLS handshake failed"


@pytest.mark.parametrize("start", ["http://", "//", "HTTPS://", "ht\ttp://", "http://a@"])
@pytest.mark.parametrize("character", ["\ufdfa", "é", "a", "%61"])
def test_an_endless_host_name_is_refused_before_it_is_converted(start, character, server):
    """Converting 20,000 of the first character to ASCII would block the renewal of leases for more than a second."""
    location = (start + character * 20_000).encode()
    server.answer("/", raw=b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
    assert failure_of(server.url("/")) == "the redirect target has a host name that is too long"


INVALID = {
    "Received HTTP/0.9 when not allowed": b"<rss/>",
    "Header without colon": HEAD + b"X-XSS-Protection=1;\r\n\r\n",
    "Invalid Content-Length: value": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
}


@pytest.mark.parametrize(("why", "raw"), INVALID.items(), ids=INVALID)
def test_the_reason_names_the_fault_of_a_response(why, raw, server):
    server.answer("/", raw=raw)
    assert failure_of(server.url("/")) == f"sent an invalid response: {why}"


@pytest.mark.slow
def test_one_time_limit_is_for_all_hops_together(server):
    """Each hop is quick enough, but all of them are not."""
    for number in range(5):
        raw = b"HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n" % (number + 1)
        server.answer(f"/{number}", raw=[raw[:20], raw[20:]], every=0.5)
    server.answer("/5", body=b"a")
    assert failure_of(server.url("/0"), timeout=1.2) == "did not answer within 1.2 s"
    assert server.hits("/4") == 0
    assert fetch(server.url("/4")).body == b"a"


# Retries


#: Error statuses with their names in our words.
PERMANENT = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 410: "Gone", 799: ""}
PERMANENT |= {501: "Not Implemented"}
TRANSIENT = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}
TRANSIENT |= {504: "Gateway Timeout", 408: "Request Timeout", 522: "Connection Timed Out"}


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("status", [*PERMANENT, *TRANSIENT])
def test_a_failure_names_its_status_and_only_a_transient_one_is_retried(status, server):
    server.answer("/", raw=b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)
    with pytest.raises(FetchError) as failure:
        fetch(server.url("/"), retries=2)
    reason = f"answered {status} {(PERMANENT | TRANSIENT)[status]}".rstrip()
    assert (str(failure.value), failure.value.http_status) == (reason, status)
    assert server.hits("/") == (3 if status in TRANSIENT else 1)


LOST = {
    "before the answer": b"",
    "in the head": HEAD + b"Content-Type: te",
    "in the body": HEAD + b"Content-Length: 500\r\n\r\nhello",
    "in a chunk": CHUNKED + b"200\r\nhello",
    "before the last chunk": CHUNKED + b"5\r\nhello\r\n",
}


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("raw", LOST.values(), ids=LOST)
def test_a_lost_connection_is_tried_again_and_named_if_it_is_lost_each_time(raw, server):
    lost = Reply(raw=raw)
    server.answer_in_turn("/", lost, lost, Reply(body=b"at last"))
    assert fetch(server.url("/"), retries=2).body == b"at last"
    server.answer("/", raw=raw)
    assert failure_of(server.url("/")) == "closed the connection too early"


@pytest.mark.usefixtures("no_backoff")
def test_a_timeout_is_not_retried(server):
    gate = server.hold("/")
    assert failure_of(server.url("/"), retries=2, timeout=1.0) == "did not answer within 1 s"
    gate.open()
    assert server.hits("/") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_backoff")
def test_one_time_limit_is_for_all_attempts_together(server):
    """Each attempt fails quickly enough to be tried again, but all of them take too long."""
    raw = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    server.answer("/", raw=[raw[:20], raw[20:]], every=0.5)
    assert failure_of(server.url("/"), retries=99, timeout=3.2) == "did not answer within 3.2 s"
    assert 2 <= server.hits("/") <= 7


def test_the_wait_before_a_retry_doubles(server, monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(fetch_module.asyncio, "sleep", sleep)
    server.answer("/", status=500)
    failure_of(server.url("/"), retries=3)
    assert [0.5 * 2**n * 0.5 <= wait <= 0.5 * 2**n * 1.5 for n, wait in enumerate(waits)] == [True] * 3
