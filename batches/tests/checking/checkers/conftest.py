"""Feeds and pages as bytes, a scriptable server on loopback, and checkers that may reach it."""

import asyncio

import pytest

from batches.checking.checkers import fetch as fetch_module
from batches.checking.checkers import load_checker, politeness, resolver, slots
from batches.checking.checkers.base import ProfileToCheck
from batches.checking.checkers.http import HttpChecker
from batches.conf import Config
from batches.tests.support.feedserver import WAIT_SECONDS, FeedServer
from batches.tests.support.hostile import hostile
from batches.tests.support.inside import canary
from batches.tests.support.nameserver import names
from batches.tests.support.time import with_opened

__all__ = ["canary", "hostile", "names"]


def quick_config(**values):
    """For immediate responses, however busy this machine is: no retries, loopback allowed."""
    return Config(**({"timeout": WAIT_SECONDS, "retries": 0, "allowed_networks": ("127.0.0.0/8",)} | values))


def short(value):
    """A test's id from a parameter that may be megabytes long."""
    return ascii(value)[:40]


def run_with(opened, work):
    """Opens a checker, and returns what `work` does with it."""

    async def run():
        async with opened as value:
            return await work(value)

    return asyncio.run(run())


def with_checker(**config):
    """Runs a test with a checker as its first argument."""
    return with_opened(lambda: HttpChecker(quick_config(**config)))


@pytest.fixture
def server():
    """One server by two names, with a page of one letter."""
    with FeedServer(hosts=["127.0.0.1", "127.0.0.2"]) as server:
        server.answer("/", body=b"a")
        yield server


def fetch(url, headers=None, **config):
    checker = HttpChecker(quick_config(**config))
    return run_with(checker, lambda opened: opened.fetch(url, headers or {}))


def check(url, checker="feed", **remembered):
    """Checks one address; further arguments are what earlier checks remembered."""
    profile = ProfileToCheck(1, url, **remembered)
    return run_with(load_checker(checker, quick_config()), lambda opened: opened.check(profile))


class Clock:
    """The time that slots, manners and the resolver see."""

    now = 1000.0

    async def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (politeness, resolver, slots):
        monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def no_backoff(monkeypatch):
    monkeypatch.setattr(fetch_module, "FIRST_BACKOFF", 0.0)


RSS = '<?xml version="1.0"?><rss version="2.0"><channel><title>Site</title><link>http://site.example/</link>{}</channel></rss>'
ATOM = '<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Site</title>{}</feed>'
RDF = (
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="{namespace}"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>Site</title></channel>{}</rdf:RDF>'
)


def rss(*items):
    return RSS.format("".join(f"<item>{item}</item>" for item in items)).encode()


def atom(*entries):
    return ATOM.format("".join(f"<entry>{entry}</entry>" for entry in entries)).encode()


def item(number):
    return (
        f"<title>Story {number}</title><link>http://site.example/{number}</link><guid>tag:{number}</guid>"
        f"<pubDate>Mon, 02 Jan 2006 15:04:{number:02} GMT</pubDate><description>About {number}</description>"
    )


def page(head="", body=""):
    return f"<!DOCTYPE html><html><head><title>Page</title>{head}</head><body>{body}</body></html>".encode()


def link(href, kind="application/rss+xml", rel="alternate"):
    return f'<link rel="{rel}" type="{kind}" href="{href}">'
