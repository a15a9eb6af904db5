"""Feeds and pages as bytes, a scriptable server on loopback, and checkers that may reach it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from batches.checking.checkers import fetch as fetch_module
from batches.checking.checkers import load_checker
from batches.checking.checkers.base import CheckResult, ProfileToCheck
from batches.checking.checkers.fetch import Fetcher, Response
from batches.conf import Config
from batches.tests.support.feedserver import FeedServer
from batches.tests.support.hostile import hostile
from batches.tests.support.inside import canary

__all__ = ["canary", "hostile"]


def quick_config(**values: object) -> Config:
    """For immediate responses: short waits, no retries, loopback allowed."""
    return Config(**({"timeout": 5, "retries": 0, "allowed_networks": ("127.0.0.0/8",)} | values))


def short(value: object) -> str:
    """A test's id from a parameter that may be megabytes long."""
    return ascii(value)[:40]


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as server:
        yield server


@pytest.fixture
def fetch() -> Callable[..., Response]:
    """Fetches one address: `fetch(url, headers, **config)`."""

    def fetch(url: str, headers: Mapping[str, str] | None = None, **config: object) -> Response:
        async def run() -> Response:
            async with Fetcher(quick_config(**config)) as fetcher:
                return await fetcher.fetch(url, headers or {})

        return asyncio.run(run())

    return fetch


@pytest.fixture
def check() -> Callable[..., CheckResult]:
    """Checks one address; further arguments are what earlier checks remembered."""

    def check(url: str, checker: str = "feed", **remembered: str) -> CheckResult:
        async def run() -> CheckResult:
            async with load_checker(checker, quick_config()) as opened:
                return await opened.check(ProfileToCheck(1, url, **remembered))

        return asyncio.run(run())

    return check


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "FIRST_BACKOFF", 0.0)


RSS = '<?xml version="1.0"?><rss version="2.0"><channel><title>Site</title><link>http://site.example/</link>{}</channel></rss>'
ATOM = '<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Site</title>{}</feed>'
RDF = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="{namespace}"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>Site</title></channel>{}</rdf:RDF>'
)


def rss(*items: str) -> bytes:
    return RSS.format("".join(f"<item>{item}</item>" for item in items)).encode()


def atom(*entries: str) -> bytes:
    return ATOM.format("".join(f"<entry>{entry}</entry>" for entry in entries)).encode()


def item(number: int) -> str:
    return (
        f"<title>Story {number}</title><link>http://site.example/{number}</link><guid>tag:{number}</guid>"
        f"<pubDate>Mon, 02 Jan 2006 15:04:{number:02} GMT</pubDate><description>About {number}</description>"
    )


def page(head: str = "", body: str = "") -> bytes:
    return f"<!DOCTYPE html><html><head><title>Page</title>{head}</head><body>{body}</body></html>".encode()


def link(href: str, kind: str = "application/rss+xml", rel: str = "alternate") -> str:
    return f'<link rel="{rel}" type="{kind}" href="{href}">'
