"""Whatever bytes come in, a sound result or one sentence comes out."""

import gzip
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.lists.addresses import normalise_address
from batches.lists.imports import InvalidList
from batches.lists.reading import FORMATS, read_profiles

from .corpus import ALL, ENCODINGS, WRITTEN


def assert_imported_or_refused(content, format):
    try:
        result = read_profiles(content, format=format)
    except InvalidList as error:
        assert_one_sentence(str(error))
        return
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


LISTS = [written.format(a=ALL[0], b=ALL[1], c=ALL[2], name="Größe") for written in WRITTEN.values()]
DAMAGE = {
    "cut in the middle": lambda content: content[: len(content) // 2],
    "last bytes missing": lambda content: content[:-2],
    "first bytes missing": lambda content: content[3:],
    "NUL inside": lambda content: content[:30] + b"\x00" + content[30:],
    "a quote in every line": lambda content: content.replace(b"https", b'"https'),
    "quotes removed": lambda content: content.replace(b'"', b""),
    "line ends removed": lambda content: content.replace(b"\n", b""),
    "doubled": lambda content: content + content,
    "compressed": gzip.compress,
    "backwards": lambda content: content[::-1],
    "escape codes": lambda content: content.replace(b"a", b"\x1b[31ma"),
    "broken UTF-8": lambda content: content.replace(b"b", b"\xc3"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_list_is_imported_or_refused_in_every_format(damage):
    for encoding, *_ in ENCODINGS:
        for text in LISTS:
            for format in (*FORMATS, None):
                assert_imported_or_refused(DAMAGE[damage](text.encode(encoding, "replace")), format)


PUNCTUATION = [",", ";", "\t", '"', "\n", "\r", "\r\n", "{", "}", "[", "<", ">", "&", "\x00", "\ufeff"]
WORDS = ["https://a.example/", "url", "name", '{"url": "', '"}', "NaN"]
MARKUP = ["<opml>", "</opml>", '<outline xmlUrl="', '"/>', "<!DOCTYPE opml [", "]>", "<![CDATA[", "<!--", "&amp;"]
texts = st.sampled_from([*LISTS, *PUNCTUATION, *WORDS, *MARKUP]) | st.text(max_size=5)
pieces = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=5)
contents = st.lists(pieces, max_size=20).map(b"".join) | st.binary(max_size=200)


@settings(max_examples=200, deadline=None)
@given(contents, st.sampled_from([*FORMATS, None]))
def test_any_bytes_are_imported_or_refused(content, format):
    assert_imported_or_refused(content, format)


scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
keys = st.sampled_from(["url", "name", "x"])


@settings(max_examples=100, deadline=None)
@given(st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)))
def test_any_json_is_imported_or_refused(value):
    assert_imported_or_refused(b'"https://a.example/"\n' + json.dumps(value).encode(), "jsonl")
