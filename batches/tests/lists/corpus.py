"""Unusual and hostile files, each with the expected result.

The expected addresses are written out, not computed by anything that reads lists.
"""

import gzip
import io
import random
import sys
import zipfile
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

A, B, C = ALL = ("https://a.example/", "https://b.example/", "https://c.example/")

# Why a list is refused.
EMPTY = "The list is empty. Add at least one URL."
NOT_UTF8 = "The list is not in UTF-8; save it as UTF-8."
BINARY = "This is a binary file, not a list of addresses."
ARCHIVE = "This is a workbook or a ZIP archive; save the sheet with the addresses as CSV in UTF-8."
NO_ADDRESS = "The list has no valid address (line "
NO_COLUMN = 'No column contains addresses; name one "url" in the first line, instead of: '
TOO_MANY = "More than 100,000 entries are not valid (line 2: It opens a quote that is never closed; "
NOT_JSON = "This is not JSON; write an array of entries, or one JSON object or string a line."
NO_ROOT = "This is not OPML: it does not contain <opml>."
NOT_OPML = "This is XML but not OPML: it starts with <"


class ListFile(NamedTuple):
    """`outcome` is the addresses of the batch that the file makes, in their order, or else what its refusal says."""

    label: str
    name: str
    content: bytes
    outcome: tuple[str, ...] | str
    #: Its name may keep a channel from accepting it.
    has_bad_name: bool = False

    @property
    def urls(self) -> tuple[str, ...]:
        return self.outcome if isinstance(self.outcome, tuple) else ()


Case = tuple[str, str | bytes, tuple[str, ...] | str]


@cache
def list_files() -> tuple[ListFile, ...]:
    described = (
        ListFile(f"{name}: {label}", name, as_bytes(content), outcome)
        for name, families in FAMILIES.items()
        for label, content, outcome in chain.from_iterable(family() for family in families)
    )
    return (*described, *encoded(), *misnamed(), *badly_named())


def as_bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")


def lines(*addresses: str, end: str = "\n") -> str:
    return "".join(address + end for address in addresses)


# -- Encodings ---------------------------------------------------------------------------------------------------------

#: A list of ALL in each format, with a name where the format has names.
WRITTEN = {
    "list.txt": "# {name}\n{a}\n{b}\n{c}\n",
    "list.csv": "url,name\n{a},{name}\n{b},two\n{c},three\n",
    "list.jsonl": '{{"url": "{a}", "name": "{name}"}}\n"{b}"\n{{"url": "{c}"}}\n',
    "list.opml": '<opml><body><outline text="{name}" xmlUrl="{a}"/>\n<outline xmlUrl="{b}"/>\n'
    '<outline xmlUrl="{c}"/></body></opml>\n',
}
#: An encoding, the name written in it, and what comes of text, CSV, JSON Lines and OPML. Bytes that are not UTF-8 are
#: read as Windows-1252, unless they are more than a tenth of the list. XML in UTF-32 is read without a mark too, which
#: the standard asks for.
ENCODINGS = [
    ("utf-8", "Größe", ALL, ALL, ALL, ALL),
    ("utf-8-sig", "Größe", ALL, ALL, ALL, ALL),
    *((f"utf-16{end}", "Größe", ALL, ALL, ALL, ALL) for end in ("", "-le", "-be")),
    ("utf-32", "Größe", ALL, ALL, ALL, ALL),
    *((f"utf-32-{end}", "Größe", BINARY, BINARY, BINARY, ALL) for end in ("le", "be")),
    ("latin-1", "Größe", ALL, ALL, ALL, ALL),
    ("cp1251", "Новости", NOT_UTF8, ALL, ALL, ALL),
    ("gb18030", "新闻", ALL, ALL, ALL, ALL),
    ("cp037", "Größe", NOT_UTF8, NOT_UTF8, NOT_UTF8, NOT_UTF8),
    ("utf-7", "Größe", ALL, ALL, ALL, ALL),
]


def encoded() -> Iterator[ListFile]:
    for encoding, name, *outcomes in ENCODINGS:
        for (filename, written), outcome in zip(WRITTEN.items(), outcomes, strict=True):
            content = written.format(a=A, b=B, c=C, name=name).encode(encoding)
            yield ListFile(f"{filename} in {encoding}", filename, content, outcome)


# -- Plain text --------------------------------------------------------------------------------------------------------

#: Bytes that are not UTF-8, and their characters in an address: Windows-1252, which has no 0x81.
BYTES = {
    "an overlong slash": (b"\xc0\xaf", "%C3%80%C2%AF"),
    "a surrogate in UTF-8": (b"\xed\xa0\x80", ""),  # with a no-break space
    "a truncated sequence": (b"\xe2\x82", "%C3%A2%E2%80%9A"),
    "a byte without a character": (b"\x81", ""),
}
CONTROLS = {
    "NUL": "\0", "backspace": "\b", "bell": "\a", "vertical tab": "\v", "form feed": "\f", "escape": "\x1b[2J",
    "unit separator": "\x1f", "delete": "\x7f", "next line": "\x85", "C1 sequence": "\x9b2J",
    "line separator": "\u2028", "paragraph separator": "\u2029", "no-break space": "\xa0", "space": " ",
}  # fmt: skip
#: A path keeps these percent-encoded, so that nobody is deceived.
INVISIBLE = {
    "right-to-left mark": "\u200f", "right-to-left override": "\u202e", "isolate": "\u2066",
    "zero-width space": "\u200b", "zero-width joiner": "\u200d", "mark within": "\ufeff", "soft hyphen": "\xad",
    "not a character": "\ufffe", "tag": "\U000e0041", "emoji": "😀", "combining": "a\u0301\u0327",
}  # fmt: skip
NOT_ADDRESSES = [
    "javascript:alert(1)", "b.example", "https://", "https://b.example\\@evil.example/", "https://b\u202e.example/",
    "' OR 1=1 --", "<script>alert(1)</script>", "{{ 7*7 }}", "=cmd|' /C calc'!A0", "%00", B + "x" * 10_000_000,
]  # fmt: skip


def spoilt_addresses() -> Iterator[Case]:
    for label, (spoilt, escaped) in BYTES.items():
        read = [f"{B}{escaped}x"] if escaped else []
        yield f"{label} in an address", as_bytes(f"{A}\n{B}") + spoilt + as_bytes(f"x\n{C}\n"), (A, *read, C)
    for label, character in CONTROLS.items():
        yield f"{label} in an address", lines(A, f"{B}x{character}y", C), (A, C)
    for label, character in INVISIBLE.items():
        yield f"{label} in a path", lines(A, f"{B}x{character}y", C), (A, f"{B}x{quote(character)}y", C)
    for address in NOT_ADDRESSES:
        yield f"{address[:40]!r}", lines(A, address, C), (A, C)


def text() -> Iterator[Case]:
    yield "NUL before each line end", lines(*ALL, end="\0\n"), NO_ADDRESS
    yield "only NUL", "\0" * 5_000, BINARY
    yield "NUL after the first 64 KB", lines(A, *["#"] * 40_000, "\0" * 500, C), (A, C)
    for label, end in {"CR": "\r", "CR LF": "\r\n", "LF CR": "\n\r", "CR CR LF": "\r\r\n", "blanks": " \t \n"}.items():
        yield f"{label} as line end", lines(*ALL, end=end), ALL
    yield "no last line end", "\n".join(ALL), ALL
    for label, end in {"next line": "\x85", "line separator": "\u2028", "form feed": "\f"}.items():
        yield f"{label} as line end", lines(*ALL, end=end), NO_ADDRESS
    yield "100,000 blank lines", A + "\n" * 100_000 + B, (A, B)
    yield "only comments", "# one\n# two\n", EMPTY
    yield "Windows-1251", "каталог новостей\nhttps://новости.рф/\n".encode("cp1251"), NOT_UTF8
    yield "random bytes", random.Random(1).randbytes(100_000), BINARY


# -- CSV ---------------------------------------------------------------------------------------------------------------


def table(header: str = "url,name", *, delimiter: str = ",") -> str:
    return lines(header, *(f"{url}{delimiter}a name" for url in ALL))


def names_in_csv() -> Iterator[Case]:
    for label, character in {**CONTROLS, **INVISIBLE}.items():
        yield f"{label} in a name", f"url,name\n{A},x{character}y\n{B},\n", (A, B)
    for label, (spoilt, _) in BYTES.items():
        yield f"{label} in a name", as_bytes(f"url,name,{'-' * 40}\n{A},") + spoilt + as_bytes(f"\n{B},\n"), (A, B)


def quotes() -> Iterator[Case]:
    yield "a quote never closed before 10 MB", f'url,name\n{A},"' + "x\n" * 5_000_000, TOO_MANY
    yield "a row of 20,000 lines", f'url,name\n{A},"' + "\n" * 20_000 + f'"\n{B},two\n', (B,)
    yield "typographic quotes", f"“url”,“name”\n“{A}”,“one”\n", NO_ADDRESS
    yield "a line end within a quoted address", f'url,name\n"{A}\nx",one\n{B},two\n', (B,)
    yield "a backslash before a quote", f'url,name\n{A},"one\\""\n{B},two\n', (B,)


def columns() -> Iterator[Case]:
    yield "a header with commas above semicolons", table("url,name", delimiter=";"), ALL
    for sign in '"x/ ':
        yield f"a separator {sign!r}", f"sep={sign}\n" + table(), ALL
    for header in ("link,title", "u rl,name", "u\0rl,name", "ｕｒｌ,name", "", "url\u200b,name", "a,b,c"):
        yield f"header {header!r}", table(header), ALL
    yield "blank lines before a wrong header", "\n\nwhere;title\n", f"{NO_COLUMN}where;title."
    yield "70,000 blank lines before a table", "\n" * 70_000 + table(), ALL
    yield "only the header", "url,name\n", EMPTY
    yield "only blank rows", "url,name\n\n,\n", EMPTY
    yield "rows too short", lines("name,url", f"one,{A}", "two", ",", f"three,{C}"), (A, C)
    yield "rows too long", lines("url,name", f"{A},one,two,three", f"{B}" + "," * 500), (A, B)
    yield "600,000 columns", lines("url,name", A + ",x" * 600_000, B), (B,)
    yield "a field of 131,072 characters", f"url,name,text\n{A},A," + "x" * 131_072, (A,)
    yield "a field of 131,073 characters", f"url,name\n{A},A\n{B}," + "x" * 131_073, (A,)


# -- JSON Lines --------------------------------------------------------------------------------------------------------

NOT_ENTRIES = [
    "NaN", "Infinity", "-Infinity", "1e999", "1" * 5_001, "-1", "0.1", "true", "null", "{}", "[]", f'["{A}"]',
    '{"url": null}', '{"url": 5}', '{"url": NaN}', '{"url": []}', '{"url": {"url": "@"}}', '{"url": true}',
    '{"__proto__": {"url": "@"}}', '{"constructor": {"prototype": 1}}', '{"": ""}', '"\\ud800"',
    '"https://b.example/\\udc00"', '"https://b.example/\\u0000"', '{"url": "https://b.ex\\u202eample/"}',
    '{"url": "@",}', "{'url': '@'}", "{url: 1}", '{"url": "@"', '"unclosed',
    '\ufeff"@"', '"https://b.example/\ttab"', "undefined", "\\", '{"url": "javascript:alert(1)"}',
]  # fmt: skip
DEEP = {
    "nonsense": "nonsense",
    "an array 100,000 deep": "[" * 100_000,
    "objects 10,000 deep": '{"url":' * 10_000 + "1" + "}" * 10_000,
    "a line of 10 MB": '{"url": "' + "x" * 10_000_000 + '"}',
}


def json_lines() -> Iterator[Case]:
    for written in NOT_ENTRIES:
        yield f"{written[:40]!r}", lines(f'"{A}"', written.replace("@", B), f'"{C}"'), (A, C)
    for label, value in DEEP.items():
        yield label, lines(f'"{A}"', value, f'"{C}"'), (A, C)
        yield f"{label}, first", lines(value, f'"{C}"'), NOT_JSON if label == "nonsense" else (C,)
    for more in ('"__proto__": {"x": 1}', f'"n": {"9" * 4_000}', '"name": 5', '"name": []', '"name": null'):
        yield f"{more[:20]} beside the address", f'{{"url": "{A}", {more}}}\n', (A,)
    for name in ("\\u0000", "\\ud800", "\\ud83d\\ude00", "\\u001b[2J", "\\u2028", "\\u202e", "\\n", "</script>"):
        yield f"{name} in a name", f'{{"url": "{A}", "name": "x{name}y"}}\n', (A,)
    yield "record separators (RFC 7464)", lines(*(f'\x1e"{url}"' for url in ALL)), ALL
    yield "two values on a line", f'"{A}"\n"{B}" "{C}" // comment\n', ALL


# -- OPML --------------------------------------------------------------------------------------------------------------


def outlines(*urls: str) -> str:
    return "".join(f'<outline xmlUrl="{url}"/>\n' for url in urls)


def opml(inner: str, before: str = "") -> str:
    return f"{before}<opml><body>{inner}</body></opml>"


def laughs(count: int) -> str:
    declared = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, count))
    return f'<!DOCTYPE opml [<!ENTITY e0 "ha">{declared}]>'


def document_types() -> Iterator[Case]:
    """Nothing is fetched or expanded, so nothing has to be refused."""
    yield "a DOCTYPE without a subset", opml(outlines(*ALL), "<!DOCTYPE opml>"), ALL
    yield "a DTD on the disk", opml(outlines(A), '<!DOCTYPE opml SYSTEM "file:///etc/passwd">'), (A,)
    yield "an address of an entity", opml(outlines("&x;", B), f'<!DOCTYPE opml [<!ENTITY x "{A}">]>'), (B,)
    for target in ("file:///etc/passwd", "http://127.0.0.1:1/", "expect://id"):
        inner = outlines(A) + '<outline text="&x;"/>&x;'
        yield f"an entity of {target}", opml(inner, f'<!DOCTYPE opml [<!ENTITY x SYSTEM "{target}">]>'), (A,)
    parameter = '<!DOCTYPE opml [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]>'
    yield "a parameter entity", opml(outlines(A), parameter), (A,)
    yield "a billion laughs", opml(outlines(A) + "&e9;", laughs(10)), (A,)
    yield "a billion billion laughs in the root", f'{laughs(30)}<opml text="&e29;">{outlines(A)}', (A,)
    growth = f'<!DOCTYPE opml [<!ENTITY x "{"x" * 50_000}">]>'
    yield "quadratic growth", opml(outlines(A) + "&x;" * 5_000, growth), (A,)
    yield "an entity of itself", opml(outlines(A) + "&x;", '<!DOCTYPE opml [<!ENTITY x "&x;">]>'), (A,)
    declared = "".join(f"<!ATTLIST x a{number} CDATA #IMPLIED>" for number in range(40_000))
    yield "40,000 declarations", opml(outlines(A), f"<!DOCTYPE opml [{declared}]>"), (A,)
    yield "64 KB before the root", opml(outlines(A), f"<!--{' ' * 70_000}-->"), (A,)
    attribute = f'<!DOCTYPE opml [<!ATTLIST outline xmlUrl CDATA "{B}">]>'
    yield "a default for an attribute", opml("<outline/>" + outlines(A), attribute), (A,)


def structure() -> Iterator[Case]:
    for root in ("rss", "html", "r:RSS xmlns:r='urn:x'"):
        yield f"the root {root}", f"<{root}>{outlines(A)}</{root.split()[0]}>", NOT_OPML
    yield "nested 10,000 deep", opml('<outline text="x">' * 10_000 + outlines(A)), (A,)
    yield "an attribute of 11 MB", opml(f'<outline text="{"x" * 11_000_000}" xmlUrl="{A}"/>{outlines(B)}'), (B,)
    yield "two documents", lines(opml(outlines(A)), opml(outlines(B))), (A, B)
    yield "no XML", "just text", NO_ROOT
    yield "no element", "<?xml version='1.0'?><!-- -->", NO_ROOT
    yield "an attribute in two cases", opml(f'<outline xmlUrl="{A}" xmlurl="{B}"/>'), (A,)
    yield "CDATA", opml(f"<![CDATA[{outlines(A)}]]>{outlines(B)}"), (B,)
    inclusion = '<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'
    yield "an inclusion", opml(inclusion), EMPTY
    yield "a name space", f'<o:opml xmlns:o="urn:o"><o:outline xmlUrl="{A}"/></o:opml>', (A,)
    yield "no outline", "<opml><body/></opml>", EMPTY
    attributes = " ".join(f'a{number}="1"' for number in range(40_000))
    yield "40,000 attributes", opml(f'<outline {attributes} xmlUrl="{A}"/>'), (A,)
    spaces = "".join(f'<o xmlns="urn:{number}">' for number in range(50_000))
    yield "50,000 name spaces", opml(spaces + outlines(A)), (A,)


#: Texts that are repeated to 500,000 characters within an outline, which a parser could read again from each part.
REPEATED = [
    "<", "<outline ", '"', ' text="', " a=\"b'", ' a="b" c"', "a", "a=", " ", "&", "&amp", "<!--", "<![CDATA[", "]]",
]  # fmt: skip


def repetitions() -> Iterator[Case]:
    for piece in REPEATED:
        repeated = piece * (500_000 // len(piece))
        yield f"{piece!r} again and again", opml(f"{outlines(A)}<outline text={repeated}"), (A,)
        yield f"{piece!r} again and again in quotes", opml(f'{outlines(A)}<outline text="{repeated}"'), (A,)


def characters() -> Iterator[Case]:
    for number in (0, 1, 0x1B, 0xD800, 0xFFFE, 0x110000, 10**20):
        inner = f'<outline text="x&#{number};y" xmlUrl="{A}"/>'
        yield f"&#{number}; in a name", opml(inner), (A,)
        if number < 0xFFFE:
            yield f"&#{number}; in an address", opml(inner + outlines(f"{B}&#{number};")), (A,)
    for label, character in {"NUL": "\0", "escape": "\x1b", "a surrogate in UTF-8": "\ud800"}.items():
        yield label, f'<opml>\n<outline text="x{character}y" xmlUrl="{A}"/></opml>', (A,)
    for name in ("&#x202e;", "&lt;script&gt;"):
        yield f"{name} in a name", opml(f'<outline text="x{name}y" xmlUrl="{A}"/>'), (A,)
    for declared in ("utf-16", "utf-32", "klingon", "ebcdic-cp-us", "latin-1", "", "utf-7", "punycode", "zip"):
        before = f'<?xml version="1.0" encoding="{declared}"?>'
        yield f"declared as {declared}", opml(outlines(A), before), (A,)


FAMILIES = {
    "list.txt": [spoilt_addresses, text],
    "list.csv": [names_in_csv, quotes, columns],
    "list.jsonl": [json_lines],
    "list.opml": [document_types, structure, repetitions, characters],
}


# -- Other files by these names, and hostile names ---------------------------------------------------------------------


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("xl/workbook.xml", lines(*ALL) * 100)
    return file.getvalue()


OTHERS = {
    "a workbook": (archive(), ARCHIVE),
    "gzip": (gzip.compress(as_bytes(lines(*ALL) * 100)), BINARY),
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\x01\0\x08\x06\0\0\0\\r\xa8f", BINARY),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + bytes(range(256)) * 40, BINARY),
    "HTML": (b"<!DOCTYPE html>\n<html><body><a href='https://a.example/'>one</a><br></body></html>\n", ""),
    "an executable": (b"\x7fELF\x02\x01\x01" + bytes(9) + Path(sys.executable).read_bytes()[16:100_000], BINARY),
    "YAML": (b"- !!python/object/apply:os.system ['id']\n- url: x\n", ""),
}


def misnamed() -> Iterator[ListFile]:
    for label, (content, reason) in OTHERS.items():
        for name in WRITTEN:
            yield ListFile(f"{label} as {name}", name, content, reason)


BAD_NAMES = [
    "../../../etc/passwd", "..\\..\\windows\\system32\\config", "/etc/passwd", "C:\\list.txt", "..", ".", "...", "",
    " ", "\0", "list\0.csv", "list.csv\0.txt", "x" * 5_000, "y" * 5_000 + ".txt", "<script>alert(1)</script>.txt",
    "\"><img src=x onerror=alert(1)>.txt", "list\u202etxt.exe", "list.txt\u200b", "CON", "NUL.txt", "AUX", "COM1.txt",
    "list.txt:stream", "list\r\nX-Injected: 1.txt", "list;.txt", "'; DROP TABLE batches_batch; --.txt", "$(id).txt",
    "`id`.txt", "%00.txt", "%2e%2e%2fx", "-rf", "--help", "~root/.ssh/x", "список.txt", "😀.txt", "\ud800.txt",
    "a" + "\u0301" * 300, ".txt", "list.", "list.exe", "list.txt.gz", "list.TXT", "{{ 7*7 }}.txt", "%s%s%n.txt",
    "=1+1.txt", "|id", "*",
]  # fmt: skip


def badly_named() -> Iterator[ListFile]:
    for name in BAD_NAMES:
        yield ListFile(f"named {name[:40]!r}", name, as_bytes(lines(*ALL)), ALL, has_bad_name=True)
