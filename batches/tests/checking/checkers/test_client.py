"""The client: the data that it keeps between requests, and that closing it leaves nothing open."""

import asyncio
import os
from contextlib import asynccontextmanager
from unittest.mock import patch

import pycurl
import pytest

from batches.checking.checkers import client as client_module
from batches.checking.checkers.base import FetchError
from batches.checking.checkers.client import Client, Headers, describe_certificate
from batches.checking.checkers.http import HttpChecker
from batches.checking.checkers.target import parse_url
from batches.tests.support.feedserver import WAIT_SECONDS
from batches.tests.support.processes import wait_until
from batches.tests.support.time import asynchronous

from .conftest import fetch, quick_config, run_with, with_checker


@asynchronous
async def test_a_kept_connection_is_not_used_by_a_checker_that_must_not_open_it(server):
    """A checker that may connect to an address leaves none of its connections to one that may not."""
    async with HttpChecker(quick_config()) as allowed, HttpChecker(quick_config(allowed_networks=())) as guarded:
        for _ in range(2):
            assert (await allowed.fetch(server.url("/"))).body == b"a"
        assert server.connections == 1
        with pytest.raises(FetchError, match=r"^the address 127\.0\.0\.1 is not public$"):
            await guarded.fetch(server.url("/"))


def test_a_closed_client_leaves_nothing_open_whatever_it_did(server):
    gate = server.hold("/held")
    before = len(os.listdir("/dev/fd"))

    async def work(checker):
        held = [asyncio.create_task(checker.fetch(server.url("/held", host=host))) for host in server.hosts]
        for host in server.hosts * 3:
            assert (await checker.fetch(server.url("/", host=host))).body == b"a"
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    for _ in range(3):
        run_with(HttpChecker(quick_config()), work)
    gate.open()  # the server's ends are closed as well
    wait_until(lambda: len(os.listdir("/dev/fd")) <= before)


@asynccontextmanager
async def request_under_way(server):
    """A request that the server does not answer, and its transfer. The client is closed at the end of the block."""
    gate = server.hold("/")
    async with Client(quick_config(), (), timeout=WAIT_SECONDS) as client:
        with client.chain() as transfer:
            request = asyncio.create_task(client.request(transfer, parse_url(server.url("/"), "the address")))
            await asyncio.to_thread(gate.wait_for)
            yield request, transfer


@asynchronous
async def test_a_client_that_is_closed_under_a_request_lets_it_end(server):
    async with request_under_way(server) as (request, _):
        pass
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


@asynchronous
async def test_an_answer_that_comes_while_its_request_is_cancelled_is_not_an_error(server):
    """An error would keep libcurl's news from other requests."""
    async with request_under_way(server) as (request, transfer):
        request.cancel()
        transfer.end()
        assert isinstance(*await asyncio.gather(request, return_exceptions=True), asyncio.CancelledError)


@asynchronous
async def test_libcurl_forgets_the_addresses_of_the_last_request(server):
    """libcurl searches all remembered addresses with each request, which took longer than the requests with 20,000
    hosts.
    """
    known = {"one.test": ["127.0.0.1"], "two.test": ["127.0.0.1"]}

    async def resolve(host):
        return known[host]

    async with Client(quick_config(), (), timeout=WAIT_SECONDS, limit=10) as client:
        client._resolver.resolve = resolve
        with client.chain() as transfer:
            transfer.curl.setopt(pycurl.FORBID_REUSE, True)
            for host in ("one.test", "two.test", "one.test", "two.test"):
                target = parse_url(server.url("/", host=host), "the address")
                answer = await client.request(transfer, target)
                assert answer.body == b"a"
            known["one.test"] = []  # so that libcurl would have to know them
            with pytest.raises(FetchError):
                await client.request(transfer, parse_url(server.url("/", host="one.test"), "the address"))


@asynchronous
async def test_libcurl_remembers_no_numeric_host(server):
    """A list of a million numeric hosts would take 200 MB."""
    said = []
    async with Client(quick_config(), (), timeout=WAIT_SECONDS, limit=10) as client:
        with client.chain() as transfer:
            transfer.curl.setopt(pycurl.FORBID_REUSE, True)
            transfer.curl.setopt(pycurl.VERBOSE, True)
            transfer.curl.setopt(pycurl.DEBUGFUNCTION, lambda kind, text: said.append(bytes(text)))
            for _ in range(2):
                await client.request(transfer, parse_url(server.url("/"), "the address"))
    assert sum(b"Trying 127.0.0.1" in text for text in said) == 2
    assert [text for text in said if b"DNS cache" in text] == []


@asynchronous
async def test_a_request_that_is_cancelled_is_not_sent_later():
    """The system drops unsent data: the host sees a reset, not an end after a late request."""
    requested, ended = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def accept(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        requested.set()
        try:
            ended.set_result(await reader.read())
        except ConnectionResetError as error:
            ended.set_result(error)
        writer.close()

    async with (
        await asyncio.start_server(accept, "127.0.0.1", 0) as listening,
        HttpChecker(quick_config()) as checker,
    ):
        port = listening.sockets[0].getsockname()[1]
        fetch = asyncio.create_task(checker.fetch(f"http://127.0.0.1:{port}/"))
        await requested.wait()
        fetch.cancel()
        assert isinstance(await ended, ConnectionResetError)


@with_checker()
async def test_nothing_is_sent_while_the_lease_is_over_not_even_by_an_open_connection(checker, server, monkeypatch):
    """In the first turn of the loop after a freeze, sockets come before the timers that interrupt the checks."""
    opened, asked, is_renewed, is_settled = asyncio.Event(), [], asyncio.Event(), asyncio.Event()

    def open_socket(*arguments, original=client_module.open_guarded_socket):
        opened.set()
        return original(*arguments)

    def may_send():
        if opened.is_set():
            asked.append(len(server.requests))
        if len(asked) == 100:
            is_settled.set()
        return is_renewed.is_set() or not opened.is_set()

    monkeypatch.setattr(client_module, "open_guarded_socket", open_socket)
    checker.send_while(may_send)
    async with asyncio.timeout(WAIT_SECONDS):
        fetch = asyncio.create_task(checker.fetch(server.url("/")))
        fetch.add_done_callback(lambda _: is_settled.set())
        await is_settled.wait()
        assert set(asked) == {0}
        assert not fetch.done()
        is_renewed.set()
        assert (await fetch).body == b"a"


@patch("batches.checking.checkers.client.MAX_IDLE_CONNECTIONS", 1)
@with_checker()
async def test_few_connections_are_kept(checker, server):
    for host in server.hosts * 3:
        await checker.fetch(server.url("/", host=host))
    assert server.connections == 6


@with_checker(per_host=20)
async def test_the_event_loop_has_its_turn_between_many_sockets(checker, server, monkeypatch):
    """A hundred TLS handshakes at the same moment would take 200 ms."""
    monkeypatch.setattr(client_module, "SECONDS_AT_ONCE", 0.0)  # one socket a turn
    gate = server.hold("/")
    fetches = [asyncio.create_task(checker.fetch(server.url("/"))) for _ in range(20)]
    await asyncio.to_thread(gate.wait_for, 20)
    gate.open()
    done_in_turn = set()
    while not all(task.done() for task in fetches):
        await asyncio.sleep(0)
        done_in_turn.add(sum(task.done() for task in fetches))
    assert len(done_in_turn) > 10


def test_headers_are_found_in_any_case_and_of_repeated_ones_the_first_except_for_lists():
    head = b"HTTP/1.1 200 OK\r\nETAG: 1\r\nX-etag: 2\r\nLink: <a>\r\nEtag: 3\r\nlink: <b>\r\nEmpty:\r\nNo colon\r\n"
    headers = Headers(head.splitlines(keepends=True))
    assert dict(headers) == {"etag": "1", "x-etag": "2", "link": "<a>, <b>", "empty": ""}
    assert (headers["x-ETag"], headers.get("tag")) == ("2", None)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("SSL certificate OpenSSL verify result: self-signed certificate (18)", "self-signed certificate"),
        ("SSL certificate problem: certificate has expired", "certificate has expired"),
        ("SSL: certificate subject name 'a' does not match target hostname 'b'", "hostname mismatch"),
        ("SSL: no alternative certificate subject name matches target host name 'b'", "hostname mismatch"),
    ],
)
def test_a_fault_of_a_certificate_is_described_in_few_words(message, problem):
    assert describe_certificate(message) == problem


def test_libcurl_is_not_asked_to_decompress_or_to_follow(server):
    """It could be made to keep 64 MB of a paused bomb, or to follow a redirect past our checks."""
    server.answer("/", body=b"a", headers={"Content-Encoding": "gzip", "Set-Cookie": "a=1"})
    fetch(server.url("/"))
    request = server.last_request("/")
    assert request.headers["accept-encoding"] == "gzip, deflate"
    options = client_module.choose_options(quick_config(), 20.0)
    assert not {pycurl.ENCODING, pycurl.FOLLOWLOCATION} & options.keys()
    assert options[pycurl.PROXY] == ""
