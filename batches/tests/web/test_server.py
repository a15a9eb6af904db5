"""What the server stores of a request before the application knows its sender, and how it calls the application."""

import resource
import socket
from types import SimpleNamespace

import pytest
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import WSGITask

from batches.tests.support.threads import TIMEOUT, in_thread, run_in_threads
from batches.web import server
from batches.web.server import MAX_BYTES_OF_STRANGERS, Parser, Task
from batches.web.uploads import MAX_FORM_BYTES, NO_ROOM

MEGABYTE = 1_000_000

STRANGERS = ["", "Cookie: csrftoken=x\r\n", "Cookie: othersessionid\r\n"]
KNOWN = ["Authorization: Token x\r\n", "Cookie: csrftoken=x; sessionid=y\r\n"]


@pytest.fixture(autouse=True)
def nothing_stored():
    yield
    assert Parser.stored_by_all() == 0


def begin(headers, length=None, **limits):
    """A request after its headers, with a body of this length, or in chunks."""
    limits = {"max_request_body_size": MAX_FORM_BYTES, "inbuf_overflow": MAX_FORM_BYTES} | limits
    parser = Parser(Adjustments(**limits))
    kind = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    header = f"POST / HTTP/1.1\r\nHost: x\r\n{headers}{kind}\r\n\r\n".encode()
    assert parser.received(header) == len(header)
    return parser


def send_chunk(parser, size=MEGABYTE // 4):
    parser.received(b"%x\r\n%b\r\n" % (size, b"x" * size))


def status(parser):
    return parser.error and parser.error.code


@pytest.mark.parametrize(
    ("headers", "length", "expected"),
    [
        *((headers, MAX_BYTES_OF_STRANGERS - 1, None) for headers in STRANGERS),
        *((headers, MAX_BYTES_OF_STRANGERS, 413) for headers in STRANGERS),
        *((headers, MAX_FORM_BYTES - 1, None) for headers in KNOWN),
        *((headers, MAX_FORM_BYTES, 413) for headers in KNOWN),
    ],
)
def test_a_body_of_known_length_is_refused_before_it_comes(headers, length, expected):
    parser = begin(headers, length)
    assert (status(parser), parser.completed) == (expected, bool(expected))
    if expected and headers in STRANGERS:
        assert "send a token" in parser.error.body


@pytest.mark.parametrize("headers", [*STRANGERS, *KNOWN])
def test_a_body_in_chunks_is_refused_when_it_is_too_large(headers):
    parser, sent = begin(headers), 0
    while not parser.completed and sent < 8:
        send_chunk(parser)
        sent += 1
    assert (status(parser), sent) == ((413, 4) if headers in STRANGERS else (None, 8))


def test_large_bodies_of_all_senders_have_a_limit_together(monkeypatch):
    monkeypatch.setattr(server, "MAX_BYTES_OF_ALL", 5 * MEGABYTE)
    first, second, small = (begin(KNOWN[0]) for _ in range(3))
    for _ in range(12):
        send_chunk(first)
    for _ in range(8):
        send_chunk(second)
    assert (status(first), status(second)) == (None, 503)
    send_chunk(small, 1000)
    assert status(small) is None
    del second
    send_chunk(first)
    assert status(first) is None


@pytest.mark.parametrize("length", [MEGABYTE, None])
def test_a_body_that_does_not_fit_on_the_disk_is_received_to_its_end_so_that_its_sender_reads_why(length, monkeypatch):
    with open("/dev/full", "r+b", buffering=0) as full:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda *_: full)
        parser = begin(KNOWN[0], length, inbuf_overflow=MEGABYTE // 2)
        for _ in range(4):
            assert (status(parser), parser.completed) == (None, False)
            parser.received(b"x" * (MEGABYTE // 4)) if length else send_chunk(parser)
        if length is None:
            parser.received(b"0\r\n\r\n")
        assert (status(parser), parser.completed) == (503, True)
    assert parser.error.body == NO_ROOM


def test_a_response_is_complete_although_the_disk_for_temporary_files_is_full(monkeypatch):
    waiting = []

    def application(environ, start_response):
        channel = environ["waitress.client_disconnected"].__self__
        start_response("200 OK", [])
        for _ in range(10):
            yield b"x" * 2 * MEGABYTE
            waiting.append(channel.total_outbufs_len)

    def read_slowly(address):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(TIMEOUT)
            client.connect(address)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return sum(map(len, iter(lambda: client.recv(4096), b"")))

    monkeypatch.setattr(HTTPChannel, "task_class", Task)
    monkeypatch.setattr(server, "disk_usage", lambda _: SimpleNamespace(free=0))
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *_: 1 / 0)
    sockets = {}
    served = create_server(application, listen="127.0.0.1:0", map=sockets, outbuf_high_watermark=100 * MEGABYTE)
    reader = in_thread(lambda: read_slowly(("127.0.0.1", int(served.effective_port))))
    while not reader.done():
        served.asyncore.poll(0.1, sockets)
    served.task_dispatcher.shutdown()
    served.close()
    assert reader.result() > 20 * MEGABYTE
    assert max(waiting) <= 3 * MEGABYTE


CALLS = 200


def count_page_faults(depth):
    """Of calls at this depth: each new piece of Python's stack is one."""
    if depth:
        return count_page_faults(depth - 1)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(CALLS):
        pass_on()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def pass_on():
    return None


def test_no_depth_of_the_application_is_at_a_limit_of_the_stack(monkeypatch):
    """Pages with many nested templates took twice the time with Python 3.11."""
    faults = []
    monkeypatch.setattr(WSGITask, "execute", lambda task: faults.extend(map(count_page_faults, range(250))))
    run_in_threads([lambda: Task.execute(Task.__new__(Task))])  # a test has room itself
    assert len(faults) == 250
    assert max(faults) < CALLS // 2
