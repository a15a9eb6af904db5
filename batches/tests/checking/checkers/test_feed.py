"""A check of a profile, from its address to its stories, against a real server."""

import itertools
from datetime import UTC, datetime

import pytest

from batches.checking.checkers import load_checker
from batches.checking.checkers.base import Story
from batches.checking.checkers.feed import FeedChecker
from batches.checking.checkers.parsers import Parsers
from batches.conf import Config
from batches.tests.support.feedserver import Reply, Request

from .conftest import check, item, link, page, rss, short

XML = {"Content-Type": "application/rss+xml"}
HTML = {"Content-Type": "text/html; charset=utf-8"}


def story_ids(result):
    return [story.id for story in result.stories]


def test_a_feed_shows_its_stories(server):
    server.answer("/feed", rss(item(1), "<title>Two</title><link>/two</link>"), headers=XML)
    result = check(server.url("/feed"))
    assert (result.ok, result.error, result.http_status) == (True, "", 200)
    assert result.stories == [
        Story("tag:1", "Story 1", "http://site.example/1", datetime(2006, 1, 2, 15, 4, 1, tzinfo=UTC)),
        Story("/two", "Two", "http://site.example/two", None),
    ]
    assert 0 < result.duration < 5


def test_the_charset_of_the_header_is_used(server):
    body = rss("<title>Привет</title><guid>1</guid>").decode().encode("koi8-r")
    server.answer("/feed", body, headers={"Content-Type": "text/xml; charset=koi8-r"})
    assert check(server.url("/feed")).stories[0].title == "Привет"


# Remembering


def test_a_document_that_was_read_before_is_not_read_again(server, monkeypatch):
    server.answer("/feed", rss(item(1)), headers=XML | {"ETag": '"6"'})
    first = check(server.url("/feed"))
    monkeypatch.setattr(Parsers, "read", None)
    again = check(server.url("/feed"), fingerprint=first.fingerprint, etag='"5"')
    assert (again.ok, list(again.stories), again.etag, again.fingerprint) == (True, [], '"6"', first.fingerprint)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(rss(item(1), item(2)), "application/rss+xml"), (rss(item(1)), "application/rss+xml; charset=koi8-r")],
)
def test_another_document_or_the_same_in_another_charset_is_read(body, content_type, server):
    server.answer("/feed", rss(item(1)), headers=XML)
    first = check(server.url("/feed"))
    server.answer("/feed", body, headers={"Content-Type": content_type})
    again = check(server.url("/feed"), fingerprint=first.fingerprint)
    assert again.fingerprint != first.fingerprint
    assert "tag:1" in story_ids(again)


def test_the_fingerprint_of_a_declared_feed_is_that_of_the_feed(server):
    server.answer("/page", page(link("/feed")), headers=HTML)
    server.answer("/feed", rss(item(1)), headers=XML)
    assert check(server.url("/page")).fingerprint == check(server.url("/feed")).fingerprint


def test_what_the_answer_says_of_its_version_is_remembered_and_sent_back(server):
    def answer(request: Request) -> Reply:
        if request.headers.get("if-none-match") == '"5"' and request.headers.get("if-modified-since") == "then":
            return Reply(304)
        return Reply(body=rss(item(1)), headers={"ETag": '"5"', "Last-Modified": "then"})

    server.answer_in_turn("/feed", answer)
    first = check(server.url("/feed"))
    assert (first.etag, first.last_modified, first.feed_url) == ('"5"', "then", None)
    second = check(server.url("/feed"), etag=first.etag, last_modified=first.last_modified)
    assert (second.ok, second.http_status, second.stories) == (True, 304, ())
    assert (second.etag, second.last_modified, second.feed_url) == (None, None, None)


@pytest.mark.parametrize("value", ["", "a" * 501, "caf\u00e9", "a\x7fb"], ids=short)
def test_a_version_that_cannot_be_sent_back_is_forgotten(value, server):
    server.answer("/feed", rss(item(1)), headers={"ETag": value, "Last-Modified": value})
    result = check(server.url("/feed"), etag="old", last_modified="old")
    assert (result.ok, result.etag, result.last_modified) == (True, "", "")


# From the page to the feed


def test_a_page_leads_to_the_feed_it_declares_also_after_a_redirect(server):
    server.redirect("/", "/blog/")
    server.answer("/blog/", page(link("feed")), headers=HTML | {"ETag": '"page"'})
    server.answer("/blog/feed", rss(item(1)), headers=XML | {"ETag": '"feed"'})
    result = check(server.url("/"))
    assert (result.ok, story_ids(result)) == (True, ["tag:1"])
    assert (result.feed_url, result.etag) == (server.url("/blog/feed"), '"feed"')


def test_a_remembered_feed_is_fetched_without_its_page(server):
    server.answer("/feed", rss(item(1)))
    result = check(server.url("/"), feed_url=server.url("/feed"), etag='"feed"')
    assert (result.ok, result.feed_url) == (True, None)
    assert server.last_request("/feed").headers["if-none-match"] == '"feed"'
    assert server.hits("/") == 0


@pytest.mark.parametrize("status", [404, 410])
def test_a_feed_that_is_gone_is_searched_on_its_page(status, server):
    server.answer("/old", status=status)
    server.answer("/", page(link("/new")), headers=HTML)
    server.answer("/new", rss(item(1)))
    result = check(server.url("/"), feed_url=server.url("/old"), etag='"old"', last_modified="then")
    assert (result.ok, result.feed_url, result.etag) == (True, server.url("/new"), "")
    for path in ("/", "/new"):
        assert not {"if-none-match", "if-modified-since"} & set(server.last_request(path).headers)


def test_a_page_that_has_become_the_feed_itself_is_remembered_as_such(server):
    server.answer("/", rss(item(1)))
    result = check(server.url("/"), feed_url=server.url("/old"))
    assert (result.ok, result.feed_url, story_ids(result)) == (True, "", ["tag:1"])


def test_a_feed_that_redirects_to_a_page_leads_to_the_feed_this_one_declares(server):
    server.redirect("/old", "/")
    server.answer("/", page(link("/new")), headers=HTML)
    server.answer("/new", rss(item(1)))
    assert check(server.url("/"), feed_url=server.url("/old")).feed_url == server.url("/new")


def test_a_feed_that_is_gone_is_searched_once(server):
    server.answer("/", page(link("/gone")), headers=HTML)
    result = check(server.url("/"), feed_url=server.url("/gone"))
    assert (result.ok, result.error, result.http_status) == (False, "its feed: answered 404 Not Found", 404)
    assert [request.path for request in server.requests] == ["/gone", "/", "/gone"]


@pytest.mark.parametrize("status", [403, 500])
def test_a_feed_that_fails_otherwise_is_not_searched(status, server):
    server.answer("/feed", status=status)
    result = check(server.url("/"), feed_url=server.url("/feed"))
    assert (result.ok, result.http_status, result.feed_url) == (False, status, None)
    assert server.hits("/") == 0


# Failures


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (page("<title>Hello</title>"), "the page declares no feed"),
        *((body, "the response is not a feed") for body in (b"", b"hello", b"\x00\x01\x02", b"<a/>", b"{}")),
        (page(link("/")), "its feed: the response is not a feed"),
        (page(link("http://10.0.0.1/feed")), "its feed: the address 10.0.0.1 is not public"),
    ],
    ids=short,
)
def test_a_profile_without_a_feed_is_a_failure_and_nothing_is_remembered(body, reason, server):
    server.answer("/", body)
    result = check(server.url("/"), etag='"old"')
    assert (result.ok, result.error) == (False, reason)
    assert (result.feed_url, result.etag, result.last_modified, result.fingerprint) == (None, None, None, None)


# The checker "http"


@pytest.mark.parametrize(
    ("status", "reason"), [(200, ""), (204, ""), (304, "answered 304 Not Modified"), (404, "answered 404 Not Found")]
)
def test_2xx_after_redirects_is_ok_and_anything_else_a_failure(status, reason, server):
    server.redirect("/", "/there", 301)
    server.answer("/there", status=status)
    result = check(server.url("/"), "http", feed_url="http://10.0.0.1/", etag='"5"')
    assert (result.ok, result.error, result.http_status, result.stories) == (not reason, reason, status, ())
    assert result.duration > 0
    assert "if-none-match" not in server.last_request("/there").headers  # the ETag is the feed's


def test_the_body_is_not_read(server):
    endless = itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], itertools.repeat(b"x" * 65_536))
    server.answer("/endless", raw=endless)
    server.answer("/broken", raw=b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello")
    assert check(server.url("/endless"), "http").ok
    assert check(server.url("/broken"), "http").ok


def test_checkers_are_loaded_by_name_and_an_unknown_name_is_in_the_error():
    assert isinstance(load_checker("feed", Config()), FeedChecker)
    mine = Config(checkers={"mine": "batches.checking.checkers.http.HttpChecker"})
    assert type(load_checker("mine", mine)).__name__ == "HttpChecker"
    with pytest.raises(LookupError, match="nosuch"):
        load_checker("nosuch", Config())
