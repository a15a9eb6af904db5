"""Pages are distinguished from feeds, and lead to the feed that they declare."""

import pytest

from batches.checking.checkers.page import find_feed, is_html

from .conftest import atom, link, page, rss, short

ADDRESS = "http://site.example/dir/page.html"
FEED = "http://site.example/feed"


PAGES = [
    page(),
    b"<html><body>a</body></html>",
    b"\n\n <HTML>",
    b"<!-- hello --><!doctype HTML PUBLIC '-//W3C//DTD HTML 4.01//EN'><html>",
    b'<?xml version="1.0"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head/></html>',
    b"<head><title>a</title></head>",
    page(body="<rss><channel></channel></rss>"),
]
FEEDS = [
    rss("<description>&lt;html></description>"),
    atom(),
    b"<br><b>Warning</b> " + rss(),
    b'<rdf:RDF xmlns:rdf="a">',
    b"<!-- about <html> --><rss>",
    b'{"items": []}',
    b' {"items": ["<html>"]}',
]


@pytest.mark.parametrize("content_type", ["application/rss+xml", "text/html; charset=utf-8"])
def test_the_beginning_tells_pages_from_feeds_whatever_type_they_are_sent_with(content_type):
    assert [page for page in PAGES if not is_html(page, content_type)] == []
    assert [feed for feed in FEEDS if is_html(feed, content_type)] == []


def test_the_type_counts_where_the_beginning_says_nothing():
    assert is_html(b"<title>a</title>", "text/html")
    assert is_html(b"<title>a</title>", "Application/XHTML+xml")
    assert not is_html(b"<title>a</title>", "text/plain")
    assert not is_html(b"", "")


WITHOUT_FEED = [
    "",
    link("/style.css", "text/css", "stylesheet"),
    link("/de/", "text/html"),
    link("/feed", rel="stylesheet"),
    link("/oembed", "application/json+oembed"),
    '<link rel="alternate" type="application/rss+xml">',
    '<a rel="alternate" type="application/rss+xml" href="/feed">',
    link("ftp://site.example/feed"),
    link("mailto:a@site.example"),
    "<!-- " + link("/feed"),
    "<script>" + link("/feed"),
    "<textarea>" + link("/feed") + "</textarea>",
]


@pytest.mark.parametrize(
    ("head", "feed"),
    [
        *((head, None) for head in WITHOUT_FEED),
        (link(FEED), FEED),
        (link(FEED, "application/atom+xml"), FEED),
        (link(FEED, "application/feed+json"), FEED),
        (link(FEED, "application/json"), FEED),
        (link(FEED, "Application/RSS+XML; charset=utf-8"), FEED),
        (link(FEED, rel="Alternate home"), FEED),
        (f"<LINK HREF='{FEED}' TYPE=application/rss+xml REL=alternate>", FEED),
        (f"<link\n rel = alternate\n type = 'application/rss+xml'\n href = {FEED} />", FEED),
        (f'<link title="a > b" rel="alternate" type="application/rss+xml" href="{FEED}">', FEED),
        (link("/a?b=1&amp;c=2"), "http://site.example/a?b=1&c=2"),
        (link("feed.xml"), "http://site.example/dir/feed.xml"),
        (link("//other.example/feed"), "http://other.example/feed"),
        (link(" /feed "), FEED),
        (link("/fünf"), "http://site.example/f%C3%BCnf"),
        (link("http://BÜCHER.example/"), "http://xn--bcher-kva.example/"),
        ('<base href="http://other.example/x/">' + link("feed"), "http://other.example/x/feed"),
        ('<base href="/x/"><base href="/y/">' + link("feed"), "http://site.example/x/feed"),
        ('<base target="_blank">' + link("feed"), "http://site.example/dir/feed"),
        (link("/one") + link("/two"), "http://site.example/one"),
        (link("/api", "application/json") + link("/feed"), FEED),
        (link("javascript:alert(1)") + link("/feed"), FEED),
        (link("http://user:secret@site.example/") + link("/feed"), FEED),
        (link("http://[") + link("") + link("/feed"), FEED),
        (link("/" + "a" * 2000) + link("/feed"), FEED),
        (link("/huge", "application/rss+xml" + '"' + " a" * 3000 + ' b="') + link("/feed"), FEED),
        ("<!-- " + link("/comment") + " -->" + link("/feed"), FEED),
        ("<script>var a = '" + link("/script") + "'</script>" + link("/feed"), FEED),
        ("<style>" + link("/style") + "</style>" + link("/feed"), FEED),
        ("<noscript>" + link("/feed") + "</noscript>", FEED),
        ("<script src='a.js'></script>" + link("/feed"), FEED),
    ],
    ids=short,
)
def test_the_first_feed_that_a_page_declares_is_found_if_there_is_one(head, feed):
    assert find_feed(page(head), ADDRESS) == find_feed(page(body=head), ADDRESS) == feed
