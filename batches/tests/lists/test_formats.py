"""What each format gives: profiles with names, rejects with lines, duplicates counted.

What comes of hostile and unusual lists stands in `corpus.py`.
"""

import csv
import io
import json
import socket
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from batches.lists.imports import InvalidList, ProfileAddress
from batches.lists.reading import FORMATS, read_profiles

EXAMPLES = Path(__file__).parents[3] / "examples"


def urls_of(result):
    return [profile.url for profile in result.profiles]


def rejects_of(content, **options):
    return [(reject.line, reject.text) for reject in read_profiles(content, **options).rejects]


# Plain text


def test_text_has_one_address_a_line_with_blank_lines_and_comments_between():
    result = read_profiles(b"# my list\n\nhttps://a.example/\n   \n  # more\n\thttps://b.example/ \n", format="text")
    assert result.profiles == [ProfileAddress("https://a.example/"), ProfileAddress("https://b.example/")]
    assert (result.rejects, result.duplicates) == ([], 0)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_counts_as_one_line(end):
    assert rejects_of(end.join(["\ufeffhttps://a.example/", "", "nonsense"]).encode()) == [(3, "nonsense")]


def test_a_line_that_is_not_an_address_is_rejected_with_its_number_and_reason():
    result = read_profiles(b"https://a.example/\nwww.example.com\nhttps://example.com/\xff\nhttps://b.example/")
    assert urls_of(result) == ["https://a.example/", "https://b.example/"]
    assert [(reject.line, reject.text, reject.reason) for reject in result.rejects] == [
        (2, "www.example.com", "It has no scheme; start it with https://."),
        (3, "https://example.com/\ufffd", "It contains bytes that are not UTF-8, or half of a surrogate pair."),
    ]


def test_a_rejects_text_is_one_clean_short_line():
    [(_, text)] = rejects_of(b"https://a.example/\nbad \x1b[31m\x00 \xff" + b"x" * 500)
    assert text.startswith("bad [31m \ufffdxxx")
    assert len(text) == 200


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_may_be_separated_by_commas_semicolons_or_tabs(delimiter):
    rows = [
        ["Name", " URL ", "note"],
        ["A, the; really\ttabbed", "https://a.example/", "x"],
        ["", "https://b.example/"],
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    assert read_profiles(text.getvalue().encode("utf-8-sig"), filename="list.csv").profiles == [
        ProfileAddress("https://a.example/", "A, the; really tabbed"),
        ProfileAddress("https://b.example/"),
    ]


@pytest.mark.parametrize(
    ("content", "profile"),
    [
        (b'name, url\n"A, B", "https://a.example/"\n', ProfileAddress("https://a.example/", "A, B")),
        (b'"last, first";url\nA;https://a.example/?b,c\n', ProfileAddress("https://a.example/?b,c")),
        (b'"url"\nhttps://a.example/,not a name\n', ProfileAddress("https://a.example/")),
        (b"url,name\nhttps://a.example/,Caf\xe9\n", ProfileAddress("https://a.example/", "Caf\ufffd")),
    ],
    ids=["blanks after commas", "the delimiter that gives a url column", "one column", "bytes that are not UTF-8"],
)
def test_a_csv_may_be_written_in_many_ways(content, profile):
    assert read_profiles(content, format="csv").profiles == [profile]


def test_a_csv_row_is_rejected_with_the_line_it_starts_in():
    text = b'url,name\n\nhttps://a.example/,"two\nlines"\nnonsense,"also\ntwo"\n,no address\n , \nshort\n'
    assert read_profiles(text).profiles == [ProfileAddress("https://a.example/", "two lines")]
    assert rejects_of(text) == [(5, "nonsense"), (7, ""), (9, "short")]


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


def test_an_opml_outline_is_rejected_with_its_line_even_beyond_65535():
    outline = b'<outline xmlUrl="https://a/"/>'
    assert rejects_of(b'<opml>\n%b\n\n<outline xmlUrl="ftp://b"/>\n<outline xmlUrl=""/></opml>' % outline) == [
        (4, "ftp://b"),
        (5, ""),
    ]
    assert rejects_of(b'<opml>%b%b<outline xmlUrl="x"/></opml>' % (outline, b"\n" * 70_000)) == [(70_001, "x")]


def test_opml_names_its_own_encoding():
    text = '<?xml version="1.0" encoding="windows-1251"?><opml><outline text="Новости" xmlUrl="https://a.example/"/></opml>'
    assert read_profiles(text.encode("cp1251")).profiles == [ProfileAddress("https://a.example/", "Новости")]


def test_opml_never_fetches_its_dtd():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        doctype = f'<!DOCTYPE opml SYSTEM "http://127.0.0.1:{server.getsockname()[1]}/opml.dtd">'
        text = f'{doctype}<opml><outline text="a&nbsp;b" xmlUrl="https://a.example/"/></opml>'
        assert urls_of(read_profiles(text.encode())) == ["https://a.example/"]
        with pytest.raises(BlockingIOError):
            server.accept()


# JSON Lines


def test_json_lines_are_strings_or_objects():
    lines = b"""
        "https://a.example/"
        {"url": "https://b.example/", "name": "B", "more": [1]}

        {"name": 5, "url": "https://c.example/"}"""
    assert read_profiles(lines, format="jsonl").profiles == [
        ProfileAddress("https://a.example/"),
        ProfileAddress("https://b.example/", "B"),
        ProfileAddress("https://c.example/"),
    ]


# All of them


def write(format, entries):
    """A list in this format; entries are (url, name), or only a url."""
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


with_names = pytest.mark.parametrize("format", ["csv", "opml", "jsonl"])
in_every_format = pytest.mark.parametrize("format", FORMATS)


@in_every_format
def test_the_content_decides_the_format_of_a_list_without_a_name(format):
    content = write(format, ["https://a.example/", "https://b.example/"])
    for start in (b"", b"\xef\xbb\xbf", b"\n\n" if format != "opml" else b""):
        assert urls_of(read_profiles(start + content)) == ["https://a.example/", "https://b.example/"]


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("list.txt", "The list has no valid address"),
        ("Feeds.OPML", "The OPML is broken"),
        ("feeds.xml", "The OPML is broken"),
        ("a.b.csv", 'has no column "url"'),
        ("a.tsv", 'has no column "url"'),
        ("list.jsonl", "is not JSON"),
        ("/some/where/list.NDJSON", "is not JSON"),
        ("list.dat", "The list has no valid address"),
        ("csv", "The list has no valid address"),
    ],
)
def test_the_extension_decides_before_the_content(filename, reason):
    with pytest.raises(InvalidList, match=reason):
        read_profiles(b"neither\nnor\n", filename=filename)


def test_the_given_format_decides_before_the_extension():
    assert urls_of(read_profiles(b"https://a.example/", filename="x.opml", format="text")) == ["https://a.example/"]


def test_an_unknown_format_is_a_programming_error():
    with pytest.raises(ValueError, match="Unknown format 'yaml'") as error:
        read_profiles(b"https://a.example/", format="yaml")
    assert not isinstance(error.value, InvalidList)


@with_names
def test_the_first_mention_stays_with_the_first_name_that_is_not_empty(format):
    names = {"https://a.example/": "", "https://b.example/": "B", "https://A.example": "A", "https://b.example/#x": "C"}
    result = read_profiles(write(format, [*names.items(), ("https://a.example/", "D")]))
    assert result.profiles == [ProfileAddress("https://a.example/", "A"), ProfileAddress("https://b.example/", "B")]
    assert result.duplicates == 3


@with_names
@pytest.mark.parametrize(
    ("written", "name"),
    [("  two\n\twords\u3000here  ", "two words here"), ("x" * 199 + " " + "y" * 100_000, "x" * 199)],
    ids=["white space", "long"],
)
def test_a_name_is_one_line_of_at_most_200_characters(written, name, format):
    assert read_profiles(write(format, [("https://a.example/", written)])).profiles[0].name == name


def test_a_name_keeps_no_character_that_a_terminal_or_a_database_rejects():
    line = json.dumps({"url": "https://a.example/", "name": "\x1b[31mred\x00 \x9b \ud800"})
    assert read_profiles(line.encode()).profiles[0].name == "[31mred \ufffd"


@in_every_format
def test_strict_refuses_a_list_with_one_reject(format):
    content = write(format, ["https://a.example/", "ftp://b.example/"])
    assert urls_of(read_profiles(content)) == ["https://a.example/"]
    with pytest.raises(InvalidList, match=r'^1 entry is not valid \(line \d: It begins with "ftp:"') as refusal:
        read_profiles(content, strict=True)
    assert [reject.text for reject in refusal.value.rejects] == ["ftp://b.example/"]


def test_strict_counts_all_rejects_and_quotes_the_first_ones_but_accepts_duplicates():
    assert read_profiles(b"https://a.example/\n" * 2, strict=True).duplicates == 1
    with pytest.raises(InvalidList) as refusal:
        read_profiles(b"https://a.example/\n" + b"x\n" * 1500, strict=True)
    assert str(refusal.value).startswith("1,500 entries are not valid (line 2: ")
    assert str(refusal.value).endswith("line 4: It has no scheme; start it with https://; …).")
    assert len(refusal.value.rejects) == 1500


@in_every_format
def test_a_list_without_a_valid_address_is_refused_with_its_rejects(format):
    with pytest.raises(InvalidList, match=r"^The list has no valid address \(line \d: It ") as refusal:
        read_profiles(write(format, ["foo", "bar"]), format=format)
    assert [reject.text for reject in refusal.value.rejects] == ["foo", "bar"]


class Trickle(io.BytesIO):
    """Gives a byte at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(1)


@in_every_format
def test_a_list_comes_byte_by_byte_or_from_an_upload_that_stays_open(format):
    content = write(format, [("https://a.example/", "A")])
    upload = SimpleUploadedFile("list", content)
    assert urls_of(read_profiles(Trickle(content))) == urls_of(read_profiles(upload)) == ["https://a.example/"]
    assert not upload.closed


@pytest.mark.parametrize(
    ("name", "profiles", "duplicates"),
    [("profiles.opml", 25, 1), ("profiles.txt", 6, 1), ("profiles.csv", 5, 0), ("profiles.jsonl", 5, 0)],
)
def test_the_examples_are_read_without_a_reject(name, profiles, duplicates):
    with (EXAMPLES / name).open("rb") as file:
        result = read_profiles(file, filename=name, strict=True)
    assert (len(result.profiles), result.duplicates) == (profiles, duplicates)
    assert name != "profiles.csv" or {"Evans, Julia", 'xkcd: "a webcomic"'} <= {row.name for row in result.profiles}
