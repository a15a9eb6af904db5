"""Lists as people and programs write them: a table for each kind, with the result of each list."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from batches.limits import MAX_NAME
from batches.lists import source
from batches.lists.addresses import normalise_address
from batches.lists.formats import read_profiles
from batches.lists.imports import clean_line

from .corpus import A, B, C, as_bytes, lines, opml, outlines

ABC = [A, B, C]
ONE, TWO, THREE = NAMED = [(A, "one"), (B, "two"), (C, "three")]

OPEN_QUOTE = "It opens a quote that is never closed; within quotes, write each quote twice."
AFTER_QUOTE = "It has text after a closing quote; within quotes, write each quote twice."
NO_SCHEME = "It has no scheme; start it with https://."
NOT_READABLE = 'Its address cannot be read; write each attribute as name="value".'
HIDES = "The {} that begins here has no end; it hides the rest of the list."
INCLUDES = "It includes another list, which is not fetched; import that list separately."
NOT_JSON = "It is not valid JSON."
NOT_AN_ENTRY = 'It has no "url"; an entry is a string, or an object with a string "url".'

# Each table: a label, the list, its profiles (addresses, or addresses with names), and lines with reasons of rejects.


def outline(url, name):
    return f'<outline type="rss" text="{name}" xmlUrl="{url}"/>'


def slip(written, *found, rejects=()):
    """A list of three outlines, the second written like this. `found` is its result: an address and a name."""
    content = opml(f"\n{outline(*ONE)}\n{written}\n{outline(*THREE)}\n")
    second = [(found[0], found[1] if len(found) > 1 else "two")] if found else []
    return content, [ONE, *second, THREE], rejects


SLIPS = {
    "a bare & in a name": slip(f'<outline text="Q&A & more" xmlUrl="{B}"/>', B, "Q&A & more"),
    "a bare & in an address": slip(f'<outline text="two" xmlUrl="{B}?a=1&b=2"/>', f"{B}?a=1&b=2"),
    "what looks like an entity": slip(f'<outline text="two" xmlUrl="{B}?a&copy=2&lt=3"/>', f"{B}?a&copy=2&lt=3"),
    "<": slip(f'<outline text="I <3 blogs" xmlUrl="{B}"/>', B, "I <3 blogs"),
    "HTML": slip(f'<outline text="a <b>bold</b> name" xmlUrl="{B}"/>', B, "a <b>bold</b> name"),
    "HTML with quotes": slip(f'<outline text="two" description="<a href="{A}">x</a>" xmlUrl="{B}"/>', B),
    "HTML's entities": slip(f'<outline text="Caf&eacute;&nbsp;&hellip; &amp;amp;" xmlUrl="{B}"/>', B, "Café … &amp;"),
    "an unknown entity": slip(f'<outline text="&what; two" xmlUrl="{B}"/>', B, "&what; two"),
    "numbers": slip(f'<outline text="&#67;af&#xe9;" xmlUrl="{B}"/>', B, "Café"),
    "control characters": slip(f'<outline text="a\x0b\x1bb" xmlUrl="{B}"/>', B, "a b"),
    "the number of a control character": slip(f'<outline text="a&#x0B;b" xmlUrl="{B}"/>', B, "a b"),
    "an attribute twice": slip(f'<outline text="two" text="2" xmlUrl="{B}" xmlUrl="{A}"/>', B),
    "prefixes that are not declared": slip(f'<x:outline y:z="1" text="two" xmlUrl="{B}"/>', B),
    "no end tag": slip(f'<outline text="two" xmlUrl="{B}">', B),
    "end tags too many": slip(f'<outline text="two" xmlUrl="{B}"></outline></outline></x>', B),
    "no >": slip(f'<outline text="two" xmlUrl="{B}"', B),
    "no quotes": slip(f"<outline text=two xmlUrl={B}feed/>", f"{B}feed"),
    "single quotes": slip(f"<outline text='two' xmlUrl='{B}'/>", B),
    "quotes within quotes": slip(f'<outline text="say "hi" now" xmlUrl="{B}"/>', B, 'say "hi" now'),
    "a name without its closing quote": slip(f'<outline text="two xmlUrl="{B}" htmlUrl="{C}"/>', B),
    "an address without its closing quote": slip(f'<outline text="two" xmlUrl="{B}feed/>', f"{B}feed"),
    "that, and a name behind it": slip(f'<outline xmlUrl="{B} text="two"/>', B),
    "no blank between attributes": slip(f'<outline text="two"xmlUrl="{B}"/>', B),
    "blanks around =": slip(f'<outline text = "two"\txmlUrl\t= "{B}" />', B),
    "upper case": slip(f'<OUTLINE TEXT="two" XMLURL="{B}"/>', B),
    "no =": slip(f'<outline text="two" xmlUrl "{B}"/>', rejects=[(3, NOT_READABLE)]),
    "an entity for an address": slip('<outline text="two" xmlUrl="&what;"/>', rejects=[(3, NO_SCHEME)]),
    "a control character in an address": slip(
        f'<outline text="two" xmlUrl="{B}&#27;"/>', rejects=[(3, "It contains a control character (U+001B).")]
    ),
    "blank lines first": (f"\n\n \n<?xml version='1.0'?>{opml(outlines(*ABC))}", ABC),
    "text first": (f"This is my list:\n{opml(outlines(*ABC))}", ABC),
    "text behind the end": (f"{opml(outlines(*ABC))}\nbye </opml> & <", ABC),
    "nothing around the outlines": (lines(*(outline(*named) for named in NAMED)), NAMED),
    "a declaration without an end": (f'<?xml version="1.0">\n{opml(outlines(*ABC))}', ABC),
    "declared entities": (opml(outlines(*ABC), '<!DOCTYPE opml [<!ENTITY nbsp "&#160;">]>'), ABC),
    "cut in a tag": (
        f'<opml>\n{outlines(A, B)}<outline xmlUrl="https://c.exa',
        [A, B],
        [(4, "The list ends within this entry.")],
    ),
    "cut between tags": (f"<opml><body>{outlines(A, B)}", [A, B]),
    "a comment without an end": (opml(f"\n{outlines(A)}<!-- {outlines(B)}"), [A], [(3, HIDES.format("comment"))]),
    "a CDATA section without an end": (f"<opml>{outlines(A)}<![CDATA[ x", [A], [(2, HIDES.format("CDATA section"))]),
    "-- in a comment": (opml(f"<!-- a -- b {outlines(B)} -->{outlines(A)}"), [A]),
}

FIELDS = {
    **{
        f"{field}=": (opml(f'<outline {field}="{A}" text="one"/>'), [ONE])
        for field in ("xmlUrl", "xmlurl", "url", "URL", "htmlUrl", "HTMLURL", "feedUrl", "feed_url", "href")
    },
    "the best of several": (
        opml(f'<outline htmlUrl="{C}" url="{B}" xmlUrl="{A}"/><outline htmlUrl="{C}" url="{B}"/>'),
        [A, B],
    ),
    "no value": (opml(f'<outline xmlUrl=" " htmlUrl="{A}"/>\n<outline xmlUrl=""/>'), [A], [(2, "It is empty.")]),
    "title before text": (
        opml(f'<outline text="1" title="one" xmlUrl="{A}"/><outline text="two" title="" xmlUrl="{B}"/>'),
        [ONE, TWO],
    ),
    "blanks before text": (opml(f'<outline text="one" title="&#9;" xmlUrl="{A}"/>'), [ONE]),
    "the address instead of a name": (opml(f'<outline text="{A}?a&amp;b" xmlUrl="{A}?a&amp;b"/>'), [(f"{A}?a&b", "")]),
    "a link": (opml(f'<outline type="link" text="one" url="{A}"/>'), [ONE]),
    "another list": (opml(f'{outlines(A)}<outline type="include" url="{B}list.opml"/>'), [A], [(2, INCLUDES)]),
    "folders, notes and settings": (
        opml(
            f'<outline text="folder">{outlines(A)}</outline><outline text="note"/><outline text="tt-rss-prefs">'
            '<outline pref-name="BLACKLIST" value="x"/></outline>'
        ),
        [A],
    ),
}

COLUMNS = {
    **{
        column: (f"Title,Note,{column}\none,x,{A}\ntwo,y,{B}\n", [ONE, TWO])
        for column in (
            *("url", "URL", "xmlUrl", "Feed URL", "feed_url", "RSS", "RSS feed", "Website", "Web site URL", "link"),
            *("Links", "Channel Url", "Profile URL", "Address", "Homepage", "URI"),
        )
    },
    **{
        column: (f"URL,{column}\n{A},one\n{B},two\n", [ONE, TWO])
        for column in ("name", "Title", "Feed Title", "channel_title", "Site name", "Blog", "Website", "Text")
    },
    "a column that only its addresses show": (f"Titel;Adresse\none;{A}\ntwo;{B}\n", [ONE, TWO]),
    "a third column beside it": (f"Thema;Titel;Adresse\nx;one;{A}\ny;two;{B}\n", [A, B]),
    "a column of names that is called a blog": (f"Blog,Adresse\none,{A}\ntwo,{B}\n", [ONE, TWO]),
    "a postal address": (f"Name,Address,Website\none,1 Main Street,{A}\ntwo,2 Main Street,{B}\n", [ONE, TWO]),
    "feeds before pages, and pages without feeds": (f"Website,Feed URL\n{C},{A}\n{B},\n", [A, B]),
    "a name that is an address": (f"url,name\n{A},one\n{B},{C}\n", [ONE, (B, C)]),
    "our own exports": (f"url,name,feed_url\n{A},one,{C}\n{B},two,\n", [ONE, TWO]),
    "no header": (f"one,{A}\ntwo,{B}\n", [ONE, TWO]),
    "no header, the address first": (f"{A},one\n{B},two\n", [ONE, TWO]),
    "no header, three columns": (f"1,{A},x\n2,{B},y\n", [A, B]),
    "no header, a fault first": (f"www.c.example,three\n{A},one\n", [ONE], [(1, NO_SCHEME)]),
    "a title above": (f"My feeds\n\nName,URL\none,{A}\n", [ONE]),
    "titles with dots above": (f"My feeds, 1.1.2026\nfrom reader.example\nName,URL\none,{A}\n", [ONE]),
    "a title called like a column above": (f"Feeds\nName,URL\none,{A}\n", [ONE]),
    "a title above a header that only its addresses show": (f"Blogroll\nTitel;Adresse\none;{A}\n", [ONE]),
    "a fault before the first address": (f"Name,URL\ntwo,b.example\none,{A}\n", [ONE], [(2, NO_SCHEME)]),
    "one column": (f'"url"\n{A},not a name\n', [(A, "")]),
    "rows of several lines": (
        f'url,name\n\n{A},"two\nlines"\nwww.x,"also\ntwo"\n,no address\n , \nwww.y\n',
        [(A, "two lines")],
        [(5, NO_SCHEME), (7, "It is empty."), (9, NO_SCHEME)],
    ),
    "no address in the first 50 rows": (
        lines("Name,Link", *["two,b.example"] * 60, f"one,{A}"),
        [ONE],
        [(number, NO_SCHEME) for number in range(2, 62)],
    ),
    "a column of names that are called URLs": (f"URL,Link\nslug-1,{A}\nslug-2,{B}\n", [A, B]),
    "two columns of one name": (f"url,url,name\n{A},{C},one\n", [ONE]),
}

SEPARATORS = {
    **{
        f"{sign!r}": (f'Name{sign}URL\none{sign}{A}\n"two"{sign}{B}?a{other}b\n', [ONE, (f"{B}?a{other}b", "two")])
        for sign, other in [",;", ";,", "\t;", "|,"]
    },
    **{
        f"sep={sign}": (f"sep={sign}\r\nurl{sign}name\r\n{A}{sign}one\r\n{B}{sign}two\r\n", [ONE, TWO])
        for sign in ",;|\t^"
    },
    **{
        f"{sign!r}, and commas in each address": (
            f"{A}0,15,0.html{sign}one\n{B}0,16,0.html{sign}two\n",
            [(f"{A}0,15,0.html", "one"), (f"{B}0,16,0.html", "two")],
        )
        for sign in ";\t|"
    },
    "a semicolon in one name": (f"{A},one\n{B},two;2\n", [ONE, (B, "two;2")]),
    "blanks behind it": (f'name, url\n"one, more", "{A}"\n', [(A, "one, more")]),
    "the one that gives a column of addresses": (f'"last, first";url\nA;{A}?b,c\n', [f"{A}?b,c"]),
    "sep= in quotes and capitals": (f'"SEP=;"\n\nName;URL\none;{A}\n', [ONE]),
    "sep= without a header": (f"sep=;\n{A};one\n{B};two\n", [ONE, TWO]),
    "sep= with a mark": (f"\ufeffsep=;\r\nurl;name\r\n{A};one\r\n", [ONE]),
    "sep= that is not true": (f"sep=;\nurl,name\n{A},one\n", [ONE]),
}

STRAY_QUOTES = {
    "text after a quote": (f'url,name\n{A},one\n{B},"Bob" Smith\n{C},three\n', [ONE, THREE], [(3, AFTER_QUOTE)]),
    "a quote that is not closed": (f'url,name\n{A},one\n{B},"two\n{C},three\n', [ONE, THREE], [(3, OPEN_QUOTE)]),
    "in the last line": (f'url,name\n{A},one\n{B},"two', [ONE], [(3, OPEN_QUOTE)]),
    "before a quoted name": (
        f'url,name\n{B},"two\n{A},one\n{C},"three"\n',
        [ONE, THREE],
        [(2, OPEN_QUOTE)],
    ),
    "within an inch": (f'url,name\n{B},a 5" disk\n{A},"a 5"" disk"\n', [(B, 'a 5" disk'), (A, 'a 5" disk')]),
    "in each row": (
        lines("url,name", *[f'{B},"two'] * 150, f"{A},one"),
        [ONE],
        [(n, OPEN_QUOTE) for n in range(2, 152)],
    ),
    "in the header": (f'url,"name\n{A},one\n', [ONE], [(1, OPEN_QUOTE)]),
    "a name over two lines": (f'url,name\n{A},"one\r\nmore"\n{B},two\n', [(A, "one more"), TWO]),
}

XML = '<?xml version="1.0" encoding="{}"?>\n'
GREEK = "Ελλάδα"


def csv_of(name):
    return f"url,name\n{A},{name}\n{B},two\n"


def opml_of(name, declared=""):
    return (XML.format(declared) if declared else "") + opml(outline(A, name) + outline(*TWO))


def text_of(path):
    return f"{A}{path}\n{B}\n"


ENCODINGS = {
    "list.csv": {
        **{
            encoding: (csv_of(name).encode(encoding), [(A, name), TWO])
            for encoding, name in [
                *[(encoding, "Größe – “x” €") for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252")],
                *[(encoding, GREEK) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32")],
            ]
        },
        "both": (csv_of("é").encode() + f"{C},é\n".encode("cp1252"), [(A, "é"), TWO, (C, "é")]),
        "far behind the start": (
            (csv_of("one") + f"{B},two\n" * 5_000).encode() + f"{C},é\n".encode("cp1252"),
            [ONE, TWO, (C, "é")],
        ),
        "Unicode text of Excel": (f"Name\tURL\r\n{GREEK}\t{A}\r\n".encode("utf-16"), [(A, GREEK)]),
        "half a character at the end": (csv_of("é").encode("utf-16")[:-1], [(A, "é"), (B, "two\ufffd")]),
    },
    "list.txt": {
        "Unicode text of Excel, as text": (f"Name\tURL\r\n{GREEK}\t{A}\r\n".encode("utf-16"), [(A, GREEK)]),
        "Notepad's ANSI": (text_of("café").encode("cp1252"), [f"{A}caf%C3%A9", B]),
        "half a surrogate pair": (
            text_of("x\ud800").encode("utf-16", "surrogatepass"),
            [B],
            [(1, "It contains bytes that are not UTF-8, or half of a surrogate pair.")],
        ),
    },
    "list.opml": {
        "utf-8 without saying so": (opml_of(GREEK).encode(), [(A, GREEK), TWO]),
        "utf-8 that says Latin-1": (opml_of(GREEK, "iso-8859-1").encode(), [(A, GREEK), TWO]),
        "utf-8 that says UTF-16": (opml_of(GREEK, "utf-16").encode(), [(A, GREEK), TWO]),
        "cp1252 without saying so": (opml_of("Größe €").encode("cp1252"), [(A, "Größe €"), TWO]),
        "cp1252 that says UTF-8": (opml_of("Größe €", "utf-8").encode("cp1252"), [(A, "Größe €"), TWO]),
        "cp1253 that says so": (opml_of(GREEK, "windows-1253").encode("cp1253"), [(A, GREEK), TWO]),
        "Shift JIS that says so": (opml_of("日本", "shift_jis").encode("shift_jis"), [(A, "日本"), TWO]),
        "utf-16 that says so": (opml_of(GREEK, "utf-16").encode("utf-16"), [(A, GREEK), TWO]),
        "utf-16 that says UTF-8": (opml_of(GREEK, "utf-8").encode("utf-16"), [(A, GREEK), TWO]),
        "utf-16 without a mark": (opml_of(GREEK, "utf-16").encode("utf-16-be"), [(A, GREEK), TWO]),
    },
    "list.jsonl": {
        "cp1252": (f'{{"url": "{A}", "name": "Größe"}}\n'.encode("cp1252"), [(A, "Größe")]),
    },
}


def pretty(*objects):
    """As `json.dumps` writes a document for people: an object over several lines."""
    return json.dumps(objects, indent=1)


OBJECTS = {
    **{
        field: (f'{{"{field}": "{A}", "title": "one"}}\n', [ONE])
        for field in ("url", "URL", "xmlUrl", "feed_url", "feedUrl", "rss", "link", "href", "uri", "website", "htmlUrl")
    },
    **{
        field: (f'{{"url": "{A}", "{field}": "one"}}\n', [ONE])
        for field in ("name", "title", "text", "label", "feed_title", "channelTitle")
    },
    "the best of several": (f'{{"site_url": "{C}", "feed_url": "{A}", "id": 5, "title": "one"}}\n', [ONE]),
    "our own exports": (f'{{"url": "{A}", "name": "one", "feed_url": "{C}"}}\n', [ONE]),
    "a name with what a terminal or a database rejects": (
        json.dumps({"url": A, "name": "\x1b[31mred\x00 \x9b \ud800"}),
        [(A, "[31mred \ufffd")],
    ),
    "a field of another type": (f'{{"url": 5, "link": "{A}", "name": ["x"], "title": "one"}}\n', [ONE]),
}
DOCUMENTS = {
    "an array of strings": (f'["{A}", "{B}"]', [A, B]),
    "an array over several lines": (f'[\n"{A}",\n"{B}"\n]\n', [A, B]),
    "an array of objects": (pretty({"feed_url": A, "title": "one"}, {"url": B, "name": "two"}), [ONE, TWO]),
    "arrays, one a line": (f'["{A}"]\n["{B}", "{C}"]\n', ABC),
    "arrays in arrays": (f'[["{A}", ["{B}"]], "{C}"]', ABC),
    "an object around an array": (f'{{"version": 1, "feeds": [{{"url": "{A}", "name": "one"}}]}}', [ONE]),
    "objects around arrays": (
        json.dumps({"app": {"name": "x", "tags": ["y"]}, "data": {"list": [{"url": A}], "more": [B]}}, indent=1),
        [A, B],
    ),
    "folders": (json.dumps([{"label": "x", "feeds": [{"url": A}]}, {"label": "y", "feeds": [{"url": B}]}]), [A, B]),
    "one object": (json.dumps({"url": A, "name": "one"}, indent=1), [ONE]),
    "objects over several lines": (f'{{\n"url": "{A}"\n}}\n{{\n"url": "{B}"\n}}\n', [A, B]),
    "blank lines first": (f'\n\n[\n"{A}"\n]', [A]),
    "a comma too many": (f'[\n{{"url": "{A}"}},\n{{"url": "{B}"}},\n]', [A, B]),
    "a comma too few": (f'[\n{{"url": "{A}"}}\n{{"url": "{B}"}}\n]', [A, B]),
    "no end": (f'[\n{{"url": "{A}"}},\n{{"url": "{B}"', [A], [(3, NOT_JSON)]),
    "an object with a fault": (
        f'[\n{{"url": "{A}",\n"name": "one"}},\n{{"url": "{B}"\n"name": "two"}},\n{{"url": "{C}",\n"name": "three"}}]',
        [ONE, THREE],
        [(4, NOT_JSON)],
    ),
    "a quote that is not closed": (f'[\n"{A}",\n"{B},\n"{C}"\n]', [A, C], [(3, NOT_JSON)]),
    "strings behind an object with a fault": (f'[\n{{"url": "{B}",,\n"{A}",\n"{C}"]', [A, C], [(2, NOT_JSON)]),
    "no bracket before the next object": (f'[\n{{"url": "{B}", \n {{"url": "{C}"}}]', [C], [(2, NOT_JSON)]),
    "a line with a fault": (f'[\n"{A}",\nb.example,\n"{C}"\n]', [A, C], [(3, NOT_JSON)]),
    "values that are not addresses": (
        pretty({"url": A}, {"url": "b.example"}, {"name": "three"}, 5, None, {"url": C}),
        [A, C],
        [(6, NO_SCHEME), (8, NOT_AN_ENTRY), (11, NOT_AN_ENTRY), (12, NOT_AN_ENTRY)],
    ),
    "faults within an object around them": (
        json.dumps({"feeds": [{"url": "a.example"}, {"url": A}, {"url": "c.example"}]}, indent=1),
        [A],
        [(4, NO_SCHEME), (10, NO_SCHEME)],
    ),
    "written with escapes": (
        json.dumps({"feeds": [{"url": A}, {"url": "b.example"}]}, indent=1).replace("/", "\\/"),
        [A],
        [(7, NO_SCHEME)],
    ),
}

KINDS = [
    ("text", "list.txt", {"blank lines and comments": (f"# my list\n\n{A}\n   \n  # more\n\t{B} \n", [A, B])}),
    ("OPML with a slip", "list.opml", SLIPS),
    ("attributes", "list.opml", FIELDS),
    ("columns", "list.csv", COLUMNS),
    ("separators", "list.csv", SEPARATORS),
    ("stray quotes", "list.csv", STRAY_QUOTES),
    *(("encodings", filename, table) for filename, table in ENCODINGS.items()),
    ("fields", "list.jsonl", OBJECTS),
    ("documents", "list.json", DOCUMENTS),
]


@pytest.mark.parametrize(
    ("filename", "case"),
    [
        pytest.param(filename, case, id=f"{kind}, {filename}: {label!r}")
        for kind, filename, table in KINDS
        for label, case in table.items()
    ],
)
def test_a_list_gives_the_intended_profiles_and_no_line_vanishes(filename, case):
    content, profiles, rejects = (*case, ())[:3]
    result = read_profiles(as_bytes(content), filename=filename)
    found = result.profiles if isinstance(profiles[0], str) else result.profiles.items()
    assert list(found) == profiles
    assert [(reject.line, reject.reason) for reject in result.rejects] == [*rejects]


# Equal results by other means


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 64])
def test_the_border_of_two_pieces_may_be_anywhere(piece, monkeypatch):
    cases = [(filename, case[0]) for _, filename, table in KINDS for case in table.values() if filename != "list.csv"]
    whole = [read_profiles(as_bytes(content), filename=filename) for filename, content in cases]
    monkeypatch.setattr(source, "PIECE", piece)
    for (filename, content), expected in zip(cases, whole, strict=True):
        assert read_profiles(as_bytes(content), filename=filename) == expected, content


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))
attributes = st.dictionaries(st.sampled_from(["text", "title", "type", "description", "category"]), texts)
trees = st.recursive(
    st.tuples(attributes, st.sampled_from([None, f"{A}?a=1&b=<2>", B, C])).map(lambda drawn: (*drawn, [])),
    lambda inner: st.tuples(attributes, st.none(), st.lists(inner, max_size=3)),
    max_leaves=10,
)


def build(parent, tree):
    values, url, children = tree
    element = etree.SubElement(parent, "outline", values | ({"xmlUrl": url} if url else {}))
    element.text = "<outline xmlUrl='https://text.example/'/>"
    parent.append(etree.Comment(" <outline xmlUrl='https://comment.example/'/> "))
    for child in children:
        build(element, child)


@settings(max_examples=100)
@given(st.lists(trees, min_size=1, max_size=3), st.sampled_from(["utf-8", "us-ascii", "utf-16", "koi8-r"]))
def test_well_formed_opml_gives_what_an_xml_parser_reads(trees, encoding):
    root = etree.Element("opml")
    body = etree.SubElement(root, "body")
    etree.SubElement(body, "outline", xmlUrl="https://first.example/")
    for tree in trees:
        build(body, tree)
    found = {}
    for element in root.iter("outline"):
        if url := element.get("xmlUrl"):
            name = (element.get("title") or "").strip() or element.get("text") or ""
            found[normalise_address(url)] = found.get(normalise_address(url)) or clean_line(name, MAX_NAME)
    content = etree.tostring(root, encoding=encoding, xml_declaration=True)
    result = read_profiles(content, filename="list.opml", strict=True)
    assert result.profiles == found
