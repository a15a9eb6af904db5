"""A check of a profile, from its address to its stories, against a real server."""

import asyncio
import gc
import itertools
import json
from datetime import UTC, datetime

import pytest

from batches.checking.checkers import load_checker
from batches.checking.checkers.base import ProfileToCheck, Story
from batches.checking.checkers.feed import FeedChecker
from batches.checking.checkers.fetch import Response
from batches.checking.checkers.parsers import Parsers
from batches.checking.checkers.reading import Body
from batches.conf import Config
from batches.tests.support.feedserver import WAIT_SECONDS, Reply

from .conftest import check, item, link, page, quick_config, rss, run_with, short

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
    server.answer("/feed", body, headers={"Content-Type": "text/xml; Charset='KOI8-R'"})
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


def test_the_validators_of_a_response_are_remembered_and_sent_back(server):
    def answer(request):
        if request.headers.get("if-none-match") == '"5"' and request.headers.get("if-modified-since") == "then":
            return Reply(304)
        return Reply(body=rss(item(1)), headers={"ETag": '"5"', "Last-Modified": "then"})

    server.answer_in_turn("/feed", answer)
    first = check(server.url("/feed"))
    assert (first.etag, first.last_modified, first.feed_url) == ('"5"', "then", None)
    second = check(server.url("/feed"), etag=first.etag, last_modified=first.last_modified)
    assert (second.ok, second.http_status, second.stories) == (True, 304, ())
    assert (second.etag, second.last_modified, second.feed_url) == (None, None, None)


@pytest.mark.parametrize(
    ("headers", "etag", "last_modified"),
    [({"ETag": '"6"'}, '"6"', None), ({"Last-Modified": "now"}, None, "now"), ({"ETag": "caf\u00e9"}, None, None)],
)
def test_a_304_with_another_version_replaces_the_remembered_one(headers, etag, last_modified, server):
    """RFC 9111, 4.3.4. A missing header keeps the remembered value (None)."""
    server.answer("/feed", status=304, headers=headers)
    result = check(server.url("/feed"), etag='"5"', last_modified="then")
    assert (result.ok, result.etag, result.last_modified) == (True, etag, last_modified)


@pytest.mark.parametrize("value", ["", "a" * 501, "caf\u00e9", "a\x7fb"], ids=short)
def test_a_version_that_cannot_be_sent_back_is_forgotten(value, server):
    server.answer("/feed", rss(item(1)), headers={"ETag": value, "Last-Modified": value})
    result = check(server.url("/feed"), etag="old", last_modified="old")
    assert (result.ok, result.etag, result.last_modified) == (True, "", "")


# From the page to the feed


@pytest.mark.parametrize(
    ("address", "feed_url"), [("/small", ""), ("/large", ""), ("/page", ""), ("/page", "/large"), ("/", "/large")]
)
def test_a_failed_check_keeps_no_document_in_memory(address, feed_url, server):
    """After 30 feeds of 2 MB that were none, all others waited for the memory, and nothing collected the garbage."""
    server.answer("/small", b"nothing")
    server.answer("/large", b"nothing" * 50_000)
    server.answer("/page", page(link("/large") + link("/small"), " " * 100_000), headers=HTML)
    server.answer("/", b"no page" * 50_000)

    async def check_and_wait(checker):
        gc.collect()
        gc.disable()
        try:
            result = await checker.check(ProfileToCheck(1, server.url(address), feed_url and server.url(feed_url)))
            async with asyncio.timeout(WAIT_SECONDS):  # the thread and the event loop have it for a moment
                # `isinstance` would follow a weak reference that another test has left.
                while any(type(found) in {Response, Body} for found in gc.get_objects()):  # noqa: ASYNC110
                    await asyncio.sleep(0)
            return result.ok
        finally:
            gc.enable()

    assert run_with(FeedChecker(quick_config()), check_and_wait) is False


def test_a_page_leads_to_its_declared_feed_even_after_a_redirect(server):
    server.redirect("/", "/blog/")
    server.answer("/blog/", page(link("feed")), headers=HTML | {"ETag": '"page"'})
    server.answer("/blog/feed", rss(item(1)), headers=XML | {"ETag": '"feed"'})
    result = check(server.url("/"))
    assert (result.ok, story_ids(result)) == (True, ["tag:1"])
    assert (result.feed_url, result.etag) == (server.url("/blog/feed"), '"feed"')


def test_a_result_names_the_target_of_permanent_redirects_whatever_is_there(server):
    server.answer("/feed", rss(item(1)), headers=XML)
    server.answer("/page", page(link("feed")), headers=HTML)
    server.answer("/unchanged", status=304)
    for path in ("/feed", "/page", "/unchanged"):
        server.redirect(f"/old{path}", path, 301)
        assert check(server.url(f"/old{path}"), etag='"5"').moved_to == server.url(path)


def test_a_remembered_feed_is_fetched_without_its_page(server):
    server.answer("/feed", rss(item(1)))
    result = check(server.url("/"), feed_url=server.url("/feed"), etag='"feed"')
    assert (result.ok, result.feed_url) == (True, None)
    assert server.last_request("/feed").headers["if-none-match"] == '"feed"'
    assert server.hits("/") == 0


DEAD = {
    "404": Reply(404),
    "410": Reply(410),
    "403": Reply(403),
    "401": Reply(401),
    "a parked page": Reply(body=page("<title>For sale</title>")),
    "something else": Reply(body=b"User-agent: *"),
    "nothing": Reply(),
    "a loop": Reply(301, headers={"Location": "/old"}),
    "an invalid redirect": Reply(302, headers={"Location": "http://["}),
    "an inside address": Reply(302, headers={"Location": "http://10.0.0.1/"}),
}


@pytest.mark.parametrize("reply", DEAD.values(), ids=DEAD)
def test_a_feed_that_is_dead_is_searched_on_its_page(reply, server):
    server.answer_in_turn("/old", reply)
    server.answer("/", page(link("/old") + link("/new")), headers=HTML)
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


def test_a_feed_that_is_dead_is_asked_and_searched_once(server):
    """A feed of comments does not replace it: it would be remembered, although a 403 may soon be over."""
    server.answer("/", page(link("/gone") + link("/comments/feed/")), headers=HTML)
    server.answer("/comments/feed/", rss(item(1)))
    result = check(server.url("/"), feed_url=server.url("/gone"))
    assert (result.ok, result.error, result.http_status) == (False, "its feed: answered 404 Not Found", 404)
    assert [request.path for request in server.requests] == ["/gone", "/"]


@pytest.mark.parametrize("reply", [Reply(500), Reply(400), Reply(raw=b"")], ids=["500", "400", "lost"])
def test_a_feed_that_fails_for_now_is_not_searched(reply, server):
    server.answer_in_turn("/feed", reply)
    result = check(server.url("/"), feed_url=server.url("/feed"))
    assert (result.ok, result.feed_url) == (False, None)
    assert server.hits("/") == 0


def test_a_feed_that_is_slow_is_not_searched(server):
    server.hold("/feed")
    profile = ProfileToCheck(1, server.url("/"), feed_url=server.url("/feed"))
    result = run_with(FeedChecker(quick_config(timeout=0.2)), lambda checker: checker.check(profile))
    assert (result.ok, result.error) == (False, "did not answer within 0.2 s")
    assert server.hits("/") == 0


def test_the_next_feed_is_tried_when_one_fails_and_the_first_failure_is_reported_when_all_do(server):
    paths = ("/gone", "/page", "/nonsense", "/feed")
    server.answer("/", page("".join(map(link, paths))), headers=HTML)
    server.answer("/page", page(link("/feed")))
    server.answer("/nonsense", "hello")
    server.answer("/feed", rss(item(1)), headers=XML)
    result = check(server.url("/"))
    assert (result.ok, story_ids(result), result.feed_url) == (True, ["tag:1"], server.url("/feed"))
    server.answer("/feed", status=403)
    result = check(server.url("/"))
    assert (result.ok, result.error, result.http_status) == (False, "its feed: answered 404 Not Found", 404)


def test_a_feed_of_the_link_header_is_found(server):
    declaration = '</feed>; rel="alternate"; type="application/rss+xml"'
    server.answer("/", page(), headers=HTML | {"Link": declaration})
    server.answer("/feed", rss(item(1)))
    assert check(server.url("/")).feed_url == server.url("/feed")


@pytest.mark.parametrize("in_header", [False, True])
def test_a_page_that_sends_its_readers_to_the_feed_is_followed_as_a_redirect_is(in_header, server):
    content = "0;url=/moved"
    tag = "" if in_header else f'<meta http-equiv="refresh" content="{content}">'
    server.answer("/", page(tag), headers=HTML | ({"Refresh": content} if in_header else {}))
    server.answer("/moved", rss(item(1)), headers={"ETag": '"5"'})
    result = check(server.url("/"), etag='"old"')
    assert (result.ok, result.feed_url, result.etag) == (True, server.url("/moved"), '"5"')
    assert "if-none-match" not in server.last_request("/moved").headers
    again = check(server.url("/"), feed_url=result.feed_url, fingerprint=result.fingerprint or "")
    assert (again.ok, list(again.stories), again.feed_url) == (True, [], None)


def test_pages_that_send_their_readers_round_and_round_or_inside_are_a_failure(server):
    for number in range(20):
        server.answer(f"/{number}", page(f'<meta http-equiv="refresh" content="0;url=/{number + 1}">'))
    result = check(server.url("/0"))
    assert (result.ok, result.error) == (False, "redirected too many times (limit: 5)")
    assert len(server.requests) == 7
    server.answer("/", page('<meta http-equiv="refresh" content="0;url=http://10.0.0.1/">'))
    assert check(server.url("/")).error == "the address 10.0.0.1 is not public"


def test_the_date_of_a_version_is_not_sent_back_while_it_lies_in_the_future(server):
    """The server would answer 304 until then."""
    server.answer("/feed", rss(item(1)))
    for date, is_sent in {"Sat, 16 Nov 2199 19:11:00 GMT": False, "Sat, 16 Nov 2019 19:11:00 GMT": True}.items():
        assert check(server.url("/feed"), last_modified=date).ok
        assert ("if-modified-since" in server.last_request("/feed").headers) is is_sent


# Large documents


def large(kind):
    """A document of 6 MB, and the ids within its first 5 MB."""
    texts = {str(number): "text " * 2000 for number in range(600)}
    if kind == "JSON Feed":
        items = [{"id": number, "content_text": text, "tags": ["}", "]"]} for number, text in texts.items()]
        document = json.dumps({"version": "1", "items": items, "title": "T"}).encode()
    else:
        root, name, identity = ("feed", "entry", "id") if kind == "Atom" else ("rss", "item", "guid")
        items = "".join(
            f"<{name}><{identity}>{number}</{identity}><title>{text}</title></{name}>" for number, text in texts.items()
        )
        document = f"<{root}>{items}</{root}>".encode()
    whole = document[:5_000_000].count({"RSS": b"</item>", "Atom": b"</entry>"}.get(kind, b'"]"]}'))
    return document, list(texts)[:whole]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["RSS", "Atom", "JSON Feed"])
def test_the_first_stories_of_a_feed_that_is_too_large_are_read(kind, server):
    document, expected = large(kind)
    server.answer("/feed", document)
    result = check(server.url("/feed"))
    assert (result.ok, story_ids(result)) == (True, expected)
    assert 450 < len(expected) < 550


def test_a_page_that_is_too_large_still_leads_to_its_feed(server):
    server.answer("/", page(link("/feed"), "x" * 6_000_000), headers=HTML)
    server.answer("/feed", rss(item(1)))
    assert check(server.url("/")).feed_url == server.url("/feed")


@pytest.mark.parametrize("start", [b"x", b"<rss><channel><item><guid>1</guid><title>", b'{"items": [{"id": "'])
def test_a_document_that_is_too_large_without_a_whole_story_is_a_failure(start, server):
    server.answer("/", start + b"x" * 6_000_000)
    assert check(server.url("/")).error == "the body is larger than 5 MB"


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
    assert result.reads_stories is bool(reason)  # the first check that reads them finds the baseline
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
