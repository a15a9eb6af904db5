"""Pages are distinguished from feeds, and lead to the feed that they declare."""

import pytest

from batches.checking.checkers.page import MAX_FEEDS, Declared, is_html, read_page

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
def test_the_beginning_distinguishes_pages_from_feeds_whatever_their_content_type(content_type):
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
    link("/feed", "text/html"),
    link("/de/", ""),
    link("/feedback", ""),
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
        (link("/a?b=1&section=2&amp;copy=3&copy=4"), "http://site.example/a?b=1&section=2&copy=3&copy=4"),
        (link("feed.xml"), "http://site.example/dir/feed.xml"),
        (link("//other.example/feed"), "http://other.example/feed"),
        (link(" /feed "), FEED),
        (link("/fünf"), "http://site.example/f%C3%BCnf"),
        (link("http://BÜCHER.example/"), "http://xn--bcher-kva.example/"),
        ('<base href="http://other.example/x/">' + link("feed"), "http://other.example/x/feed"),
        ('<base href="/x/"><base href="/y/">' + link("feed"), "http://site.example/x/feed"),
        ('<base target="_blank">' + link("feed"), "http://site.example/dir/feed"),
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
        ("<script src='a.js' /><title/>" + link("/feed"), FEED),
        *(
            (link(FEED, kind), FEED)
            for kind in ("application/rdf+xml", "text/xml", "application/xml; charset=utf-8", "text/rss")
        ),
        (link(FEED, "application/rss&#43;xml"), FEED),
        (link(FEED, "", "feed"), FEED),
        (link(FEED, ""), FEED),
        (link("/index.xml", "").replace("<link", "<link title='Our RSS'"), "http://site.example/index.xml"),
        (link("/my feed.xml"), "http://site.example/my%20feed.xml"),
        (link("/long\n  feed"), "http://site.example/long%20%20feed"),
        (link("feed://site.example/feed"), FEED),
        (link("feed:https://site.example/feed"), "https://site.example/feed"),
    ],
    ids=short,
)
def test_the_feed_that_a_page_declares_is_found_anywhere_in_it(head, feed):
    found = [read_page(document, ADDRESS).feeds for document in (page(head), page(body=head))]
    assert found == [[feed] if feed else []] * 2


def titled(href, title):
    return link(href).replace("<link", f'<link title="{title}"')


#: The declarations of a page, and the paths of its feeds, the best first.
ORDERED = {
    link("/1") + link("/2", "application/atom+xml") + link("/3", "application/feed+json"): "1 2 3",
    link("/1") + link("/2") + link("/1"): "1 2",
    link("/3", "application/json") + link("/2", "text/xml") + link("/1"): "1 2 3",
    titled("/2", "Site » Comments Feed") + link("/1"): "1",
    titled("/3", "Site » Kommentar-Feed") + link("/comments/feed/") + titled("/1", "Community"): "1",
    titled("/2", "All comments") + link("/1", "application/json"): "1",
    titled("/1", "Comments") + titled("/2", "Commentary"): "2",
    titled("/1", "Comments") + link("/comments/feed/"): "1 comments/feed/",
    "".join(link(f"/{number}") for number in range(MAX_FEEDS + 2)): " ".join(map(str, range(MAX_FEEDS))),
}


@pytest.mark.parametrize(("head", "paths"), ORDERED.items(), ids=short)
def test_all_feeds_of_a_page_are_found_the_best_first(head, paths):
    assert list(read_page(page(head), ADDRESS).feeds) == [f"http://site.example/{path}" for path in paths.split()]


#: A header "Link", and the paths of its feeds.
LINK_HEADERS = {
    '</1>; rel="alternate"; type="application/rss+xml"': "1",
    "<1> ;rel=alternate;type=application/atom+xml": "dir/1",
    '</a.css>; rel=preload, </1>; type="text/xml"; title="a, b; c"; rel="alternate", </2>; rel=feed': "1 2",
    '</1>; rel="alternate"; rel=x; type="application/rss+xml"': "1",
    '</2>; rel="alternate"; type="application/rss+xml"; title="Comments", </1>; rel=feed': "1",
    '</1>; rel="next"; type="application/rss+xml"': "",
    '<javascript:a>; rel="alternate"; type="application/rss+xml"': "",
    "</1; rel=feed": "",
    "": "",
    "<" * 10_000: "",
    "<a>" + ";" * 10_000: "",
}


@pytest.mark.parametrize(("header", "paths"), LINK_HEADERS.items(), ids=short)
def test_the_header_of_a_page_declares_feeds_too(header, paths):
    feeds = [f"http://site.example/{path}" for path in paths.split()]
    assert list(read_page(page(), ADDRESS, header).feeds) == feeds
    assert list(read_page(page(link("/0")), ADDRESS, header).feeds)[:1] == ["http://site.example/0"]


#: What "Refresh" says, and where it leads.
REFRESHES = {
    "0;url=/feed": FEED,
    "0; URL='feed'": "http://site.example/dir/feed",
    '5,url="http://other.example/"': "http://other.example/",
    " 0.5 ; url = /feed ": FEED,
    "0;/feed": FEED,
    "0; url=/my feed": "http://site.example/my%20feed",
    "0": "",
    "0;url=": "",
    "60;url=/feed": "",
    "0;url=page.html": "",
    "0;url=page.html#top": "",
    "0;url=javascript:alert(1)": "",
    "0;url=ftp://site.example/": "",
    "soon;url=/feed": "",
    " " * 9000: "",
}


@pytest.mark.parametrize(("content", "target"), REFRESHES.items(), ids=short)
def test_the_target_of_a_refresh_is_found(content, target):
    quoted = content.replace('"', "&quot;")
    tag = f'<META content="{quoted}" HTTP-EQUIV=Refresh>'
    for declared in (read_page(page(tag), ADDRESS), read_page(page(), ADDRESS, refresh_header=content)):
        assert declared == Declared([], target)
    assert (
        read_page(page(tag + link("/first")), ADDRESS, refresh_header="0;url=/header").refresh == f"{FEED[:-4]}header"
    )
