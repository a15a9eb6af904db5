"""What each format gives: profiles with names, rejects with lines, duplicates counted."""

import csv
import io
import json
import os
import socket
import threading
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from batches.lists.imports import InvalidList, ProfileAddress, Reject
from batches.lists.reading import FORMATS, read_profiles

from .lists import failure

EXAMPLES = Path(__file__).parents[3] / "examples"


def urls(result):
    return [profile.url for profile in result.profiles]


def rejected(result):
    return [(reject.line, reject.text) for reject in result.rejects]


# Plain text


def test_text_has_one_address_a_line_with_blank_lines_and_comments_between():
    result = read_profiles(b"# my list\n\nhttps://a.example/\n   \n  # more\n\thttps://b.example/ \n", format="text")
    assert result.profiles == [ProfileAddress("https://a.example/"), ProfileAddress("https://b.example/")]
    assert (result.rejects, result.duplicates) == ([], 0)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_counts_as_one_line(end):
    text = end.join(["\ufeffhttps://a.example/", "", "nonsense", "https://b.example/"])
    result = read_profiles(text.encode())
    assert urls(result) == ["https://a.example/", "https://b.example/"]
    assert rejected(result) == [(3, "nonsense")]


def test_spellings_of_one_address_are_one_profile():
    spellings = [
        "https://BÜCHER.example",
        "https://xn--bcher-kva.example:443/#top",
        "HTTPS://bücher.example/",
        "https://bücher.example/./",
    ]
    result = read_profiles("\n".join(spellings).encode())
    assert urls(result) == ["https://xn--bcher-kva.example/"]
    assert result.duplicates == 3


def test_a_line_that_is_no_address_is_rejected_with_its_number_and_the_others_go_in():
    lines = [
        b"https://a.example/",
        b"www.example.com",
        b"https://user:secret@example.com/",
        b"https://example.com/\x00",
        b"https://example.com/\xed\xa0\x80",
        b"https://example.com/\xff",
        b"https://example.com/" + b"a" * 2000,
        b"https://b.example/",
    ]
    result = read_profiles(b"\n".join(lines))
    assert urls(result) == ["https://a.example/", "https://b.example/"]
    assert [reject.line for reject in result.rejects] == [2, 3, 4, 5, 6, 7]
    reasons = ["start it with https://", "password", "NUL", "not UTF-8", "not UTF-8", "2,000 characters"]
    assert all(reason in reject.reason for reason, reject in zip(reasons, result.rejects, strict=True))


def test_a_rejects_text_is_one_clean_short_line():
    result = read_profiles(b"https://a.example/\nbad \x1b[31m\x00 \xff" + b"x" * 500)
    [reject] = result.rejects
    assert reject.text.startswith("bad [31m \ufffdxxx")
    assert len(reject.text) == 200


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_may_be_separated_by_commas_semicolons_or_tabs(delimiter):
    rows = [
        ["Name", " URL ", "note"],
        ["A, the first; really\ttabbed", "https://a.example/", "x"],
        ["", "https://b.example/", ""],
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    result = read_profiles(text.getvalue().encode("utf-8-sig"), filename="list.csv")
    assert result.profiles == [
        ProfileAddress("https://a.example/", "A, the first; really tabbed"),
        ProfileAddress("https://b.example/"),
    ]


def test_csv_may_have_spaces_after_its_delimiters():
    [profile] = read_profiles(b'name, url\n"A, B", "https://a.example/"\n').profiles
    assert profile == ProfileAddress("https://a.example/", "A, B")


def test_the_delimiter_is_the_one_that_gives_a_url_column():
    [profile] = read_profiles(b'"last, first, or other name";url\nA;https://a.example/?b,c,d\n').profiles
    assert profile.url == "https://a.example/?b,c,d"


def test_a_csv_of_one_column_needs_no_delimiter():
    assert urls(read_profiles(b'"url"\nhttps://a.example/\n', format="csv")) == ["https://a.example/"]


def test_a_csv_row_is_rejected_with_the_line_it_begins_in():
    text = b'url,name\n\nhttps://a.example/,"two\nlines"\nnonsense,"also\ntwo"\n,no address\n , \nshort\n'
    result = read_profiles(text)
    assert result.profiles == [ProfileAddress("https://a.example/", "two lines")]
    assert rejected(result) == [(5, "nonsense"), (7, ""), (9, "short")]


def test_a_csv_row_without_the_url_cell_is_rejected():
    result = read_profiles(b"name,url\nA,https://a.example/\nB\n", format="csv")
    assert [(reject.line, reject.reason) for reject in result.rejects] == [(3, "It is empty.")]


def test_bytes_that_are_not_utf8_show_in_a_name_instead_of_vanishing():
    [profile] = read_profiles(b"url,name\nhttps://a.example/,Caf\xe9\n").profiles
    assert profile.name == "Caf\ufffd"


def test_reading_csv_leaves_the_interpreters_field_limit_alone():
    before = csv.field_size_limit()
    read_profiles(b"url\nhttps://a.example/\n")
    assert csv.field_size_limit() == before


# OPML


def test_opml_outlines_are_read_however_they_are_nested_and_written():
    text = b"""<?xml version="1.0"?>
        <OPML version="1.0"><head><title>x</title></head><body>
          <outline text="Folder"><outline text="Deeper">
            <outline text="A" title="Title of A" xmlUrl="https://a.example/feed" htmlUrl="https://a.example/"/>
          </outline></outline>
          <!-- <outline xmlUrl="https://comment.example/"/> --><?php echo 1 ?>
          <Outline TEXT="B &amp; C" XMLURL=" https://b.example/?x=1&amp;y=2 "/>
          <outline text="page" xmlUrl="" htmlUrl="https://c.example/"/>
          <outline xmlUrl="feed://d.example/rss"/>
          <o:outline xmlns:o="urn:other" xmlUrl="https://e.example/"/>
        </body></OPML>"""
    assert read_profiles(text).profiles == [
        ProfileAddress("https://a.example/feed", "Title of A"),
        ProfileAddress("https://b.example/?x=1&y=2", "B & C"),
        ProfileAddress("https://c.example/", "page"),
        ProfileAddress("http://d.example/rss"),
        ProfileAddress("https://e.example/"),
    ]


def test_an_opml_outline_is_rejected_with_its_line():
    text = (
        b'<opml>\n<outline xmlUrl="https://a/"/>\n\n<outline text="x" xmlUrl="ftp://b"/>\n<outline xmlUrl=""/></opml>'
    )
    assert rejected(read_profiles(text)) == [(4, "ftp://b"), (5, "")]


def test_opml_lines_are_counted_beyond_65535():
    text = (
        b'<opml><body><outline xmlUrl="https://a.example/"/>' + b"\n" * 70_000 + b'<outline xmlUrl="x"/></body></opml>'
    )
    assert rejected(read_profiles(text)) == [(70_001, "x")]


def test_opml_names_its_own_encoding():
    text = '<?xml version="1.0" encoding="windows-1251"?><opml><outline text="Новости" xmlUrl="https://a.example/"/></opml>'
    assert read_profiles(text.encode("cp1251")).profiles == [ProfileAddress("https://a.example/", "Новости")]


def test_opml_never_fetches_its_dtd():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        doctype = f'<!DOCTYPE opml SYSTEM "http://127.0.0.1:{server.getsockname()[1]}/opml.dtd">'
        text = f'{doctype}<opml><outline text="a&nbsp;b" xmlUrl="https://a.example/"/></opml>'
        assert urls(read_profiles(text.encode())) == ["https://a.example/"]
        with pytest.raises(BlockingIOError):
            server.accept()


# JSON Lines


def test_json_lines_are_strings_or_objects():
    lines = [
        '"https://a.example/"',
        '{"url": "https://b.example/", "name": "B", "more": [1]}',
        "",
        '{"name": 5, "url": "https://c.example/"}',
    ]
    assert read_profiles("\n".join(lines).encode(), format="jsonl").profiles == [
        ProfileAddress("https://a.example/"),
        ProfileAddress("https://b.example/", "B"),
        ProfileAddress("https://c.example/"),
    ]


def test_json_lines_reject_what_has_no_address():
    no_address = [
        "NaN",
        "-Infinity",
        "null",
        "true",
        "12",
        "[]",
        '["https://b/"]',
        "{}",
        '{"url": 5}',
        '{"URL": "https://b/"}',
    ]
    no_json = ["x", '{"url": "https://b/"', "{'url': 'https://b/'}", "[" * 10_000, '{"a":' * 10_000, "9" * 5000]
    unstorable = ['"\\ud800"', '"https://b/\\u0000"', '{"url": "https://b/\\udfff"}']
    bad = no_address + no_json + unstorable
    result = read_profiles("\n".join(['"https://a.example/"', *bad]).encode(), format="jsonl")
    assert urls(result) == ["https://a.example/"]
    assert [reject.line for reject in result.rejects] == list(range(2, len(bad) + 2))


# All of them


def in_format(format, entries):
    """A list in this format; entries are (url, name), or a url alone."""
    pairs = [entry if isinstance(entry, tuple) else (entry, "") for entry in entries]
    if format == "text":
        return "\n".join(url for url, _ in pairs).encode()
    if format == "csv":
        text = io.StringIO()
        csv.writer(text).writerows([("url", "name"), *pairs])
        return text.getvalue().encode()
    if format == "jsonl":
        return "\n".join(json.dumps({"url": url, "name": name}) for url, name in pairs).encode()
    outlines = "\n".join(f'<outline xmlUrl="{url}" text="{name}"/>' for url, name in pairs)
    return f"<opml><body>\n{outlines}\n</body></opml>".encode()


@pytest.mark.parametrize("format", FORMATS)
def test_the_format_is_told_from_the_content_where_no_name_tells_it(format):
    content = in_format(format, ["https://a.example/", "https://b.example/"])
    for start in (b"", b"\xef\xbb\xbf", b"\n\n" if format != "opml" else b""):
        assert urls(read_profiles(start + content)) == ["https://a.example/", "https://b.example/"]


@pytest.mark.parametrize(
    ("filename", "message"),
    [
        ("list.txt", "There is no address in the list"),
        ("Feeds.OPML", "The OPML is broken"),
        ("feeds.xml", "The OPML is broken"),
        ("a.b.csv", 'has no column "url"'),
        ("a.tsv", 'has no column "url"'),
        ("list.jsonl", "is not JSON"),
        ("/some/where/list.NDJSON", "is not JSON"),
        ("list.dat", "There is no address in the list"),
        ("csv", "There is no address in the list"),
    ],
)
def test_the_extension_decides_before_the_content(filename, message):
    assert message in failure(b"neither\nnor\n", filename=filename)


def test_the_given_format_decides_before_the_extension():
    assert urls(read_profiles(b"https://a.example/", filename="x.opml", format="text")) == ["https://a.example/"]


def test_a_format_that_does_not_exist_is_a_programming_error():
    with pytest.raises(ValueError, match="There is no format 'yaml'") as error:
        read_profiles(b"https://a.example/", format="yaml")
    assert not isinstance(error.value, InvalidList)


@pytest.mark.parametrize("format", ["csv", "opml", "jsonl"])
def test_the_first_mention_stays_with_the_first_name_that_is_not_empty(format):
    entries = [
        ("https://a.example/", ""),
        ("https://b.example/", "B"),
        ("https://A.example", "A"),
        ("https://b.example/#x", "C"),
        ("https://a.example/", "D"),
    ]
    result = read_profiles(in_format(format, entries))
    assert result.profiles == [ProfileAddress("https://a.example/", "A"), ProfileAddress("https://b.example/", "B")]
    assert result.duplicates == 3


@pytest.mark.parametrize("format", ["csv", "opml", "jsonl"])
def test_a_name_is_one_line_of_at_most_200_characters(format):
    entries = [
        ("https://a.example/", "  two\n\twords\u3000here  "),
        ("https://b.example/", "x" * 199 + " " + "y" * 100_000),
    ]
    assert [profile.name for profile in read_profiles(in_format(format, entries)).profiles] == [
        "two words here",
        "x" * 199,
    ]


def test_a_name_keeps_no_character_that_a_terminal_or_a_database_minds():
    line = json.dumps({"url": "https://a.example/", "name": "\x1b[31mred\x00 \x9b \ud800"})
    assert read_profiles(line.encode()).profiles[0].name == "[31mred \ufffd"


@pytest.mark.parametrize("format", FORMATS)
def test_strict_refuses_a_list_with_one_reject(format):
    content = in_format(format, ["https://a.example/", "ftp://b.example/"])
    assert urls(read_profiles(content)) == ["https://a.example/"]
    with pytest.raises(InvalidList, match=r'^1 entry cannot be a profile \(line \d: It begins with "ftp:"') as failure:
        read_profiles(content, strict=True)
    assert [reject.text for reject in failure.value.rejects] == ["ftp://b.example/"]


def test_strict_counts_all_rejects_and_names_the_first_ones():
    with pytest.raises(InvalidList) as failure:
        read_profiles(b"https://a.example/\n" + b"x\n" * 1500, strict=True)
    message = str(failure.value)
    assert message.startswith("1,500 entries cannot be profiles (line 2: ")
    assert message.endswith("line 4: It does not say http or https; start it with https://; …).")
    assert len(failure.value.rejects) == 1500


def test_strict_takes_a_list_without_rejects():
    assert read_profiles(b"https://a.example/\nhttps://a.example/\n", strict=True).duplicates == 1


@pytest.mark.parametrize("format", FORMATS)
def test_a_list_comes_from_a_pipe_in_small_pieces(format):
    content = in_format(format, [f"https://host{number}.example/" for number in range(3000)])
    reading, writing = os.pipe()

    def feed():
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for start in range(0, len(content), 1000):
                pipe.write(content[start : start + 1000])

    writer = threading.Thread(target=feed)
    writer.start()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        assert len(read_profiles(pipe).profiles) == 3000
    writer.join()


class Trickle(io.RawIOBase):
    """Gives a byte at a time, as a pipe may."""

    def __init__(self, content):
        self.content = io.BytesIO(content)

    def read(self, size=-1):
        return self.content.read(1)


@pytest.mark.parametrize("format", FORMATS)
def test_the_format_is_told_from_a_list_that_trickles_in(format):
    content = in_format(format, [("https://a.example/", "A")])
    assert urls(read_profiles(Trickle(content))) == ["https://a.example/"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_list_comes_from_an_uploaded_file_that_stays_open(format):
    upload = SimpleUploadedFile("list", in_format(format, ["https://a.example/"]))
    assert urls(read_profiles(upload, filename=upload.name)) == ["https://a.example/"]
    assert not upload.closed


@pytest.mark.parametrize(
    ("name", "profiles", "duplicates"),
    [("profiles.opml", 25, 1), ("profiles.txt", 6, 1), ("profiles.csv", 5, 0), ("profiles.jsonl", 5, 0)],
)
def test_the_examples_are_read_without_a_reject(name, profiles, duplicates):
    with (EXAMPLES / name).open("rb") as file:
        result = read_profiles(file, filename=name, strict=True)
    assert (len(result.profiles), result.duplicates) == (profiles, duplicates)


def test_a_csv_example_keeps_commas_and_quotes_in_names():
    result = read_profiles((EXAMPLES / "profiles.csv").read_bytes())
    assert {"Evans, Julia", 'xkcd: "a webcomic"'} <= {profile.name for profile in result.profiles}


def test_results_can_be_compared_and_not_changed():
    assert Reject(1, "x", "why") == Reject(1, "x", "why")
    with pytest.raises(AttributeError):
        ProfileAddress("https://a.example/").url = "https://b.example/"
