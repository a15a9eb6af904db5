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


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        *((status, "") for status in (200, 201, 204, 206)),
        (304, "answered 304 Not Modified"),
        (404, "answered 404 Not Found"),
        (500, "answered 500 Internal Server Error"),
    ],
)
def test_2xx_after_redirects_is_ok_and_anything_else_a_failure(status, reason, server):
    server.redirect("/", "/there", 301)
    server.answer("/there", status=status)
    result = check(server.url("/"))
    assert (result.ok, result.error, result.http_status, result.stories) == (not reason, reason, status, ())
    assert result.duration > 0
    assert "if-none-match" not in server.last_request("/there").headers  # the ETag is the feed's


def test_a_host_that_cannot_be_reached_is_a_failure():
    result = check("http://10.0.0.1/")
    assert (result.ok, result.error, result.http_status) == (False, "the address 10.0.0.1 is not public", None)


def test_the_body_is_not_read(server):
    endless = itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"x" * 65_536))
    server.answer("/endless", raw=endless)
    server.answer("/broken", raw=b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello")
    assert check(server.url("/endless")).ok
    assert check(server.url("/broken")).ok
