"""Documents of every make are read, as far as possible, into stories that stay the same from check to check.

Most attacks are in `support/hostile.py`.
"""

import json
import random
from datetime import UTC, datetime

import pytest

from batches.checking.checkers import parse as parse_module
from batches.checking.checkers.base import Story
from batches.checking.checkers.document import MAX_TAGS, to_utf8
from batches.checking.checkers.parse import InvalidFeed, read_thoroughly
from batches.checking.checkers.repair import MAX_REPAIRS
from batches.checking.checkers.stories import make_stories

from .conftest import RDF, atom, item, rss, short

ADDRESS = "http://site.example/dir/feed.xml"


def stories(body, charset=""):
    return make_stories(read_thoroughly(to_utf8(body, charset)), ADDRESS)


def titles(body, charset=""):
    return [story.title for story in stories(body, charset)]


def ids(body):
    return [story.id for story in stories(body)]


def undeclared(*items):
    """A feed without an XML declaration."""
    return rss(*items).decode().removeprefix('<?xml version="1.0"?>')


def story(number):
    """The story of `item`."""
    return Story(f"tag:{number}", f"Story {number}", f"{SITE}{number}", datetime(2006, 1, 2, 15, 4, number, tzinfo=UTC))


# Documents

SITE = "http://site.example/"
TWO = [
    Story("1", "One", f"{SITE}1", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
    Story(f"{SITE}2", "Two", f"{SITE}2"),
]
TWO_ITEMS = undeclared(
    f"<title>One</title><link>{SITE}1</link><guid>1</guid><pubDate>Mon, 06 May 2024 07:08:09 GMT</pubDate>",
    f"<title>Two</title><link>{SITE}2</link>",
).encode()


def old_atom(rel, date, namespace=' xmlns="http://www.w3.org/2005/Atom"'):
    return (
        f"<feed{namespace}><title>Site</title><entry><id>1</id><title>One</title>"
        f"<link {rel}href='http://site.example/1'/><{date}>2024-05-06T09:08:09+02:00</{date}></entry>"
        f"<entry><title>Two</title><link {rel}href='http://site.example/2'/></entry></feed>"
    ).encode()


NETSCAPE = (
    b'<?xml version="1.0"?><!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://a/rss.dtd">'
)
JSON_ITEMS = b"""[
    {"id": 1, "title": "One", "url": "http://site.example/1", "date_published": "2024-05-06T07:08:09Z"},
    {"title": "Two", "url": "http://site.example/2", "date_published": null}]"""
FORMATS = {
    "RSS 0.91 with Netscape's document type": NETSCAPE + TWO_ITEMS.replace(b"2.0", b"0.91"),
    "RSS 2.0": TWO_ITEMS,
    "RSS 2.0 with a namespace": TWO_ITEMS.replace(b"<rss ", b'<rss xmlns="http://backend.userland.com/rss2" '),
    "RSS in capitals": TWO_ITEMS.replace(b"rss", b"RSS").replace(b"channel>", b"CHANNEL>"),
    "RSS without a channel": TWO_ITEMS.replace(b"<channel>", b"").replace(b"</channel>", b""),
    "a channel alone": TWO_ITEMS[len('<rss version="2.0">') : -len("</rss>")],
    "Atom 1.0": old_atom("", "updated"),
    "Atom 1.0 with rel": old_atom("rel='alternate' ", "published"),
    "Atom 0.3": old_atom("rel='alternate' ", "issued", ' xmlns="http://purl.org/atom/ns#"'),
    "Atom without a namespace": old_atom("", "updated", ""),
    "JSON Feed": b'{"version": "https://jsonfeed.org/version/1.1", "title": "Site", "items": %b}' % JSON_ITEMS,
}


RDF_ITEM = f"""<item rdf:about='{SITE}2'><title>Two</title><link>{SITE}2</link>
    <dc:date>2024-05-06T07:08:09Z</dc:date></item>"""
ODD_ITEMS = b"""{"items": [7, null, "a", [], {}, {"id": null, "title": ["a"]}, {"id": 1.5, "title": 7, "url": {"a": 1}},
    {"id": "2", "date_published": 5}, {"id": "\\ud800\\u0000x", "title": "a\\u0000b\\udfff"}]}"""
ATOM_TITLES = atom(
    '<id>L</id><title type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">Less: <em>&lt;</em></div></title>',
    '<id>M</id><title type="html">&lt;em&gt;More&lt;/em&gt;: &amp;gt;</title>',
    '<id>A</id><title type="text">AT&amp;T</title><source><id>9</id><title>Elsewhere</title></source>',
)
PREFIXED = '<a:entry><a:id>1</a:id><a:title>One</a:title><a:link href="/1"/></a:entry>'
SELF_LINK = f'<a:link xmlns:a="http://www.w3.org/2005/Atom" rel="self" href="{SITE}self"/>'
QUERY = f"{SITE}?a=1&b=2&copy=3"
INVALID_BASE = atom("<id>1</id><link href='a'/>").replace(b"<feed ", b"<feed xml:base='http://[' ")
#: Before and after the other elements of an item.
BROKEN_MARKUP = [
    ("<description>a<br>b<p>c<img src=x></description>", ""), ("", "<description>a<br>b<p>c</description>"),
    ("<category domain=a>x</category>", ""), ("<foo:bar>x</foo:bar>", ""), ("<!-- a -- b -->", ""), ("</b>", ""),
    ('<category a="1" a="2">x</category>', ""),
]  # fmt: skip
BEFORE = [b"\n\n  ", b"\xef\xbb\xbf", b"<br />\n<b>Warning</b>: in /www/feed.php<br />\n"]
AFTER = [b"", b"<script>alert(1)</script>", b"\n<!-- generated in 0.5 s -->\n"]
DOCTYPES = [
    "<!DOCTYPE rss [<!-- don't --><!ENTITY a '>'><!ENTITY b \"]>\">]>",
    "<!DOCTYPE rss SYSTEM 'http://127.0.0.1:9/a.dtd' [ ] >",
    '<!DOCTYPE rdf:RDF [<!ENTITY % HTMLlat1 PUBLIC "-//W3C//ENTITIES Latin 1" "http://a/lat1.ent"> %HTMLlat1;]>',
    "<!DOCTYPE a><!DOCTYPE b [<!ENTITY c 'd'>]>",
    "<?xml version='1.0'?><!-- a --><!DOCTYPE rss [<!ENTITY eacute 'declared'>]><!-- <!DOCTYPE b [ -->",
    "<b>Warning</b><?xml version='1.0'?><!DOCTYPE rss [<!ENTITY eacute 'declared'>]>",
    "<b>Warning</b><!DOCTYPE rss [<!ENTITY eacute 'declared'>]>",
    "<!DOC<!DOCTYPE a>TYPE rss [<!ENTITY eacute 'declared'>]>",
]
TITLES = {
    "Caf&eacute;&nbsp;&mdash; 5 &euro;": "Café — 5 €",
    "Caf&unknown; 5": "Caf&unknown; 5",
    "AT&T & Co": "AT&T & Co",
    "a < b, 3 <5 <3": "a < b, 3 <5 <3",
    "a&#0;b&#x1F;c&#55296;d&#xFFFFFF;e&#99999999;f": "abcde\ufffdf",
    "a\x00b\x01c\x0bd": "abcd",
    "one <b>two</b> three": "one two three",
    "one<br/>two": "one two",
    "<![CDATA[A & B <i>C</i> &eacute;]]>": "A & B C é",
    "&lt;b&gt;bold&lt;/b&gt; &amp;amp; plain": "bold & plain",
    "List&lt;String&gt; &lt;3": "List<String> <3",
    "&lt;![CDATA[A &amp;amp; B]]&gt;": "A & B",
    "It&#146;s\x85 \x93here\x94": "It’s… “here”",
    "  \n many \t spaces  ": "many spaces",
    "<![CDATA[]]>": "",
    "x" * 600: "x" * 500,
}
CAPITALS = "HTTPS://other.example/a"
NOT_LINKS = [
    "javascript:alert(1)", " JavaScript:alert(1)", "data:text/html,a", "file:///etc/passwd", "mailto:a@example.org",
    "http://[", "http:/\x7f/a", "http://site.example/" + "a" * 2000, "",
]  # fmt: skip
#: More in test_dates.py.
DATES = {
    "Mon, 02 Jan 2006 15:04:05 -0700": datetime(2006, 1, 2, 22, 4, 5, tzinfo=UTC),
    " 2006-01-02T15:04:05+05:30\n": datetime(2006, 1, 2, 9, 34, 5, tzinfo=UTC),
}
ENTITIES = [
    "<!ENTITY x 'declared'>",
    '<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY % p SYSTEM "http://127.0.0.1:9/"> %p;',
]
UNEXPANDED = {
    "<title a='&x;'>&x;</title>": Story("1", "&x;"),
    "<title>a<b>&x;</b></title>": Story("1", "a&x;"),
}
#: The repair sees CDATA, and the parser a comment before an entity.
HIDDEN_ENTITY = "<!-- <![CDATA[ --><title>One</title>&foo;<guid>1</guid><!-- ]]> -->"
FRAGMENTS = ("12", "2024", "10:30", "May")
IDS_LIKE_DATES = (*FRAGMENTS, "20240105")

#: Documents and their stories.
DOCUMENTS = [
    *((body, TWO) for body in FORMATS.values()),
    *(
        (RDF.format(RDF_ITEM, namespace=namespace), [TWO[1]._replace(published=TWO[0].published)])
        for namespace in ("http://purl.org/rss/1.0/", "http://my.netscape.com/rdf/simple/0.9/")
    ),
    (f'<a:feed xmlns:a="http://www.w3.org/2005/Atom">{PREFIXED}</a:feed>', [Story("1", "One", f"{SITE}1")]),
    *((body, []) for body in (rss(), atom(), '{"items": []}', "<rss version='2.0'></rss>")),
    (ODD_ITEMS, [Story("1.5", "7"), Story("2"), Story("x", "ab")]),
    (ATOM_TITLES, [Story(title[0], title) for title in ("Less: <", "More: >", "AT&T")]),
    *(
        (rss(f"<title>{text}</title><link>{SITE}1</link><guid>1</guid>"), [Story("1", title, f"{SITE}1")])
        for text, title in TITLES.items()
    ),
    # Addresses
    *(
        (rss(f"<guid isPermaLink='false'>1</guid><link>{link}</link>"), [Story("1", "", url)])
        for link, url in ({CAPITALS: CAPITALS} | dict.fromkeys(NOT_LINKS, "")).items()
    ),
    (rss(f"<link>{QUERY}</link>"), [Story(QUERY, "", QUERY)]),
    (rss(f"<title>AT&T</title><link><![CDATA[{QUERY}]]></link>"), [Story(QUERY, "AT&T", QUERY)]),
    (rss(f"{SELF_LINK}<title>One</title><link>{SITE}1</link>"), [Story(f"{SITE}1", "One", f"{SITE}1")]),
    (INVALID_BASE, [Story("1", "", "")]),
    # Ids and dates
    (
        rss(*["<guid>1</guid><title>A</title>"] * 2, "", "<title/>", "<foo>bar</foo>", "<description> </description>"),
        [Story("1", "A")],
    ),
    *((rss(f"<guid>{identity}</guid><title>a</title>"), [Story(identity, "a")]) for identity in IDS_LIKE_DATES),
    *(
        (rss(f"<guid>a</guid><pubDate>{date}</pubDate>"), [Story("a", "", "", published)])
        for date, published in (DATES | dict.fromkeys(FRAGMENTS)).items()
    ),
    *(
        (json.dumps({"items": [{"id": "a", "date_published": date}]}), [Story("a", "", "", published)])
        for date, published in DATES.items()
    ),
    # Broken documents
    *((before + rss(item(1), item(2)) + after, [story(1), story(2)]) for before in BEFORE for after in AFTER),
    *(
        (rss(*(before + item(number) + after for number in range(3))), [story(number) for number in range(3)])
        for before, after in BROKEN_MARKUP
    ),
    (rss(HIDDEN_ENTITY) + b"</b>", [Story("1", "One")]),
    *(
        (f"<!DOCTYPE rss [{entity}]>{undeclared(f'<guid>1</guid>{place}')}".encode(encoding), [story])
        for entity in ENTITIES
        for place, story in UNEXPANDED.items()
        for encoding in ("utf-8", "utf-16")
    ),
    *((doctype + undeclared("<guid>1</guid><title>Caf&eacute;</title>"), [Story("1", "Café")]) for doctype in DOCTYPES),
]


@pytest.fixture(params=["small", "large"])
def any_size(request, monkeypatch):
    """Of large documents, long texts are only read if they are needed. Here, all are large or none."""
    is_large = request.param == "large"
    monkeypatch.setattr(parse_module, "LARGE_BYTES", 0 if is_large else 10**9)
    monkeypatch.setattr(parse_module, "LONG_TEXT", 0)


@pytest.mark.parametrize(("document", "expected"), DOCUMENTS, ids=short)
def test_a_document_gives_its_stories(document, expected, any_size):
    assert stories(document if isinstance(document, bytes) else document.encode()) == expected


def test_the_articles_of_a_large_feed_are_not_parsed(monkeypatch):
    parsed = []

    def note(document, original=parse_module.parse_xml):
        parsed.append(len(document))
        return original(document)

    monkeypatch.setattr(parse_module, "parse_xml", note)
    articles = [
        "<description>" + "&nbsp; a & b " * 5000 + "</description>",
        "<content:encoded a='b'> <![CDATA[" + "<p><description>" * 5000 + "]]></content:encoded>",
        "<content:encoded><![CDATA[<description>" + "x" * 20_000 + "<br>]]></content:encoded>",
    ]
    document = rss(*(article + item(number) for number, article in enumerate(articles)))
    assert stories(document) == [story(number) for number in range(3)]
    assert [size < 5000 < len(document) for size in parsed] == [True]


def entry(text, namespaces="", base=""):
    return f"<feed xmlns='http://www.w3.org/2005/Atom'{namespaces}{base}><entry>{text}</entry></feed>"


MEDIA = "xmlns:media='http://search.yahoo.com/mrss/'"
DUBLIN = "xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:dcterms='http://purl.org/dc/terms/'"
#: The elements of an item, and the title that is the story's.
TITLED = {
    "<title>Own</title>": "Own",
    "<media:title>M</media:title><title>Own</title>": "Own",
    "<itunes:title>I</itunes:title><title>Own</title><x:title>X</x:title>": "Own",
    f"<media:title {MEDIA}>M</media:title><title>Own</title>": "Own",
    "<title xmlns='http://search.yahoo.com/mrss/'>M</title><title>Own</title>": "Own",
    "<image><title>I</title></image><title>Own</title>": "Own",
    f"<media:content {MEDIA}><media:title>M</media:title></media:content><title>Own</title>": "Own",
    "<title/><media:title>M</media:title>": "M",
    f"<media:title {MEDIA}>M</media:title><dc:title {DUBLIN}>D</dc:title>": "D",
    "<title>One</title><title>Two</title>": "One",
    "<TITLE>Capitals</TITLE>": "Capitals",
    # Without one, the text's beginning
    "<description>&lt;p&gt;Toot &lt;a href='/'&gt;number&lt;/a&gt; 1&lt;/p&gt;&lt;p&gt;more": "Toot number 1 more",
    "<title> </title><description>Text</description>": "Text",
    f"<description>{'twelve words ' * 30}</description>": "twelve words " * 7 + "twelve…",
    f"<description>{'x' * 200}</description>": "x" * 100 + "…",
    "<content:encoded>&lt;figure&gt;&lt;img src='a'&gt;&lt;/figure&gt;Text&amp;amp;more</content:encoded>": "Text&more",
    "<media:description>M</media:description><content:encoded>C</content:encoded>": "C",
    "<enclosure url='/a.mp3'/>": "",
    # Articles on HTML
    "<description><![CDATA[<!DOCTYPE html> starts a page]]></description>": "starts a page",
    "<title><![CDATA[What <!DOCTYPE means]]></title>": "What <!DOCTYPE means",
    "<body xmlns='http://www.w3.org/1999/xhtml'><p>XHTML</p></body>": "XHTML",
}


@pytest.mark.parametrize(("elements", "title"), TITLED.items(), ids=short)
def test_an_item_s_own_title_wins_over_all_others(elements, title, any_size):
    assert titles(rss(f"<guid>1</guid>{elements}")) == [title]


#: The elements of an item, and the page that is the story's.
PAGES = {
    f"<link>{SITE}1</link>": "1",
    f"<link>\n {SITE}1\n</link>": "1",
    f"<atom:link rel='self' href='{SITE}self'/><link>{SITE}1</link>": "1",
    f"<atom:link rel='alternate' href='{SITE}1'/><link>{SITE}2</link>": "1",
    f"<atom:link href='{SITE}2'/><link>{SITE}1</link>": "1",
    f"<a10:link href='{SITE}1'/><enclosure url='{SITE}a.mp3'/>": "1",
    f"<guid>{SITE}1</guid><enclosure url='{SITE}a.mp3'/>": "1",
    f"<guid isPermaLink='false'>{SITE}1</guid>": "1",
    "<guid>/1</guid>": "1",
    f"<guid>tag:1</guid><enclosure url='{SITE}a.mp3'/>": "a.mp3",
    "<link/><enclosure url='/a.mp3'/>": "a.mp3",
    f"<media:link>{SITE}1</media:link><media:content url='{SITE}1'/>": None,
    "<guid>tag:1</guid>": None,
}  # fmt: skip
ATOM_PAGES = {
    f"<id>tag:1</id><link href='{SITE}1'/>": "1",
    f"<link rel='self' href='{SITE}s'/><link rel='edit' href='{SITE}e'/><link rel='alternate' href='{SITE}1'/>": "1",
    f"<link type='application/json' href='{SITE}j'/><link type='text/html; charset=utf-8' href='{SITE}1'/>": "1",
    f"<link rel='http://www.iana.org/assignments/relation/alternate' href='{SITE}1'/>": "1",
    f"<link rel='enclosure' href='{SITE}a.mp3'/><link rel='related' href='{SITE}1'/>": "1",
    f"<id>{SITE}1</id><link rel='enclosure' href='{SITE}a.mp3'/>": "1",
    f"<id>{SITE}1</id>": "1",
    f"<id>tag:1</id><link rel='enclosure' href='{SITE}a.mp3'/>": "a.mp3",
    f"<id>tag:1</id><link rel='self' href='{SITE}1'/>": None,
    f"<id>tag:1</id><source><link href='{SITE}s'/></source>": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("document", "page"),
    [(rss(f"<title>a</title>{elements}"), page) for elements, page in PAGES.items()]
    + [(entry(f"<title>a</title>{elements}").encode(), page) for elements, page in ATOM_PAGES.items()],
    ids=short,
)
def test_the_link_is_what_a_reader_would_open(document, page):
    assert [story.url for story in stories(document)] == [SITE + page if page else ""]


def based(link="a", channel="", item="", home="https://www.other.example/news/"):
    link = f"<item {item}><link>{link}</link></item>"
    return f"<rss {channel}><channel><link>{home}</link>{link}</channel></rss>"


#: Documents, all at ADDRESS, with the address of a link to "a" (or as it is written there).
RELATIVE = {
    based(): "https://www.other.example/news/a",
    based("/a?b#c"): "https://www.other.example/a?b#c",
    based("//third.example/a"): "http://third.example/a",
    based(home="/en/"): "http://site.example/en/a",
    based(home=""): "http://site.example/dir/a",
    based(home="not a page"): "http://site.example/dir/a",
    based(channel="xml:base='http://base.example/x/'"): "http://base.example/x/a",
    based(channel="xml:base='http://base.example/x/'", item="xml:base='y/'"): "http://base.example/x/y/a",
    based(channel="xml:base='y/'"): "https://www.other.example/news/y/a",
    # Atom's are relative to the document, whatever the site's page is.
    "<feed><link href='https://www.other.example/'/><entry><link href='a'/></entry></feed>": "http://site.example/dir/a",
    entry("<link href='a'/>", base=" xml:base='/x/'"): "http://site.example/x/a",
    entry("<link href='a' xml:base='http://base.example/z/'/>", base=" xml:base='/x/'"): "http://base.example/z/a",
    '{"home_page_url": "https://www.other.example/news/", "items": [{"url": "a"}]}': "https://www.other.example/news/a",
}


@pytest.mark.parametrize(("document", "address"), RELATIVE.items(), ids=short)
def test_a_relative_link_is_joined_to_its_base(document, address):
    assert [story.url for story in stories(document.encode())] == [address]


def test_items_within_an_item_are_not_stories():
    inner = (
        "<content:items><rdf:li><content:item><guid>2</guid><title>Two</title></content:item></rdf:li></content:items>"
    )
    assert ids(rss(f"<guid>1</guid>{inner}<title>One</title>", "<guid>3</guid>")) == ["1", "3"]
    comments = "<gd:feedLink xmlns:gd='g'><feed><entry><id>2</id></entry></feed></gd:feedLink>"
    assert ids(entry(f"<id>1</id>{comments}").encode()) == ["1"]


#: The elements of an item with a guid, and the day in January 2024 on which it was published.
DAYS = {
    "<pubDate>{1}</pubDate><dc:date>{2}</dc:date>": 1,
    "<dc:date>{2}</dc:date><pubDate>{1}</pubDate>": 1,
    "<pubDate>{PM}</pubDate><dc:date>{2}</dc:date>": 2,
    f"<dcterms:modified {DUBLIN}>{{1}}</dcterms:modified><dct:issued>{{2}}</dct:issued>": 2,
    "<modified>{1}</modified><d:date xmlns:d='http://purl.org/dc/elements/1.1/'>{2}</d:date>": 2,
    "<d:date xmlns:d='https://purl.org/dc/elements/1.1'>{1}</d:date>": 1,
    "<atom:updated>{1}</atom:updated>": 1,
    "<updated>{1}</updated><published>{2}</published>": 2,
    "<lastBuildDate>{1}</lastBuildDate><event:date>{2}</event:date>": None,
    "": None,
}  # fmt: skip


@pytest.mark.parametrize(("elements", "day"), DAYS.items(), ids=short)
def test_the_best_date_that_can_be_read_counts(elements, day):
    days = {f"{{{number}}}": f"2024-01-0{number}T10:00:00Z" for number in (1, 2)}
    for placeholder, text in days.items():
        elements = elements.replace(placeholder, text)
    (story,) = stories(rss(f"<guid>2024-01-05</guid>{elements}"))
    assert story.published == (datetime(2024, 1, day, 10, tzinfo=UTC) if day else None)


START_OF_FEED = b'<rss version="2.0"><channel><item><title>One</title></item>'
SITEMAP = b'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>http://a/</loc></url></urlset>'
NONSENSE = [
    b"", b" \n ", b"hello", bytes(range(256)) * 100, SITEMAP, bytes(1000), b"/etc/passwd", b"http://127.0.0.1:1/feed",
    b"<opml version='2.0'><body><outline text='a' xmlUrl='http://a/'/></body></opml>", b'{"error": "not found"}',
    b'{"items": "none"}', b"[1, 2]", b'{"items": [{"id": 1', b'{"items": ' + b"[" * 100_000,
    b"<!DOCTYPE rss [<!ENTITY a 'b" + rss(item(1)),
    # Over the limits.
    START_OF_FEED + b"<a>" * (MAX_TAGS + 1),
    START_OF_FEED + b"&a;" * MAX_REPAIRS,
]  # fmt: skip


@pytest.mark.parametrize("body", NONSENSE, ids=short)
def test_nonsense_is_not_a_feed(body):
    with pytest.raises(InvalidFeed):
        stories(body)


# Encodings


#: A label, the encoding that it stands for, and a title in it.
LABELS = [
    ("koi8-r", "koi8-r", "Привет"),
    ("mac-cyrillic", "mac-cyrillic", "Привет"),
    ("cp866", "cp866", "Привет"),
    ("ISO-8859-5", "iso-8859-5", "Привет"),
    ("ISO-8859-1", "cp1252", "“Müller” – 5 €"),
    ("us-ascii", "cp1252", "naïve"),
    ("gb2312", "gb18030", "联通 镕"),
    ("Shift_JIS", "cp932", "日本語①"),
    ("ISO-2022-JP", "iso-2022-jp", "日本語"),
    ("euc-kr", "cp949", "한국어 똠"),
    ("big5", "big5", "繁體中文"),
    ("windows-1256", "cp1256", "مرحبا"),
    ("TIS-620", "cp874", "สวัสดี"),
]
#: The declared encoding, the real encoding, and the charset of the header.
CONTRADICTIONS = [
    ("", "utf-8", ""), ("", "utf-8", "iso-8859-1"), ("", "utf-8", "no-such-charset"), ("", "utf-8-sig", "koi8-r"),
    ("", "cp1252", ""), ("", "utf-16", ""), ("", "utf-16-le", ""), ("", "utf-16-be", ""), ("", "utf-32", ""),
    ("utf-8", "utf-8", "iso-8859-1"), ("utf-8", "cp1252", "iso-8859-1"),
    ("utf-8", "cp1252", ""), ("iso-8859-1", "utf-8", "utf-8"),
    ("iso-8859-1", "cp1252", "utf-8"), ("iso-8859-1", "utf-8", ""), ("utf-16", "utf-8", ""),
    ("utf-16", "utf-16", "utf-8"), ("punycode", "utf-8", "unicode_escape"), ("no-such-encoding", "utf-8", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("declaration", "codec", "charset", "title"),
    [
        *((label, codec, "", title) for label, codec, title in LABELS),
        *(("", codec, label, title) for label, codec, title in LABELS),
        *((*contradiction, "Grüße “é”") for contradiction in CONTRADICTIONS),
    ],
)
def test_the_right_encoding_is_found(declaration, codec, charset, title):
    xml = f'<?xml version="1.0" encoding="{declaration}"?>' if declaration else ""
    body = f"{xml}<rss><channel><item><title>{title}</title></item></channel></rss>".encode(codec)
    assert titles(body, charset) == [title]


def test_a_broken_or_cut_character_spoils_only_itself():
    body = b"<?xml version='1.0' encoding='utf-8'?>" + rss("<title>Gr\u00fc\xdfe @ mehr</title>")[21:]
    assert titles(body.replace(b"@", b"\xff")) == ["Grüße � mehr"]
    cut = rss("<title>Grüße</title><guid>1</guid>")[: -len("</channel></rss>")] + "<item><title>Grü".encode()[:-1]
    assert titles(cut) == ["Grüße"]


# Broken documents


def test_a_truncated_document_is_read_up_to_its_end_without_half_an_id():
    whole = rss(*(item(number) for number in range(3)))
    read = [ids(whole[:end]) for end in range(whole.index(b"<item>"), len(whole))]
    assert {tuple(found) for found in read} == {("tag:0", "tag:1", "tag:2")[:count] for count in range(4)}
    assert len(ids(whole[: whole.rindex(b"</description>")])) == 3
    assert len(ids(whole[: whole.rindex(b"</guid>")])) == 2


ATTRIBUTES = '<a:entry xmlns:a="b"><a:id>1</a:id><a:title>One</a:title><a:link {}></a:entry>'
BROKEN = [
    # Tags that are not closed, closed twice, or closed in the wrong order
    "<item><guid>1<title>One<link>{}1</link><item><guid>2</guid><title>Two</title>",
    "<item><guid>1</guid><title>One</link></title><link>{}1</link></item></item><item><guid>2</guid><title>Two</title>",
    "<title><item><guid>1</guid><title>One</title><description><p><b></p><link>{}1</link></item><item><guid>2</guid>"
    "<title>Two</title></item>",
    # Attributes
    '<item x y="1" y="2"><guid x=1 y>1</guid><title a="1" a="2">One</title><link>{}1</link></item>'
    "<item><guid isPermaLink=false>2</guid><title>Two</title></item>",
    "<item><guid>1</guid><title>One</title><atom:link rel=alternate href={}1></item>"
    "<item><guid>2</guid><title>Two</title>",
    # Prefixes
    "<x:item><x:guid>1</x:guid><y:title>M</y:title><x:title>One</x:title><x:link>{}1</x:link></x:item>"
    "<x:item><x:guid>2</x:guid><x:title>Two</x:title></x:item></b>",
    # Capitals
    "<ITEM><GUID>1</GUID><TITLE>One</TITLE><LINK>{}1</LINK></ITEM><Item><Guid>2</Guid><Title>Two</Title></Item>",
    # Elements that have their own title and link, or only seem to
    "<item><image><title>I</title><link>/i</link></image><source><title>S</title></source><guid>1</guid>"
    "<title>One</title><link>{}1</link></b></item>"
    "<item><description><video><source src=a></video></description><guid>2</guid><title>Two</title>",
    "<item><guid>1</guid><title>One</title><link>{}1</link></item></b><![CDATA[<item>]]>"
    "<item><guid>2</guid><title>Two</title><description><![CDATA[</item></title>",
]  # fmt: skip


@pytest.mark.parametrize("items", BROKEN, ids=short)
def test_broken_xml_is_read_as_it_was_meant(items, any_size):
    found = stories(f"<rss><channel>{items.format(SITE)}".encode())
    assert [(story.id, story.title, story.url) for story in found] == [("1", "One", f"{SITE}1"), ("2", "Two", "")]


DAMAGE = [
    b"<", b">", b"&", b'"', b"<![CDATA[", b"]]>", b"<!--", b"<!DOCTYPE", b"?>", b"\0", b"\xff", b"&#xD800;", b"<item>",
    b"</item>", b"<title>", b"</title>", b'xml:base="http://["', b'encoding="utf-16"', b"{", b"[", b"<link href='",
]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_document_gives_stories_that_can_be_stored_or_is_not_a_feed(name):
    chance = random.Random(name)
    for _ in range(60):
        document = FORMATS[name]
        for _ in range(chance.randint(1, 6)):
            start = chance.randrange(len(document))
            document = document[:start] + chance.choice(DAMAGE) + document[start + chance.randint(0, 20) :]
        try:
            found = stories(document, chance.choice(["", "koi8-r", "utf-16", "x"]))
        except InvalidFeed:
            continue
        for story in found:
            assert 0 < len(story.id.encode()) <= 1020
            assert "\0" not in story.id + story.title.encode().decode() + story.url
            assert story.url == "" or story.url.lower().startswith(("http://", "https://"))


# Ids


def test_the_content_identifies_a_story_without_id_and_link():
    variants = [
        "<title>One</title>",
        "<title>Two</title>",
        "<title>One</title><description>a</description>",
        "<title>One</title><pubDate>Mon, 02 Jan 2006 15:04:05 GMT</pubDate>",
        "<title>One</title><pubDate>Tue, 03 Jan 2006 15:04:05 GMT</pubDate>",
    ]
    found = ids(rss(*variants, *variants))
    assert len(set(found)) == len(found) == len(variants)
    assert {len(identity) for identity in found} == {64}
    assert found[1:] == ids(rss(*variants[1:]))


def test_a_link_is_the_id_of_a_story_without_one_unless_it_leads_to_the_site():
    links = ("http://site.example/1", "http://site.example/", "http://site.example")
    one, two, three = ids(rss(*(f"<title>{link}</title><link>{link}</link>" for link in links)))
    assert one == "http://site.example/1"
    assert two != three
    assert {len(two), len(three)} == {64}


def test_a_text_alone_makes_a_story(any_size):
    texts = [
        "<description>A</description>", "<content:encoded>B</content:encoded>", "<summary>C</summary>",
        "<description>A</description>", "<media:description>D</media:description>",
    ]  # fmt: skip
    found = stories(rss(*texts))
    assert [story.title for story in found] == ["A", "B", "C", "D"]
    assert {len(story.id) for story in found} == {64}
    xhtml = "<content type='xhtml'><div xmlns='http://www.w3.org/1999/xhtml'>One<br/>two <b>th</b>ree</div></content>"
    assert titles(entry(xhtml).encode()) == ["One two three"]
    assert titles(b'{"items": [{"content_html": "<p>Text</p>"}, {"content_text": "a\tb"}, {"tags": ["x"]}]}') == [
        "Text",
        "a b",
    ]


GUID, LINK = "<guid>N/A</guid>", f"<link>{SITE}changes</link>"
A, B = "<title>A</title>", "<title>B</title>"
MONDAY, TUESDAY = (f"<pubDate>{day} Jan 2024 10:00:00 GMT</pubDate>" for day in ("Mon, 01", "Tue, 02"))


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (GUID + A, GUID + B),
        (GUID + A + LINK, GUID + A),
        (GUID + A + MONDAY, GUID + A + TUESDAY),
        (LINK + A, LINK + B),
        (LINK + A + MONDAY, LINK + A + TUESDAY),
        (GUID + LINK + A, GUID + LINK + B),
        (GUID + "<description>One</description>", GUID + "<description>Two</description>"),
    ],
    ids=short,
)
def test_an_id_or_a_link_that_two_items_share_identifies_neither(first, other):
    both, swapped, more = (
        stories(rss(first, other)),
        stories(rss(other, first, other)),
        stories(rss(first, other, GUID)),
    )
    assert len(both) == 2
    assert {len(story.id) for story in both} == {64}
    assert both == swapped[::-1] == more[:2]
    assert [len(stories(rss(*items))) for items in ([first, first], [other, other, other])] == [1, 1]


def test_a_long_id_becomes_a_digest():
    found = ids(rss(*(f"<guid>{identity}</guid>" for identity in ("x" * 256, "x" * 257, "y" * 255))))
    assert [len(identity) for identity in found] == [64, 64, 255]
    assert len(set(found)) == 3


# Attacks


def test_only_the_first_of_very_many_stories_are_read(monkeypatch):
    monkeypatch.setattr(parse_module, "MAX_STORIES", 3)
    xml = rss(*(f"<guid>{number}</guid>" for number in range(50)))
    feed = json.dumps({"items": [{"id": number} for number in range(50)]}).encode()
    assert ids(xml) == ids(feed) == ["0", "1", "2"]
