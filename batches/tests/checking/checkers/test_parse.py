"""Documents of every make are read, as far as possible, into stories that stay the same from check to check.

Most attacks stand in `support/hostile.py`.
"""

import io
import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from batches.checking.checkers import parse as parse_module
from batches.checking.checkers.base import Story
from batches.checking.checkers.document import MAX_NAMESPACES, MAX_REPAIRS, MAX_TAGS, to_utf8
from batches.checking.checkers.parse import (
    InvalidFeed,
    read_quickly,
    read_thoroughly,
    read_with_feedparser,
)
from batches.checking.checkers.stories import make_stories

from .conftest import ATOM, RDF, atom, item, rss, short

ADDRESS = "http://site.example/dir/feed.xml"


def stories(body: bytes, charset: str = "") -> list[Story]:
    return make_stories(read_thoroughly(to_utf8(body, charset)), ADDRESS)


def titles(body: bytes, charset: str = "") -> list[str]:
    return [story.title for story in stories(body, charset)]


def ids(body: bytes) -> list[str]:
    return [story.id for story in stories(body)]


def undeclared(*items: str) -> str:
    """A feed without an XML declaration."""
    return rss(*items).decode().removeprefix('<?xml version="1.0"?>')


def story(number: int) -> Story:
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


def old_atom(rel: str, date: str, namespace: str = ' xmlns="http://www.w3.org/2005/Atom"') -> bytes:
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
BASED = ATOM.format("<entry><id>1</id><link href='a'/></entry>").replace("<feed ", "<feed xml:base='{}' ")
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
    "  \n many \t spaces  ": "many spaces",
    "<![CDATA[]]>": "",
    "x" * 600: "x" * 500,
}
LINKS = {
    "http://other.example/a": "http://other.example/a",
    "HTTPS://other.example/a": "HTTPS://other.example/a",
    "/a": f"{SITE}a",
    "a?b=1": f"{SITE}dir/a?b=1",
    "//other.example/a": "http://other.example/a",
}
NOT_LINKS = [
    "javascript:alert(1)", " JavaScript:alert(1)", "data:text/html,a", "file:///etc/passwd", "mailto:a@example.org",
    "http://[", "http:/\x7f/a", "http://site.example/" + "a" * 2000, "",
]  # fmt: skip
DATES = {
    "Mon, 02 Jan 2006 15:04:05 GMT": datetime(2006, 1, 2, 15, 4, 5, tzinfo=UTC),
    "Mon, 02 Jan 2006 15:04:05 -0700": datetime(2006, 1, 2, 22, 4, 5, tzinfo=UTC),
    "2 January 2006, 15:04 XYZT": datetime(2006, 1, 2, 15, 4, tzinfo=UTC),
    "Thu, 01 Jan 1970 00:00:00 GMT": datetime(1970, 1, 1, tzinfo=UTC),
}
ISO_DATES = {
    "2006-01-02T15:04:05+05:30": datetime(2006, 1, 2, 9, 34, 5, tzinfo=UTC),
    "2006-01-02T15:04:05": datetime(2006, 1, 2, 15, 4, 5, tzinfo=UTC),
    "2006-01-02": datetime(2006, 1, 2, tzinfo=UTC),
}
NOT_DATES = [
    "0000-00-00 00:00:00", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z", "+292278994-08-17T07:12:55Z", "Mon, 99 Foo 2006 15:04:05 GMT",
    "soon", "", "1" * 5000,
]  # fmt: skip
ENTITIES = [
    "<!ENTITY x 'declared'>",
    '<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY % p SYSTEM "http://127.0.0.1:9/"> %p;',
]
UNEXPANDED = {
    "<title a='&x;'>&x;</title>": Story("1", "&x;"),
    "<title>a<b>&x;</b></title>": Story("1", "a &x;", f"{SITE}dir/1"),
}
IDS_LIKE_DATES = ("12", "2024", "20240105", "10:30", "May")

#: Documents and their stories.
DOCUMENTS: list[tuple[bytes | str, list[Story]]] = [
    *((body, TWO) for body in FORMATS.values()),
    *(
        (RDF.format(RDF_ITEM, namespace=namespace), [replace(TWO[1], published=TWO[0].published)])
        for namespace in ("http://purl.org/rss/1.0/", "http://my.netscape.com/rdf/simple/0.9/")
    ),
    (f'<a:feed xmlns:a="http://www.w3.org/2005/Atom">{PREFIXED}</a:feed>', [Story("1", "One", f"{SITE}1")]),
    *((body, []) for body in (rss(), atom(), '{"items": []}', "<rss version='2.0'></rss>")),
    (ODD_ITEMS, [Story("1.5", "7"), Story("2"), Story("x", "ab")]),
    (ATOM_TITLES, [Story(title[0], title, f"{SITE}dir/{title[0]}") for title in ("Less: <", "More: >", "AT&T")]),
    *(
        (rss(f"<title>{text}</title><link>{SITE}1</link><guid>1</guid>"), [Story("1", title, f"{SITE}1")])
        for text, title in TITLES.items()
    ),
    # Addresses
    *(
        (rss(f"<guid isPermaLink='false'>1</guid><link>{link}</link>"), [Story("1", "", url)])
        for link, url in (LINKS | dict.fromkeys(NOT_LINKS, "")).items()
    ),
    (rss(f"<link>{QUERY}</link>"), [Story(QUERY, "", QUERY)]),
    (rss(f"<title>AT&T</title><link><![CDATA[{QUERY}]]></link>"), [Story(QUERY, "AT&T", QUERY)]),
    (rss(f"{SELF_LINK}<title>One</title><link>{SITE}1</link>"), [Story(f"{SITE}1", "One", f"{SITE}1")]),
    (BASED.format("http://other.example/x/"), [Story("1", "", "http://other.example/x/a")]),
    (BASED.format("http://["), [Story("1", "", "")]),
    # Ids and dates
    (
        rss("<guid>1</guid><title>A</title>", "<guid>1</guid><title>B</title>", "", "<title/>", "<foo>bar</foo>"),
        [Story("1", "A")],
    ),
    *((rss(f"<guid>{identity}</guid><title>a</title>"), [Story(identity, "a")]) for identity in IDS_LIKE_DATES),
    *(
        (rss(f"<guid>a</guid><pubDate>{date}</pubDate>"), [Story("a", "", "", published)])
        for date, published in (DATES | ISO_DATES | dict.fromkeys(NOT_DATES)).items()
    ),
    *(
        (json.dumps({"items": [{"id": "a", "date_published": date}]}), [Story("a", "", "", published)])
        for date, published in (ISO_DATES | dict.fromkeys([*DATES, *NOT_DATES])).items()
    ),
    # Broken documents
    *((before + rss(item(1), item(2)) + after, [story(1), story(2)]) for before in BEFORE for after in AFTER),
    *(
        (rss(*(before + item(number) + after for number in range(3))), [story(number) for number in range(3)])
        for before, after in BROKEN_MARKUP
    ),
    *(
        (f"<!DOCTYPE rss [{entity}]>{undeclared(f'<guid>1</guid>{place}')}".encode(encoding), [story])
        for entity in ENTITIES
        for place, story in UNEXPANDED.items()
        for encoding in ("utf-8", "utf-16")
    ),
    *((doctype + undeclared("<guid>1</guid><title>Caf&eacute;</title>"), [Story("1", "Café")]) for doctype in DOCTYPES),
]


@pytest.mark.filterwarnings("ignore:tzname .* identified but not understood")
@pytest.mark.parametrize(("document", "expected"), DOCUMENTS, ids=short)
def test_a_document_gives_its_stories(document, expected):
    assert stories(document if isinstance(document, bytes) else document.encode()) == expected


START_OF_FEED = b'<rss version="2.0"><channel><item><title>One</title></item>'
SITEMAP = b'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"><url><loc>http://a/</loc></url></urlset>'
NONSENSE = [
    b"", b" \n ", b"hello", bytes(range(256)) * 100, SITEMAP, bytes(1000), b"/etc/passwd", b"http://127.0.0.1:1/feed",
    b"<opml version='2.0'><body><outline text='a' xmlUrl='http://a/'/></body></opml>", b'{"error": "not found"}',
    b'{"items": "none"}', b"[1, 2]", b'{"items": [{"id": 1', b'{"items": ' + b"[" * 100_000,
    b"<!DOCTYPE rss [<!ENTITY a 'b" + rss(item(1)),
    # Over the limits.
    START_OF_FEED + b"<a>" * (MAX_TAGS + 1), START_OF_FEED + b'<a xmlns="b"/>' * (MAX_NAMESPACES + 1),
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
#: What the document declares, what it is in, and what the header says.
CONTRADICTIONS = [
    ("", "utf-8", ""), ("", "utf-8", "iso-8859-1"), ("", "utf-8", "no-such-charset"), ("", "utf-8-sig", "koi8-r"),
    ("", "cp1252", ""), ("", "utf-16", ""), ("", "utf-16-le", ""), ("", "utf-16-be", ""), ("", "utf-32", ""),
    ("utf-8", "utf-8", "iso-8859-1"), ("utf-8", "cp1252", "iso-8859-1"), ("iso-8859-1", "utf-8", "utf-8"),
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


def test_both_parsers_give_the_same_ids():
    items = [
        item(1),
        "<title>No id</title><description>text  with &amp; more</description>",
        "<title>A link</title><link>/relative?a=1&amp;b=2</link>",
        "<guid isPermaLink='false'>5</guid>",
        "<guid>http://site.example/guid</guid>",
        "<title>Dated</title><pubDate>Mon, 02 Jan 2006 15:04:05 +0200</pubDate>",
        "<title>Ünïcode €</title>",
    ]
    feeds = [read(rss(*items)) for read in (read_quickly, read_with_feedparser)]
    quick, slow = ([story.id for story in make_stories(feed, ADDRESS)] for feed in feeds)
    assert quick == slow
    assert len(quick) == len(items)


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


def test_the_parsers_get_bytes_and_streams_only(monkeypatch):
    """They would open text or bytes that name a file or an address."""
    given = []
    for parser in (parse_module.fastfeedparser, parse_module.feedparser):

        def note(source: object, original: object = parser.parse, **options: object) -> object:
            given.append(type(source))
            return original(source, **options)

        monkeypatch.setattr(parser, "parse", note)
    stories(rss("<title>one <b>two</b></title>"))
    assert set(given) == {bytes, io.BytesIO}
