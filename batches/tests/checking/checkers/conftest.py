"""A scriptable server on loopback, and checkers that may reach it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from batches.checking.checkers import fetch as fetch_module
from batches.checking.checkers.base import CheckResult, ProfileToCheck
from batches.checking.checkers.feed import FeedChecker
from batches.checking.checkers.fetch import Fetcher, Response
from batches.conf import Config
from batches.tests.support.feedserver import FeedServer
from batches.tests.support.hostile import hostile
from batches.tests.support.inside import canaries, canary

__all__ = ["canaries", "canary", "hostile"]


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
    """Checks one address as a feed; further arguments are what earlier checks remembered."""

    def check(url: str, **remembered: str) -> CheckResult:
        async def run() -> CheckResult:
            async with FeedChecker(quick_config()) as checker:
                return await checker.check(ProfileToCheck(1, url, **remembered))

        return asyncio.run(run())

    return check


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "FIRST_BACKOFF", 0.0)
