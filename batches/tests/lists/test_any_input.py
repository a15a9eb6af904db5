"""Whatever bytes come in, and however many: a sound result or one sentence comes out, and little is kept."""

import io
import json
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches.lists import imports, source
from batches.lists.addresses import normalise_address
from batches.lists.imports import InvalidList
from batches.lists.reading import FORMATS, read_profiles

from .corpus import ALL, ENTITIES, WRITTEN, laughs


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
    "NUL inside": lambda content: content[:30] + b"\x00" + content[30:],
    "a quote in every line": lambda content: content.replace(b"https", b'"https'),
    "line ends removed": lambda content: content.replace(b"\n", b""),
    "backwards": lambda content: content[::-1],
    "escape codes": lambda content: content.replace(b"a", b"\x1b[31ma"),
    "broken UTF-8": lambda content: content.replace(b"b", b"\xc3"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_list_is_imported_or_refused_in_every_format(damage):
    for encoding in ("utf-8", "utf-16", "cp1251"):
        for text in LISTS:
            for format in (*FORMATS, None):
                assert_imported_or_refused(DAMAGE[damage](text.encode(encoding, "replace")), format)


PUNCTUATION = [",", ";", "\t", '"', "\n", "\r", "\r\n", "{", "}", "[", "<", ">", "&", "\x00", "\ufeff"]
WORDS = ["https://a.example/", "url", "name", '{"url": "', '"}', "NaN"]
MARKUP = ["<opml>", "</opml>", '<outline xmlUrl="', '"/>', "<!DOCTYPE opml [", "]>", "<![CDATA[", "<!--", "&amp;"]
texts = st.sampled_from([*LISTS, *PUNCTUATION, *WORDS, *MARKUP]) | st.text(max_size=5)
pieces = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=5)
scalars = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
keys = st.sampled_from(["url", "name", "x"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
json_lines = values.map(lambda value: b'"https://a.example/"\n' + json.dumps(value).encode())
contents = st.lists(pieces, max_size=20).map(b"".join) | st.binary(max_size=200) | json_lines


@settings(max_examples=300, deadline=None)
@given(contents, st.sampled_from([*FORMATS, None]))
def test_any_bytes_are_imported_or_refused(content, format):
    assert_imported_or_refused(content, format)


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


def refusal_of(content, **options):
    with pytest.raises(InvalidList) as error:
        read_profiles(content, **options)
    return str(error.value)


def peak_of(reading):
    tracemalloc.start()
    try:
        return reading(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_line_without_an_end_is_rejected_without_keeping_it():
    endless = Endless(b'"https://a.example/"\n"https://b.example/', b"x", 50_000_000)
    result, peak = peak_of(lambda: read_profiles(endless, format="jsonl"))
    assert [(reject.line, reject.reason) for reject in result.rejects] == [
        (2, "It is longer than 1,000,000 characters.")
    ]
    assert peak < 10_000_000


def test_a_csv_line_without_an_end_fails_without_keeping_it():
    endless = Endless(b"url\nhttps://a.example/,", b"x", 50_000_000)
    message, peak = peak_of(lambda: refusal_of(endless))
    assert message == "Line 2 is longer than 1,000,000 characters."
    assert peak < 10_000_000


@pytest.mark.parametrize("format", FORMATS)
def test_a_list_over_the_limit_fails_and_is_not_read_further(format, monkeypatch):
    monkeypatch.setattr(source, "MAX_LIST_BYTES", 1_000_000)
    head = {"csv": b"url\n", "opml": b"<opml>", "jsonl": b'"https://a.example/"\n'}.get(format, b"")
    endless = Endless(head, b" " * 99 + b"\n", 10_000_000_000)
    assert refusal_of(endless, format=format) == "The list is larger than 1 MB; split it into several."
    assert endless.left > 9_998_000_000


def test_a_list_of_exactly_the_limit_is_read(monkeypatch):
    monkeypatch.setattr(source, "MAX_LIST_BYTES", 1_000_000)
    endless = Endless(b"https://a.example/\n", b" " * 99 + b"\n", 1_000_000)
    assert len(read_profiles(endless, format="text").profiles) == 1


def test_a_list_with_too_many_lines_fails(monkeypatch):
    monkeypatch.setattr(source, "MAX_LINES", 1000)
    assert refusal_of(b"\n" * 1001) == "The list has more than 1,000 lines; split it into several."
    assert refusal_of(b"\n" * 1000).startswith("The list is empty")


def test_a_list_with_too_many_rejects_fails(monkeypatch):
    monkeypatch.setattr(imports, "MAX_REJECTS", 100)
    assert len(read_profiles(b"https://a.example/\n" + b"x\n" * 100).rejects) == 100
    refusal = refusal_of(b"https://a.example/\n" + b"x\n" * 101)
    assert refusal.startswith("More than 100 entries are not valid (line 2: ")


def test_entities_cannot_grow_before_they_are_refused():
    message, peak = peak_of(lambda: refusal_of(f'{laughs(12)}<opml><outline text="&e11;"/></opml>'.encode()))
    assert message == ENTITIES
    assert peak < 10_000_000
