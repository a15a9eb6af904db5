"""Lists that cannot be read: one clear sentence, with the line where there is one, and nothing imported."""

import codecs
import gzip
import io
import random
import tracemalloc
import zipfile

import pytest

from batches.lists.imports import InvalidList
from batches.lists.reading import FORMATS, read_profiles

from .lists import brief, failure

EMPTY = "The list is empty: there is no address in it."
UTF16 = "The list is in UTF-16 or UTF-32; save it as UTF-8."
BINARY = "This is a binary file, not a list of addresses."
NOT_UTF8 = "The list is not in UTF-8; save it as UTF-8."
WORKBOOK = "This is a workbook or a ZIP archive; save the sheet with the addresses as CSV in UTF-8."

PLAIN = "https://a.example/\nhttps://b.example/feed\n"
SQLITE = b"SQLite format 3\x00\x10\x00\x01\x01\x00\x40\x20\x20" + bytes(200)
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x01\x00\x08\x06\x00\x00\x00\\r\xa8f"


def workbook():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        # Not by its name, which would be dated now: what a test is called must not differ from one run to the next.
        archive.writestr(zipfile.ZipInfo("xl/worksheets/sheet1.xml"), "<worksheet/>" * 100)
    return file.getvalue()


def entities(count):
    """The "billion laughs": each entity is ten of the one before."""
    declared = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, count))
    return f'<!DOCTYPE opml [<!ENTITY e0 "ha">{declared}]>'


@pytest.mark.parametrize("format", [None, "text", "csv", "jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\r\n", codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\n"])
def test_an_empty_list_fails(format, content):
    assert failure(content, format=format) == EMPTY


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b"# only\n# comments\n", "text"),
        (b"url,name\n\n,\n", "csv"),
        (b"<opml><body/></opml>", "opml"),
        (b'<opml><body><outline text="folder"/></body></opml>', "opml"),
    ],
    ids=brief,
)
def test_a_list_without_an_entry_is_empty(content, format):
    assert failure(content) == EMPTY
    assert failure(content, format=format) == EMPTY


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_recognised_with_and_without_its_mark(format, encoding):
    assert failure(PLAIN.encode(encoding), format=format) == UTF16


def test_utf16_that_begins_with_its_big_endian_mark_is_recognised():
    assert failure(codecs.BOM_UTF16_BE + "https://б.example/\n".encode("utf-16-be")) == UTF16


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PNG, BINARY),
        (SQLITE, BINARY),
        (gzip.compress(PLAIN.encode() * 100, mtime=0), BINARY),
        (random.Random(1).randbytes(100_000), BINARY),
        (workbook(), WORKBOOK),
        ("каталог новостей\nhttps://новости.рф/\n".encode("cp1251"), NOT_UTF8),
        ("https://例え.jp/新着\n".encode("shift-jis"), NOT_UTF8),
    ],
    ids=brief,
)
def test_what_is_no_utf8_text_is_told_so(format, content, message):
    assert failure(content, format=format) == message


def test_a_single_stray_nul_rejects_its_line_only():
    result = read_profiles(b"https://a.example/\x00\nhttps://b.example/\n")
    assert [profile.url for profile in result.profiles] == ["https://b.example/"]
    assert [reject.line for reject in result.rejects] == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"link,title\nhttps://a.example/,A\n", 'Line 1 has no column "url", only: link, title.'),
        (b"\n\nlink;title\n", 'Line 3 has no column "url", only: link, title.'),
        (b"https://a.example/\nhttps://b.example/\n", 'Line 1 has no column "url", only: https://a.example/.'),
        (b'url,name\nhttps://a/,A\n"https://b/,B\nhttps://c/,C\n', "opened in line 3 is not closed"),
        (b'url,name\nhttps://a/,"A\nhttps://b/,"B"\n', "opened in line 2 is not closed"),
        (b'url,name\nhttps://a/,"A\n' + b"https://b/\n" * 20_000, "opened in line 2 is not closed"),
        (b'url,"name\n', "A quote that is opened in line 1 is not closed; inside of quotes, a quote is written twice."),
        (b'url,name\nhttps://a.example/,"A"B\n', "Line 2 has text after a closing quote"),
        (b"url,name\nhttps://a/,A\nhttps://b/," + b"x" * 131_073, "Line 3 has a field of more than 131,072"),
        (b"url,name\nhttps://a.example/" + b",x" * 600_000, "Line 2 is longer than 1,000,000 characters."),
    ],
    ids=brief,
)
def test_a_broken_csv_fails_with_its_line(content, message):
    assert message in failure(content, filename="list.csv")


def test_a_csv_field_of_131072_characters_is_read():
    content = b"url,name,text\nhttps://a.example/,A," + b"x" * 131_072
    assert [profile.name for profile in read_profiles(content).profiles] == ["A"]


TOO_DEEP = "it is nested too deep, or one of its texts is too long."
BARE_AND = '(a bare "&" must be written "&amp;").'


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"<opml>\n<body>\n<outline", 3, "Couldn't find end of Start Tag outline"),
        (b"<opml>\n<body>\n</opml>", 3, "Opening and ending tag mismatch: body line 2 and opml"),
        (b'<opml>\n<outline xmlUrl="https://a/?x=1&y=2"/></opml>', 2, f"EntityRef: expecting ';' {BARE_AND}"),
        (b'<opml>\n<outline text="A & B" xmlUrl="https://a/"/></opml>', 2, f"xmlParseEntityRef: no name {BARE_AND}"),
        (
            b'<opml>\n\n<outline text="A&nbsp;B" xmlUrl="https://a/"/></opml>',
            3,
            f"Entity 'nbsp' not defined {BARE_AND}",
        ),
        (b'<opml>\n<outline text="\x00" xmlUrl="https://a/"/></opml>', 2, ""),
        (b'<opml>\n<outline text="caf\xe9" xmlUrl="https://a/"/></opml>', 2, ""),
        (b"<opml></opml>\n<opml></opml>", 2, "Extra content at the end of the document"),
        (b'\n<?xml version="1.0"?><opml/>', 2, "XML declaration allowed only at the start of the document"),
        (b'<?xml version="1.0" encoding="klingon"?><opml/>', 1, "Unsupported encoding: klingon"),
        (b"just text", 1, "Start tag expected, '<' not found."),
        (b"<opml>\n" + b"<outline>" * 10_000, 2, TOO_DEEP),
        (b"<opml>\n<outline text='" + b"x" * 11_000_000 + b"'/></opml>", 2, TOO_DEEP),
    ],
    ids=brief,
)
def test_a_broken_opml_fails_with_its_line(content, line, problem):
    assert failure(content, filename="list.opml").startswith(f"The OPML is broken in line {line}: {problem}")


@pytest.mark.parametrize(
    "content", [b"<rss version='2.0'/>", b"<!DOCTYPE rss><r:RSS xmlns:r='urn:x'><opml/></r:RSS>"], ids=brief
)
def test_xml_that_is_no_opml_is_told_so(content):
    message = failure(content, filename="feed.xml").lower()
    assert message.startswith("this is xml but not opml: it begins with <")
    assert "rss>" in message


@pytest.mark.parametrize(
    "content",
    [
        '<!DOCTYPE opml [<!ENTITY x "https://a.example/">]><opml><outline xmlUrl="&x;"/></opml>',
        '<!DOCTYPE opml [<!ENTITY x SYSTEM "file:///etc/hostname">]><opml><outline text="a" xmlUrl="https://a.example/"/>&x;</opml>',
        '<!DOCTYPE opml [<!ENTITY % x SYSTEM "file:///etc/hostname">]><opml><outline xmlUrl="https://a.example/"/></opml>',
        f'{entities(12)}<opml><outline text="&e11;" xmlUrl="https://a.example/"/></opml>',
        f'{entities(12)}<opml><outline xmlUrl="https://a.example/"/>&e11;</opml>',
    ],
    ids=brief,
)
def test_an_opml_with_entities_of_its_own_is_refused(content):
    assert (
        failure(content.encode())
        == "The OPML declares entities of its own, and these are not read; remove its DOCTYPE."
    )


def test_entities_cannot_grow_before_they_are_refused():
    tracemalloc.start()
    message = failure(f'{entities(30)}<opml text="&e29;"/>'.encode())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message.startswith("The OPML is broken in line 1: ")
    assert peak < 10_000_000


@pytest.mark.parametrize("first", ["nonsense", "[", "{", "{'url': 1}", "[" * 10_000, '{"a":' * 10_000], ids=brief)
def test_json_lines_whose_first_line_is_not_json_fail(first):
    content = f'\n{first}\n"https://a.example/"\n'.encode()
    assert failure(content, format="jsonl") == "Line 2 is not JSON; JSON Lines has one object or string a line."


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b"foo\nbar\n", "text"),
        (b"url\nfoo\nbar\n", "csv"),
        (b'"foo"\nNaN\n', "jsonl"),
        (b'<opml><outline xmlUrl="foo"/>\n<outline xmlUrl="ftp://a/"/></opml>', "opml"),
    ],
    ids=brief,
)
def test_a_list_of_rejects_only_fails_and_hands_them_over(content, format):
    with pytest.raises(
        InvalidList, match=r"^There is no address in the list that can be checked \(line \d: It "
    ) as error:
        read_profiles(content, format=format)
    assert len(error.value.rejects) == 2
