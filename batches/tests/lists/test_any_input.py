"""Whatever bytes come in, a sound result or one sentence comes out."""

import gzip
import itertools
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.lists.addresses import normalise_address
from batches.lists.imports import ImportResult, InvalidList
from batches.lists.reading import FORMATS, read_profiles


def assert_imported_or_refused(content, format):
    try:
        result = read_profiles(content, format=format)
    except InvalidList as error:
        assert_one_sentence(str(error))
    else:
        assert_sound(result)


def assert_sound(result):
    assert isinstance(result, ImportResult)
    assert result.profiles
    assert len({profile.url for profile in result.profiles}) == len(result.profiles)
    for profile in result.profiles:
        assert normalise_address(profile.url) == profile.url
        assert_clean(profile.name)
    for reject in result.rejects:
        assert reject.line >= 1
        assert_clean(reject.text)
        assert_one_sentence(reject.reason)


def assert_one_sentence(text):
    assert re.fullmatch(r"[A-Z0-9\"].{5,1000}\.", text)


def assert_clean(text):
    assert len(text) <= 200
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text)


GOOD = {
    "text": "# list\nhttps://a.example/ü\nhttps://b.example/\n",
    "csv": 'url,name\nhttps://a.example/ü,"Ä, ""one"""\nhttps://b.example/,"two\nlines"\n',
    "jsonl": '{"url": "https://a.example/ü", "name": "Ä"}\n"https://b.example/"\n',
    "opml": '<?xml version="1.0"?>\n<opml><body>\n<outline text="Ä" xmlUrl="https://a.example/ü"/>\n<outline xmlUrl="https://b.example/"/>\n</body></opml>\n',
}
ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "latin-1",
    "cp1252",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-be",
    "utf-7",
    "cp037",
]
DAMAGE = {
    "none": lambda content: content,
    "cut in the middle": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-2],
    "first bytes missing": lambda content: content[3:],
    "NUL inside": lambda content: content[:30] + b"\x00" + content[30:],
    "every line twice quoted": lambda content: content.replace(b"https", b'"https'),
    "quotes removed": lambda content: content.replace(b'"', b""),
    "line ends removed": lambda content: content.replace(b"\n", b""),
    "lone carriage returns": lambda content: content.replace(b"\n", b"\r"),
    "doubled": lambda content: content + content,
    "compressed": gzip.compress,
    "backwards": lambda content: content[::-1],
    "escape codes": lambda content: content.replace(b"a", b"\x1b[31ma"),
    "broken UTF-8": lambda content: content.replace(b"b", b"\xc3"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_damaged_list_is_imported_or_refused(encoding, damage):
    for written, text in GOOD.items():
        content = DAMAGE[damage](text.encode(encoding))
        assert_imported_or_refused(content, written)
        assert_imported_or_refused(content, None)


@pytest.mark.parametrize(("written", "read_as"), list(itertools.permutations(FORMATS, 2)))
def test_a_list_in_another_format_is_imported_or_refused(written, read_as):
    assert_imported_or_refused(GOOD[written].encode(), read_as)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("format", FORMATS)
def test_an_undamaged_list_is_imported(format, encoding):
    result = read_profiles(GOOD[format].encode(encoding), format=format)
    assert [profile.url for profile in result.profiles] == ["https://a.example/%C3%BC", "https://b.example/"]


PUNCTUATION = [",", ";", "\t", '"', "\n", "\r", "\r\n", "{", "}", "[", "<", ">", "&", "\x00", "\ufeff"]
WORDS = ["https://a.example/", "url", "name", '{"url": "', '"}', "NaN"]
MARKUP = ["<opml>", "</opml>", '<outline xmlUrl="', '"/>', "<!DOCTYPE opml [", "]>", "<![CDATA[", "<!--", "&amp;"]
texts = st.sampled_from([*GOOD.values(), *PUNCTUATION, *WORDS, *MARKUP]) | st.text(max_size=5)
pieces = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=5)
contents = st.lists(pieces, max_size=20).map(b"".join) | st.binary(max_size=200)


@settings(max_examples=400, deadline=None)
@given(contents, st.sampled_from([*FORMATS, None]))
def test_any_bytes_are_imported_or_refused(content, format):
    assert_imported_or_refused(content, format)


scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
keys = st.sampled_from(["url", "name", "x"])


@settings(max_examples=100, deadline=None)
@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)))
def test_any_json_is_imported_or_refused(value):
    assert_imported_or_refused(b'"https://a.example/"\n' + json.dumps(value).encode(), "jsonl")
