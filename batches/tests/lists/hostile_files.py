"""Files that nobody should upload and somebody will, each with the addresses that a batch of it has.

What a file makes is said by hand, and not worked out by anything that reads lists.
"""

import codecs
import gzip
import io
import sqlite3
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

A, B, C = ALL = ("https://a.example/", "https://b.example/", "https://c.example/")
#: The file is refused as a whole.
REFUSED = ()


class HostileFile(NamedTuple):
    """`urls` are those of the batch that it makes, in their order; none where it makes no batch."""

    label: str
    name: str
    content: bytes
    urls: tuple[str, ...]
    #: Its name may keep a door from taking it at all.
    may_be_refused: bool = False


Described = tuple[str, str | bytes, tuple[str, ...]]


@cache
def hostile_files() -> tuple[HostileFile, ...]:
    return tuple(_all())


def _all() -> Iterator[HostileFile]:
    for name, families in FAMILIES.items():
        for family in families:
            for label, content, urls in family():
                described = f"{name.removeprefix('list.')}: {label}"
                yield HostileFile(described, name, as_bytes(content), tuple(urls))
    yield from encoded()
    yield from misnamed()
    yield from with_bad_names()


def as_bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")


# -- Encodings ---------------------------------------------------------------------------------------------------------

NAMED = {
    "list.txt": "# {name}\n{a}\n{b}\n{c}\n",
    "list.csv": "url,name\n{a},{name}\n{b},two\n{c},three\n",
    "list.jsonl": '{{"url": "{a}", "name": "{name}"}}\n"{b}"\n{{"url": "{c}"}}\n',
    "list.opml": '<opml><body><outline text="{name}" xmlUrl="{a}"/>\n<outline xmlUrl="{b}"/>\n'
    '<outline xmlUrl="{c}"/></body></opml>\n',
}
#: The encoding, the name that is written in it, and what comes of text, CSV, JSON Lines and OPML. A name that is not
#: UTF-8 is spoilt and its address is not, unless more than a tenth of the list is; XML that does not say its encoding
#: is broken by it. XML in UTF-32 is read without a mark too, which the standard asks for.
ENCODINGS = [
    ("utf-8", "Größe", ALL, ALL, ALL, ALL),
    ("utf-8-sig", "Größe", ALL, ALL, ALL, ALL),
    ("utf-16", "Größe", REFUSED, REFUSED, REFUSED, REFUSED),
    ("utf-16-le", "Größe", REFUSED, REFUSED, REFUSED, REFUSED),
    ("utf-16-be", "Größe", REFUSED, REFUSED, REFUSED, REFUSED),
    ("utf-32", "Größe", REFUSED, REFUSED, REFUSED, REFUSED),
    ("utf-32-le", "Größe", REFUSED, REFUSED, REFUSED, ALL),
    ("utf-32-be", "Größe", REFUSED, REFUSED, REFUSED, REFUSED),
    ("latin-1", "Größe", ALL, ALL, ALL, REFUSED),
    ("cp1252", "„Größe“ 5 €", ALL, ALL, ALL, REFUSED),
    ("cp1251", "Новости", REFUSED, ALL, ALL, REFUSED),
    ("shift-jis", "新着", ALL, ALL, ALL, REFUSED),
    ("gb18030", "新闻", ALL, ALL, ALL, REFUSED),
    ("mac-roman", "Größe", ALL, ALL, ALL, REFUSED),
    ("cp037", "Größe", REFUSED, REFUSED, REFUSED, REFUSED),
    ("utf-7", "Größe", ALL, ALL, ALL, ALL),
]


def encoded() -> Iterator[HostileFile]:
    for encoding, name, *outcomes in ENCODINGS:
        for (filename, written), urls in zip(NAMED.items(), outcomes, strict=True):
            content = written.format(a=A, b=B, c=C, name=name).encode(encoding)
            yield HostileFile(f"{filename} in {encoding}", filename, content, urls)
    big_endian = codecs.BOM_UTF16_BE + "\n".join(ALL).encode("utf-16-be")
    yield HostileFile("UTF-16 with its big-endian mark", "list.txt", big_endian, REFUSED)


# -- Plain text --------------------------------------------------------------------------------------------------------

BYTES = {
    "an overlong slash": b"\xc0\xaf",
    "an overlong NUL": b"\xc0\x80",
    "a surrogate in UTF-8": b"\xed\xa0\x80",
    "a pair of surrogates in UTF-8 (CESU-8)": b"\xed\xa0\xbd\xed\xb8\x80",
    "a code point beyond Unicode": b"\xf4\x90\x80\x80",
    "a byte that never is UTF-8": b"\xff",
    "a sequence that is cut off": b"\xe2\x82",
    "a continuation without a beginning": b"\x80",
}
CONTROLS = {
    "NUL": "\0", "backspace": "\b", "bell": "\a", "vertical tab": "\v", "form feed": "\f", "escape": "\x1b[2J",
    "unit separator": "\x1f", "delete": "\x7f", "next line": "\x85", "C1 sequence": "\x9b2J",
    "line separator": "\u2028", "paragraph separator": "\u2029", "no-break space": "\xa0", "space": " ",
}  # fmt: skip
#: In a path they are what they are: percent-encoded, so that nobody is deceived.
INVISIBLE = {
    "right-to-left mark": "\u200f", "right-to-left override": "\u202e", "isolate": "\u2066",
    "zero-width space": "\u200b", "zero-width joiner": "\u200d", "mark within": "\ufeff", "soft hyphen": "\xad",
    "not a character": "\ufffe",
    "tag": "\U000e0041", "emoji": "😀", "combining": "a\u0301\u0327",
}  # fmt: skip
EIGHT_THOUSAND = "x" * 8_000


def lines(*addresses: str, end: str = "\n") -> str:
    return "".join(address + end for address in addresses)


def broken_bytes() -> Iterator[Described]:
    for label, spoilt in BYTES.items():
        yield f"{label} in an address", as_bytes(f"{A}\n{B}") + spoilt + as_bytes(f"x\n{C}\n"), (A, C)


def controls_in_addresses() -> Iterator[Described]:
    for label, character in CONTROLS.items():
        yield f"{label} within an address", lines(A, f"{B}x{character}y", C), (A, C)


def invisible_in_addresses() -> Iterator[Described]:
    for label, character in INVISIBLE.items():
        yield f"{label} in a path", lines(A, f"{B}x{character}y", C), (A, f"{B}x{quote(character)}y", C)


def nul_in_text() -> Iterator[Described]:
    yield "NUL at the beginning", "\0" + lines(*ALL), (B, C)
    yield "NUL on a line of its own", lines(A, "\0", B), (A, B)
    yield "NUL at the end", lines(*ALL) + "\0", ALL
    yield "NUL before each line end", lines(*ALL, end="\0\n"), REFUSED
    yield "NUL in a remark", lines("# \0", *ALL), ALL
    yield "nothing but NUL", "\0" * 5_000, REFUSED
    yield "NUL after the first 64 KB", lines(A, *["#"] * 40_000, "\0" * 500, C), (A, C)


def line_ends() -> Iterator[Described]:
    for label, end in {"CR": "\r", "CR LF": "\r\n", "LF CR": "\n\r", "CR CR LF": "\r\r\n", "blanks": " \t \n"}.items():
        yield f"{label} at each line's end", lines(*ALL, end=end), ALL
    yield "every line end mixed", f"{A}\r\n{B}\r{C}\n", ALL
    yield "no end at the last line", "\n".join(ALL), ALL
    yield "next line (U+0085) as line end", lines(*ALL, end="\x85"), REFUSED
    yield "line separator (U+2028) as line end", lines(*ALL, end="\u2028"), REFUSED
    yield "form feed as line end", lines(*ALL, end="\f"), REFUSED
    yield "no line ends at all", "".join(ALL), (f"{A}{B}{C}",)
    yield "blank lines only", "\n \r\n\t\r", REFUSED
    yield "the mark on each line", lines(*("\ufeff" + url for url in ALL)), ALL
    yield "100,000 blank lines between", A + "\n" * 100_000 + B, (A, B)


def addresses() -> Iterator[Described]:
    for address in (
        "javascript:alert(1)", "data:text/html,<script>", "file:///etc/passwd", "ftp://b.example/", "//b.example/",
        "b.example", "https://", "https:///b", "https://user:password@b.example/", "https://b.example:99999/",
        "https://[::1", "https://b.example\\@evil.example/", "https://0x7f.1/", "https://b..example/",
        "https://b\u202e.example/", "' OR 1=1 --", "<script>alert(1)</script>", "{{ 7*7 }}",
        "=cmd|' /C calc'!A0", "$(rm -rf /)", "%00", "ſhttps://b.example/", "https://b.example/" + EIGHT_THOUSAND,
    ):  # fmt: skip
        yield f"{address[:40]!r}", lines(A, address, C), (A, C)
    yield (
        "100 spellings of one address",
        lines(*(f"HTTPS://A.EXAMPLE:443/./#{number}" for number in range(100))),
        (A,),
    )
    yield "a host whose hidden characters are ignored", lines("https://b.ex\u200bam\xadple/"), (B,)
    yield "full-width letters in a host", lines("https://ｂ.example/"), (B,)
    yield "1 line of 10 MB", lines(A, "https://b.example/" + "x" * 10_000_000, C), (A, C)
    yield "nothing but 1 line of 10 MB", "x" * 10_000_000, REFUSED
    yield "empty", "", REFUSED
    yield "the mark only", codecs.BOM_UTF8, REFUSED
    yield "remarks only", "# one\n# two\n", REFUSED
    yield "nonsense only", "one\ntwo\n", REFUSED


# -- CSV ---------------------------------------------------------------------------------------------------------------


def table(header: str = "url,name", *, delimiter: str = ",") -> str:
    return lines(header, *(f"{url}{delimiter}a name" for url in ALL))


def names_in_csv() -> Iterator[Described]:
    for label, character in {**CONTROLS, **INVISIBLE}.items():
        yield f"{label} in a name", f"url,name\n{A},x{character}y\n{B},\n", (A, B)
    for label, spoilt in BYTES.items():
        yield f"{label} in a name", as_bytes(f"url,name,{'-' * 40}\n{A},") + spoilt + as_bytes(f"\n{B},\n"), (A, B)
    yield "a name of 100,000 characters", f"url,name\n{A},{'n' * 100_000}\n", (A,)
    yield "formulas as names", f"url,name\n{A},=1+1\n{B},@SUM(A1)\n", (A, B)


def quotes() -> Iterator[Described]:
    yield "a quote that is never closed", f'url,name\n{A},"one\n{B},two\n', REFUSED
    yield "a quote that is never closed in the last line", f'url,name\n{A},one\n{B},"two', REFUSED
    yield "a quote that is never closed in the header", f'url,"name\n{A},one\n', REFUSED
    yield "a quote that is never closed before 10 MB", f'url,name\n{A},"' + "x\n" * 5_000_000, REFUSED
    yield "text behind a quote", f'url,name\n{A},"one"1\n', REFUSED
    yield "doubled quotes", f'url,name\n{A},"one ""and"" a half"\n{B},""""""\n', (A, B)
    yield "quotes within a field", f'url,name\n{A},one "and" a half\n', (A,)
    yield "all quoted", f'"url","name"\n"{A}","one"\n"{B}","two"\n', (A, B)
    yield "single quotes", f"'url','name'\n'{A}','one'\n", REFUSED
    yield "typographic quotes", f"“url”,“name”\n“{A}”,“one”\n", REFUSED
    yield "line ends within quotes", f'url,name\n{A},"one\r\ntwo\rthree\nfour"\n{B},\n', (A, B)
    yield "a line end within a quoted address", f'url,name\n"{A}\nx",one\n{B},two\n', (B,)
    yield "backslash before a quote", f'url,name\n{A},"one\\""\n{B},two\n', REFUSED


def delimiters() -> Iterator[Described]:
    yield "semicolons", table("url;name", delimiter=";"), ALL
    yield "tabs", table("url\tname", delimiter="\t"), ALL
    yield "bars", table("url|name", delimiter="|"), REFUSED
    yield "a header with commas above semicolons", table("url,name", delimiter=";"), REFUSED
    yield "Excel's sep= line", "sep=;\n" + table("url;name", delimiter=";"), REFUSED
    yield "blanks around", table(" url ,  name ", delimiter=" , "), ALL


def headers() -> Iterator[Described]:
    for header in ("URL,Name", "Url,NAME", '"url","name"', " url , name ", "\ufeffurl,name", '\ufeff"url",name', "url"):
        yield f"header {header!r}", table(header), ALL
    for header in (
        "link,title",
        "urls,name",
        "u rl,name",
        "u\0rl,name",
        "ｕｒｌ,name",
        "",
        "адрес,имя",
        "url\u200b,name",
    ):
        yield f"header {header!r}", table(header), REFUSED
    yield "two columns url", lines("url,url", f"{A},{B}", f"{B},{C}"), (A, B)
    yield "the url last", lines("x,y,name,url", f"1,2,3,{A}", f"1,2,3,{B}"), (A, B)
    yield "blank lines before the header", "\n\r\n \n" + table(), ALL
    yield "the header twice", "url,name\n" + table(), ALL
    yield "the header only", "url,name\n", REFUSED
    yield "no header", lines(*ALL), REFUSED
    yield "CR only", table().replace("\n", "\r"), ALL


def columns() -> Iterator[Described]:
    yield "rows too short", lines("name,url", f"one,{A}", "two", ",", f"three,{C}"), (A, C)
    yield "rows too long", lines("url,name", f"{A},one,two,three", f"{B}" + "," * 500), (A, B)
    yield "100,000 columns", lines("url" + ",x" * 99_999, A + ",1" * 99_999, B), (A, B)
    yield "600,000 columns", lines("url,name", A + ",x" * 600_000), REFUSED
    yield "a field of 10 MB", lines("url,name", A + "," + "x" * 10_000_000), REFUSED
    yield "rows of commas", lines("url,name", *["," * 50] * 1_000, A), (A,)


# -- JSON Lines --------------------------------------------------------------------------------------------------------


def json_values() -> Iterator[Described]:
    for written in (
        "NaN", "Infinity", "-Infinity", "1e999", "1" * 5_001, "-1", "0.1", "true", "null", "{}", "[]", f'["{A}"]',
        '{"url": null}', '{"url": 5}', '{"url": NaN}', '{"url": []}', '{"url": {"url": "@"}}', '{"url": true}',
        '{"URL": "@"}', '{"__proto__": {"url": "@"}}', '{"constructor": {"prototype": 1}}', '{"": ""}',
        '"\\ud800"', '"https://b.example/\\udc00"', '"https://b.example/\\u0000"', '{"url": "https://b.ex\\u202eample/"}',
        '{"url": "@",}', "{'url': '@'}", "{url: 1}", '"@" // remark', '"@"\x00', '{"url": "@"',
        '"unclosed', '\ufeff"@"', '"https://b.example/\ttab"', "undefined", "\\", '{"url": "javascript:alert(1)"}',
    ):  # fmt: skip
        value = written.replace("@", B)
        yield f"{value[:40]!r}", lines(f'"{A}"', value, f'"{C}"'), (A, C)
    for label, value in {
        "an array 10,000 deep": "[" * 10_000 + "]" * 10_000,
        "an array 100,000 deep": "[" * 100_000,
        "objects 10,000 deep": '{"url":' * 10_000 + "1" + "}" * 10_000,
        "a line of 10 MB": '{"url": "' + "x" * 10_000_000 + '"}',
        "100,000 keys": "{" + ",".join(f'"{number}":1' for number in range(100_000)) + "}",
    }.items():
        yield label, lines(f'"{A}"', value, f'"{C}"'), (A, C)
        yield f"{label}, first", lines(value, f'"{C}"'), REFUSED if "deep" in label or "10 MB" in label else (C,)


def entry(more: str) -> str:
    return f'{{"url": "{A}", {more}}}'


def json_objects() -> Iterator[Described]:
    yield "a key twice: the last counts", lines('{"url": "https://a.example/", "url": "https://b.example/"}'), (B,)
    yield "__proto__ beside the address", lines(entry('"__proto__": {"x": 1}')), (A,)
    yield "a huge integer beside the address", lines(entry(f'"n": {"9" * 4_000}')), (A,)
    yield (
        "names of other types",
        lines(*(entry(f'"name": {value}') for value in ("5", "[]", "null"))),
        (A,),
    )
    for name in ("\\u0000", "\\ud800", "\\ud83d\\ude00", "\\u001b[2J", "\\u2028", "\\u202e", "\\n", "</script>"):
        yield f"{name} in a name", lines(entry(f'"name": "x{name}y"')), (A,)
    yield "one array for all", f'["{A}", "{B}"]', REFUSED
    yield "one array for all over several lines", f'[\n"{A}",\n"{B}"\n]', REFUSED
    yield "an object over several lines", f'{{\n"url": "{A}"\n}}', REFUSED
    yield "CR only", lines(*(f'"{url}"' for url in ALL), end="\r"), ALL
    yield "record separators (RFC 7464)", lines(*(f'\x1e"{url}"' for url in ALL)), REFUSED
    yield "escapes for every letter", '"' + "".join(f"\\u{ord(letter):04x}" for letter in A) + '"\n', (A,)
    yield "two values on a line", f'"{A}"\n"{B}" "{C}"\n', (A,)


# -- OPML --------------------------------------------------------------------------------------------------------------


def outlines(*urls: str) -> str:
    return "".join(f'<outline xmlUrl="{url}"/>\n' for url in urls)


def opml(inner: str, before: str = "") -> str:
    return f"{before}<opml><body>{inner}</body></opml>"


def laughs(count: int) -> str:
    declared = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, count))
    return f'<!DOCTYPE opml [<!ENTITY e0 "ha">{declared}]>'


def document_types() -> Iterator[Described]:
    yield "a DOCTYPE without a subset", opml(outlines(*ALL), "<!DOCTYPE opml>"), ALL
    yield "a DTD elsewhere", opml(outlines(A), '<!DOCTYPE opml SYSTEM "http://127.0.0.1:1/x.dtd">'), (A,)
    yield "a DTD on the disk", opml(outlines(A), '<!DOCTYPE opml SYSTEM "file:///etc/passwd">'), (A,)
    yield "an entity", opml(outlines("&x;"), f'<!DOCTYPE opml [<!ENTITY x "{A}">]>'), REFUSED
    for target in ("file:///etc/passwd", "http://127.0.0.1:1/", "php://filter/x", "expect://id", "../../secret"):
        inner = outlines(A) + '<outline text="&x;"/>&x;'
        yield f"an entity of {target}", opml(inner, f'<!DOCTYPE opml [<!ENTITY x SYSTEM "{target}">]>'), REFUSED
    parameter = '<!DOCTYPE opml [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]>'
    yield "a parameter entity", opml(outlines(A), parameter), REFUSED
    yield "a billion laughs", opml(outlines(A) + "&e9;", laughs(10)), REFUSED
    yield "a billion laughs in an attribute", opml('<outline xmlUrl="https://a.example/&e9;"/>', laughs(10)), REFUSED
    yield "a billion billion laughs", opml('<outline text="&e29;"/>', laughs(30)), REFUSED
    quadratic = f'<!DOCTYPE opml [<!ENTITY x "{"x" * 50_000}">]>'
    yield "quadratic growth", opml("&x;" * 5_000, quadratic), REFUSED
    yield "an entity of itself", opml("&x;", '<!DOCTYPE opml [<!ENTITY x "&x;">]>'), REFUSED
    declared = "".join(f"<!ATTLIST x a{number} CDATA #IMPLIED>" for number in range(40_000))
    yield "40,000 declarations", opml(outlines(A), f"<!DOCTYPE opml [{declared}]>"), REFUSED
    yield "64 KB before the root", opml(outlines(A), f"<!--{' ' * 70_000}-->"), REFUSED
    attribute = f'<!DOCTYPE opml [<!ATTLIST outline xmlUrl CDATA "{B}">]>'
    yield "a default for an attribute", opml("<outline/>" + outlines(A), attribute), (A,)


def structure() -> Iterator[Described]:
    for root in ("rss", "feed", "html", "svg", "xml", "urlset"):
        yield f"the root {root}", f"<{root}>{outlines(A)}</{root}>", REFUSED
    yield "OPML within another root", f"<x>{opml(outlines(A))}</x>", REFUSED
    yield "nested 200 deep", opml('<outline text="x">' * 200 + outlines(A) + "</outline>" * 200), (A,)
    yield "nested 10,000 deep", opml("<outline>" * 10_000 + outlines(A) + "</outline>" * 10_000), REFUSED
    yield "never closed", "<opml><body>" + outlines(*ALL), REFUSED
    yield "cut within a tag", opml(outlines(*ALL))[:-30], REFUSED
    yield "two documents", opml(outlines(A)) * 2, REFUSED
    yield "text behind the end", opml(outlines(A)) + "more", REFUSED
    yield "blanks before the declaration", ' <?xml version="1.0"?>' + opml(outlines(A)), REFUSED
    yield "an attribute twice", opml(f'<outline xmlUrl="{A}" xmlUrl="{B}"/>'), REFUSED
    yield "an attribute in two cases", opml(f'<outline xmlUrl="{A}" xmlurl="{B}"/>'), (B,)
    yield "a bare ampersand", opml(outlines("https://a.example/?x=1&y=2")), REFUSED
    yield "an unknown entity", opml('<outline text="&nbsp;"/>' + outlines(A)), REFUSED
    yield "CDATA", opml(f"<![CDATA[{outlines(A)}]]>{outlines(B)}"), (B,)
    yield "CDATA that is never closed", opml(f"<![CDATA[{outlines(A)}"), REFUSED
    yield "a remark before the root", opml(outlines(*ALL), "<!-- made by a reader -->\n"), ALL
    yield "a remark", opml(f"<!-- {outlines(A)} -->{outlines(B)}"), (B,)
    yield "an instruction", opml(f"<?php system('id') ?>{outlines(B)}"), (B,)
    yield "a style sheet", opml(outlines(B), '<?xml-stylesheet href="http://127.0.0.1:1/x.xsl"?>'), (B,)
    yield (
        "an inclusion",
        opml('<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'),
        REFUSED,
    )
    yield "a name space", f'<o:opml xmlns:o="urn:o"><o:outline xmlUrl="{A}"/></o:opml>', (A,)
    yield "no outline", opml('<outline text="a folder"/>'), REFUSED
    yield (
        "40,000 attributes",
        opml("<outline " + " ".join(f'a{n}="1"' for n in range(40_000)) + f' xmlUrl="{A}"/>'),
        (A,),
    )
    yield "an attribute of 11 MB", opml(f'<outline text="{"x" * 11_000_000}" xmlUrl="{A}"/>'), REFUSED


def characters() -> Iterator[Described]:
    for number in (0, 1, 0x1B, 0xD800, 0xFFFE, 0x110000, 10**20):
        yield f"&#{number};", opml(f'<outline text="x&#{number};y" xmlUrl="{A}"/>'), REFUSED
    yield "&#x202e;", opml(f'<outline text="x&#x202e;y" xmlUrl="{A}"/>'), (A,)
    yield "NUL", opml(f'<outline text="x\0y" xmlUrl="{A}"/>'), REFUSED
    yield "escape", opml(f'<outline text="x\x1by" xmlUrl="{A}"/>'), REFUSED
    yield "a surrogate in UTF-8", opml(f'<outline text="x\ud800y" xmlUrl="{A}"/>'), REFUSED
    yield "markup in a name", opml(f'<outline text="&lt;script&gt;" xmlUrl="{A}"/>'), (A,)
    for declared in ("utf-16", "utf-32", "klingon", "ebcdic-cp-us", "latin-1", ""):
        before = f'<?xml version="1.0" encoding="{declared}"?>'
        yield f"declared as {declared}", opml(outlines(A), before), REFUSED
    for declared in ("iso-8859-1", "windows-1252", "us-ascii", "utf-7", "utf-8"):
        before = f'<?xml version="1.0" encoding="{declared}"?>'
        yield f"declared as {declared}", opml(outlines(A), before), (A,)
    latin = '<?xml version="1.0" encoding="iso-8859-1"?>' + opml(f'<outline text="Größe" xmlUrl="{A}"/>')
    yield "Latin-1 that says so", latin.encode("latin-1"), (A,)
    yield "UTF-8 that is not", opml(f'<outline text="Größe" xmlUrl="{A}"/>').encode("latin-1"), REFUSED


FAMILIES = {
    "list.txt": [broken_bytes, controls_in_addresses, invisible_in_addresses, nul_in_text, line_ends, addresses],
    "list.csv": [names_in_csv, quotes, delimiters, headers, columns],
    "list.jsonl": [json_values, json_objects],
    "list.opml": [document_types, structure, characters],
}


# -- Other files by these names, and names that hurt -------------------------------------------------------------------


def archive(*members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        for member in members:
            written.writestr(member, lines(*ALL) * 100)
    return file.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE list (url)")
    content = connection.serialize()
    connection.close()
    return content


OTHERS = {
    "a ZIP archive": archive("list.txt"),
    "a ZIP archive that climbs out": archive("../../../etc/cron.d/x"),
    "a workbook": archive("[Content_Types].xml", "xl/workbook.xml"),
    "gzip": gzip.compress(as_bytes(lines(*ALL) * 100)),
    "a gzip bomb": gzip.compress(bytes(10_000_000)),
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x01\x00\x08\x06\x00\x00\x00\\r\xa8f",
    "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + bytes(range(256)) * 40,
    "HTML": b"<!DOCTYPE html>\n<html><body><a href='https://a.example/'>one</a><br></body></html>\n",
    "a database": database(),
    "an executable": b"\x7fELF\x02\x01\x01" + bytes(9) + Path(sys.executable).read_bytes()[16:100_000],
    "an executable of Windows": b"MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" + bytes(500),
    "a pickle": b"\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x94\x8c\x02id\x94\x85R.",
    "a shell script": b"#!/bin/sh\nrm -rf /\n",
    "YAML": b"- !!python/object/apply:os.system ['id']\n- url: x\n",
}  # fmt: skip


def misnamed() -> Iterator[HostileFile]:
    for label, content in OTHERS.items():
        for name in NAMED:
            yield HostileFile(f"{label} as {name}", name, content, REFUSED)


BAD_NAMES = [
    "../../../etc/passwd", "..\\..\\windows\\system32\\config", "/etc/passwd", "C:\\list.txt", "..", ".", "...", "",
    " ", "\0", "list\0.csv", "list.csv\0.txt", "x" * 5_000, "y" * 5_000 + ".txt", "<script>alert(1)</script>.txt",
    "\"><img src=x onerror=alert(1)>.txt", "list\u202etxt.exe", "list.txt\u200b", "CON", "NUL.txt", "AUX", "COM1.txt",
    "list.txt:stream", "list\r\nX-Injected: 1.txt", "list;.txt", "'; DROP TABLE batches_batch; --.txt", "$(id).txt",
    "`id`.txt", "%00.txt", "%2e%2e%2fx", "-rf", "--help", "~root/.ssh/x", "список.txt", "😀.txt", "\ud800.txt",
    "a" + "\u0301" * 300,
    ".txt", "list.", "list.exe", "list.txt.gz", "list.TXT", "{{ 7*7 }}.txt", "%s%s%n.txt", "=1+1.txt", "|id", "*",
]  # fmt: skip


def with_bad_names() -> Iterator[HostileFile]:
    for name in BAD_NAMES:
        yield HostileFile(f"named {name[:40]!r}", name, as_bytes(lines(*ALL)), ALL, may_be_refused=True)
