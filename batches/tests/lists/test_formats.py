"""The result of each list: profiles with names, rejects with lines, the number of duplicates, or the refusal.

`corpus.py` has the results of hostile and unusual lists.
"""

import codecs
import csv
import io
import json
import re
import socket
import tracemalloc
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.lists import imports, source
from batches.lists.addresses import normalise_address
from batches.lists.formats import FORMATS, detect_format, read_profiles
from batches.lists.imports import InvalidList

from .corpus import EMPTY, WRITTEN, A, B, C, laughs, list_files

EXAMPLES = Path(__file__).parents[3] / "examples"


def profiles_of(content, **options):
    """The addresses with their names."""
    return list(read_profiles(content, **options).profiles.items())


def rejects_of(content, **options):
    return [(reject.line, reject.text) for reject in read_profiles(content, **options).rejects]


def refusal_of(content, **options):
    with pytest.raises(InvalidList) as refusal:
        read_profiles(content, **options)
    return refusal.value


def test_a_line_that_is_not_an_address_is_rejected_with_its_number_text_and_reason():
    lines = (b"\xef\xbb\xbfhttps://a.example/", b"", b"www.\x1b[31m\x00 " + b"x" * 500, b"https://example.com/\x81")
    for end in (b"\n", b"\r\n", b"\r"):
        result = read_profiles(end.join(lines))
        assert [(reject.line, reject.text, reject.reason) for reject in result.rejects] == [
            (3, "www. [31m " + "x" * 190, "It contains a control character (U+001B)."),
            (4, "https://example.com/\ufffd", "It contains bytes that are not UTF-8, or half of a surrogate pair."),
        ]


def test_opml_never_fetches_its_dtd():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        doctype = f'<!DOCTYPE opml SYSTEM "http://127.0.0.1:{server.getsockname()[1]}/opml.dtd">'
        text = f'{doctype}<opml><outline text="a&nbsp;b" xmlUrl="{A}"/></opml>'
        assert [url for url, _ in profiles_of(text.encode())] == [A]
        with pytest.raises(BlockingIOError):
            server.accept()


def test_every_file_is_read_or_refused_with_its_reason():
    for file in list_files():
        options = {"filename": "list.txt" if file.has_bad_name else file.name}
        if file.urls:
            assert tuple(url for url, _ in profiles_of(file.content, **options)) == file.urls, file.label
        else:
            assert file.outcome in str(refusal_of(file.content, **options)), file.label


# All formats


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


#: The beginnings of lists.
STARTS = {
    "text": [A, f"# mine, ours\n{A}", f"mine, ours\n{A}", f"{A}\nurl,name", "url list", f"<{A}>"],
    "csv": [
        *('"url"\n', "Name; URL ;note\n", "name\tlink", '"last, first";url', f'"one",{A}', f"one|{A}", "sep=^\n"),
        f"Adresse;Titel\n{A};one\n",
    ],
    "opml": ["<OPML>", "<?xml version='1.0'?>", "<!-- mine -->", f"My list: <o:opml>{A}", "<html>"],
    "jsonl": ["{", "[", f'["{A}"]', f'[[{{"url": "{A}"}}]]'],
}


@in_every_format
def test_the_content_decides_the_format_of_a_list_without_a_name(format):
    for start in ("", "\ufeff", "\n\n"):
        assert [detect_format((start + text).encode()) for text in STARTS[format]] == [format] * len(STARTS[format])
        assert profiles_of(start.encode() + write(format, [A, B])) == [(A, ""), (B, "")]


@pytest.mark.parametrize(
    ("filename", "reason"),
    [
        ("list.txt", "The list has no valid address"),
        ("Feeds.OPML", "This is not OPML"),
        ("feeds.xml", "This is not OPML"),
        ("a.b.csv", "No column contains addresses"),
        ("a.tsv", "No column contains addresses"),
        ("list.json", "This is not JSON"),
        ("list.jsonl", "This is not JSON"),
        ("/some/where/list.NDJSON", "This is not JSON"),
        ("list.dat", "The list has no valid address"),
        ("csv", "The list has no valid address"),
    ],
)
def test_the_extension_decides_and_a_given_format_before_it(filename, reason):
    assert reason in str(refusal_of(b"neither\nnor\n", filename=filename))
    assert profiles_of(A.encode(), filename=filename, format="text") == [(A, "")]


def test_an_unknown_format_is_a_programming_error():
    with pytest.raises(ValueError, match="Unknown format 'yaml'") as error:
        read_profiles(A.encode(), format="yaml")
    assert not isinstance(error.value, InvalidList)


@with_names
def test_the_first_mention_stays_with_the_first_name_that_is_not_empty(format):
    content = write(format, [(A, ""), (B, "B"), ("https://A.example", "A"), (f"{B}#x", "C"), (A, "D")])
    assert profiles_of(content) == [(A, "A"), (B, "B")]
    assert read_profiles(content, strict=True).duplicates == 3


@with_names
@pytest.mark.parametrize(
    ("written", "name"),
    [("  two\n\twords\u3000here  ", "two words here"), ("x" * 199 + " " + "y" * 100_000, "x" * 199)],
    ids=["whitespace", "long"],
)
def test_a_name_is_one_line_of_at_most_200_characters(written, name, format):
    assert profiles_of(write(format, [(A, written)])) == [(A, name)]


@pytest.mark.parametrize("format", [None, "text", "csv", "jsonl"])
@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\r\n", codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\n"])
def test_an_empty_list_is_refused(content, format):
    assert str(refusal_of(content, format=format)) == EMPTY


@in_every_format
def test_a_list_without_a_valid_address_and_a_strict_one_with_one_reject_are_refused_with_their_rejects(format):
    refusal = refusal_of(write(format, ["foo", "bar"]), format=format)
    assert re.match(r"The list has no valid address \(line \d: It ", str(refusal))
    assert [reject.text for reject in refusal.rejects] == ["foo", "bar"]

    content = write(format, [A, "ftp://b.example/"])
    assert profiles_of(content) == [(A, "")]
    refusal = refusal_of(content, strict=True)
    assert re.match(r'1 entry is not valid \(line \d: It begins with "ftp:"', str(refusal))
    assert [reject.text for reject in refusal.rejects] == ["ftp://b.example/"]


def test_a_refusal_counts_all_rejects_and_quotes_the_first_ones():
    refusal = refusal_of(f"{A}\n".encode() + b"x\n" * 1500, strict=True)
    assert str(refusal).startswith("1,500 entries are not valid (line 2: ")
    assert str(refusal).endswith("line 4: It has no scheme; start it with https://; …).")
    assert len(refusal.rejects) == 1500


class Trickle(io.BytesIO):
    """Gives a byte at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(1)


@in_every_format
def test_a_list_comes_byte_by_byte_or_from_an_upload_that_stays_open(format):
    content = write(format, [A])
    upload = SimpleUploadedFile("list", content)
    assert profiles_of(Trickle(content)) == profiles_of(upload) == [(A, "")]
    assert not upload.closed


@pytest.mark.parametrize(
    ("name", "profiles", "duplicates"),
    [("profiles.opml", 25, 1), ("profiles.txt", 6, 1), ("profiles.csv", 5, 0), ("profiles.jsonl", 5, 0)],
)
def test_the_examples_are_read_without_a_reject(name, profiles, duplicates):
    with (EXAMPLES / name).open("rb") as file:
        result = read_profiles(file, filename=name, strict=True)
    assert (len(result.profiles), result.duplicates) == (profiles, duplicates)
    assert name != "profiles.csv" or {"Evans, Julia", 'xkcd: "a webcomic"'} <= set(result.profiles.values())


# Any bytes


def assert_one_sentence(text):
    assert re.fullmatch(r"[A-Z0-9\"].{5,1000}\.", text)


def assert_clean(text):
    assert len(text) <= 200
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text)


WHOLE = [written.format(a=A, b=B, c=C, name="Größe") for written in WRITTEN.values()]
PUNCTUATION = [",", ";", "\t", '"', "\n", "\r", "\r\n", "{", "}", "[", "<", ">", "&", "\x00", "\ufeff"]
WORDS = [A, "url", "name", '{"url": "', '"}', "NaN"]
MARKUP = ["<opml>", "</opml>", '<outline xmlUrl="', '"/>', "<!DOCTYPE opml [", "]>", "<![CDATA[", "<!--", "&amp;"]
texts = st.sampled_from([*WHOLE, *PUNCTUATION, *WORDS, *MARKUP]) | st.text(max_size=5)
pieces = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=5)
scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
keys = st.sampled_from(["url", "name", "x"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
json_lines = values.map(lambda value: f'"{A}"\n'.encode() + json.dumps(value).encode())
cut_lists = st.tuples(st.sampled_from(WHOLE), st.integers(0, 200), pieces).map(
    lambda drawn: drawn[0].encode()[: drawn[1]] + drawn[2] + drawn[0].encode()[drawn[1] :]
)
contents = st.lists(pieces, max_size=20).map(b"".join) | st.binary(max_size=200) | json_lines | cut_lists


@settings(max_examples=300)
@given(contents, st.sampled_from([*FORMATS, None]))
def test_any_bytes_are_imported_or_refused_with_one_sentence(content, format):
    try:
        result = read_profiles(content, format=format)
    except InvalidList as error:
        assert_one_sentence(str(error))
        return
    assert result.profiles
    for url, name in result.profiles.items():
        assert normalise_address(url) == url
        assert_clean(name)
    for reject in result.rejects:
        assert reject.line >= 1
        assert_clean(reject.text)
        assert_one_sentence(reject.reason)


# Lists too large for the memory


class Endless(io.RawIOBase):
    """`head`, then `pattern` again and again: `total` bytes in all, made as they are read."""

    def __init__(self, head, pattern, total):
        self.head, self.pattern, self.left = head, pattern * (1_000_000 // len(pattern)), total

    def read(self, size=-1):
        piece = (self.head or self.pattern)[: min(size, self.left)]
        self.head = self.head[len(piece) :]
        self.left -= len(piece)
        return piece


LONG = "It is longer than 1,000,000 characters."
HIDES = "The comment that begins here has no end; it hides the rest of the list."
LONG_FIELD = "It has a field of more than 131,072 characters."
OUTLINE_A = f'<outline xmlUrl="{A}"/>'
#: Format, start, what follows again and again, reason, and memory in MB. A value of JSON may have 4 MB.
GROWING = {
    "a CSV line": ("csv", f"url\n{A}\n{B},", "x", LONG_FIELD, 10),
    "a CSV line of fields": ("csv", f"url\n{A}\n{B}", ",x", LONG, 10),
    "a value": ("jsonl", f'[\n"{A}",\n"', "x", "It is longer than 4,000,000 characters.", 30),
    "an attribute": ("opml", f'<opml>{OUTLINE_A}\n<outline text="', "x", LONG, 10),
    "attributes": ("opml", f"<opml>{OUTLINE_A}\n<outline ", "x='y' ", LONG, 10),
    "a comment": ("opml", f"<opml>{OUTLINE_A}\n<!--", "x", HIDES, 10),
    "an entity": ("opml", f"{laughs(12)}<opml>{OUTLINE_A}\n<outline xmlUrl='&e11;", "&e11;", LONG, 10),
}


@pytest.mark.parametrize("kind", GROWING)
def test_endless_input_is_rejected_without_keeping_it(kind):
    format, head, pattern, reason, megabytes = GROWING[kind]
    tracemalloc.start()
    try:
        result = read_profiles(Endless(head.encode(), pattern.encode(), 30_000_000), format=format)
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1_000_000
    finally:
        tracemalloc.stop()
    assert list(result.profiles) == [A]
    assert result.rejects[0].reason == reason


@in_every_format
def test_a_list_over_the_limit_fails_and_is_not_read_further(format, monkeypatch):
    monkeypatch.setattr(source, "MAX_LIST_BYTES", 1_000_000)
    head = {"csv": b"url\n", "opml": b"<opml>", "jsonl": f'"{A}"\n'.encode()}.get(format, b"")
    endless = Endless(head, b" " * 99 + b"\n", 10_000_000_000)
    assert str(refusal_of(endless, format=format)) == "The list is larger than 1 MB; split it into several."
    assert endless.left > 9_998_000_000


def test_a_list_at_its_limits_is_read_and_one_over_them_fails(monkeypatch):
    monkeypatch.setattr(source, "MAX_LIST_BYTES", 1_000_000)
    whole = Endless(f"{A}\n".encode(), b" " * 99 + b"\n", 1_000_000)
    assert profiles_of(whole, format="text") == [(A, "")]

    monkeypatch.setattr(source, "MAX_LINES", 1000)
    for format in ("text", "jsonl"):
        sentence = "The list has more than 1,000 lines; split it into several."
        assert str(refusal_of(b'"x"\n' * 1001, format=format)) == sentence
    assert str(refusal_of(b"\n" * 1000)) == EMPTY

    monkeypatch.setattr(imports, "MAX_REJECTS", 100)
    assert len(rejects_of(f"{A}\n".encode() + b"x\n" * 100)) == 100
    refusal = refusal_of(f"{A}\n".encode() + b"x\n" * 101)
    assert str(refusal).startswith("More than 100 entries are not valid (line 2: ")
