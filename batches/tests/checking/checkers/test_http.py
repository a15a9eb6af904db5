"""The checker "http": an address answers or it does not."""

import asyncio
import itertools

import pytest

from batches.checking.checkers.base import CheckResult, ProfileToCheck
from batches.checking.checkers.http import HttpChecker

from .conftest import quick_config


def check(url: str) -> CheckResult:
    async def run() -> CheckResult:
        async with HttpChecker(quick_config()) as checker:
            return await checker.check(ProfileToCheck(1, url, feed_url="http://10.0.0.1/", etag='"5"'))

    return asyncio.run(run())


@pytest.mark.parametrize("status", [200, 201, 204, 206])
def test_2xx_is_ok(status, server):
    server.answer("/", status=status)
    result = check(server.url("/"))
    assert (result.ok, result.error, result.http_status, result.stories) == (True, "", status, ())
    assert result.duration > 0


def test_the_answer_behind_redirects_counts(server):
    server.redirect("/ok", "/there", 301)
    server.answer("/there", b"hello")
    server.redirect("/not", "/nowhere")
    assert check(server.url("/ok")).http_status == 200
    assert check(server.url("/not")).error == "answered 404 Not Found"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (304, "answered 304 Not Modified"),
        (404, "answered 404 Not Found"),
        (500, "answered 500 Internal Server Error"),
    ],
)
def test_anything_else_is_a_failure(status, error, server):
    server.answer("/", status=status)
    result = check(server.url("/"))
    assert (result.ok, result.error, result.http_status) == (False, error, status)


def test_what_is_not_reached_is_a_failure():
    result = check("http://10.0.0.1/")
    assert (result.ok, result.error, result.http_status) == (False, "the address 10.0.0.1 is not public", None)


def test_the_body_is_not_read(server):
    endless = itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"x" * 65_536))
    server.answer("/endless", raw=endless)
    server.answer("/broken", raw=b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello")
    assert check(server.url("/endless")).ok
    assert check(server.url("/broken")).ok


def test_what_is_remembered_of_a_feed_is_not_sent(server):
    server.answer("/", b"hello")
    assert check(server.url("/")).ok
    assert "if-none-match" not in server.last_request("/").headers
