"""Lists too large for the memory: what is kept of them stays small, and the limits say what to do."""

import io
import tracemalloc

import pytest

from batches.lists import imports, source
from batches.lists.imports import InvalidList
from batches.lists.reading import FORMATS, read_profiles

from .corpus import ENTITIES, laughs


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


@pytest.mark.parametrize("format", ["text", "jsonl"])
def test_a_line_without_an_end_is_rejected_without_keeping_it(format):
    first = b'"https://a.example/"\n' if format == "jsonl" else b"https://a.example/\n"
    endless = Endless(first + b"https://b.example/", b"x", 50_000_000)
    result, peak = peak_of(lambda: read_profiles(endless, format=format))
    assert len(result.profiles) == 1
    assert [reject.line for reject in result.rejects] == [2]
    assert "is longer than" in result.rejects[0].reason
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


@pytest.mark.parametrize("format", ["text", "csv", "jsonl"])
def test_a_list_with_too_many_lines_fails(format, monkeypatch):
    monkeypatch.setattr(source, "MAX_LINES", 1000)
    head = b"url\n" if format == "csv" else b"\n"
    assert (
        refusal_of(head + b"\n" * 1000, format=format) == "The list has more than 1,000 lines; split it into several."
    )
    assert refusal_of(b"\n" * 1000, format=format).startswith("The list is empty")


def test_a_list_with_too_many_rejects_fails(monkeypatch):
    monkeypatch.setattr(imports, "MAX_REJECTS", 100)
    assert len(read_profiles(b"https://a.example/\n" + b"x\n" * 100).rejects) == 100
    refusal = refusal_of(b"https://a.example/\n" + b"x\n" * 101)
    assert refusal.startswith("More than 100 entries are not valid (line 2: ")


def test_entities_cannot_grow_before_they_are_refused():
    message, peak = peak_of(lambda: refusal_of(f'{laughs(12)}<opml><outline text="&e11;"/></opml>'.encode()))
    assert message == ENTITIES
    assert peak < 10_000_000
