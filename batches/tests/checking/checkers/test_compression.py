"""Compressed bodies: the bytes decide whatever the header says, and the output never exceeds the limit."""

import gzip
import tracemalloc
import zlib

import brotli
import pytest
import zstandard

from batches.checking.checkers.compression import STEP, Unpacked, choose_method, unpack

PLAIN = b"<rss>" + b"hello " * 50_000 + b"</rss>"
RAW_DEFLATE = zlib.compress(PLAIN, wbits=-15)
HALF = len(PLAIN) // 2

UNPACKED = {
    "gzip": ("gzip", gzip.compress(PLAIN)),
    "gzip without a header": ("", gzip.compress(PLAIN)),
    "gzip of a proxy and of its server": ("gzip, gzip", gzip.compress(gzip.compress(PLAIN))),
    "gzip in two members": ("gzip", gzip.compress(PLAIN[:HALF]) + gzip.compress(PLAIN[HALF:])),
    "gzip with bytes behind it": ("gzip", gzip.compress(PLAIN) + b"\r\n<!-- cached -->"),
    "no gzip where it says so": ("gzip", PLAIN),
    "deflate": ("deflate", zlib.compress(PLAIN)),
    "deflate without its header": ("Deflate", RAW_DEFLATE),
    "deflate with bytes behind it": ("deflate", zlib.compress(PLAIN) + b"\r\n"),
    "brotli": ("br", brotli.compress(PLAIN)),
    "zstandard": ("zstd", zstandard.compress(PLAIN)),
    "zstandard without a header": ("", zstandard.compress(PLAIN)),
    "an unknown encoding": ("UTF-8", PLAIN),
    "nothing": ("", PLAIN),
}


@pytest.mark.parametrize(("encodings", "body"), UNPACKED.values(), ids=UNPACKED)
def test_the_bytes_decide_how_a_body_is_unpacked(encodings, body):
    assert unpack(body, encodings, len(PLAIN)) == Unpacked(PLAIN)
    assert bool(choose_method(body, encodings)) is (body != PLAIN)


def test_the_end_of_a_body_is_unpacked_when_zlib_holds_back_output_of_bytes_that_it_has_taken():
    plain = b"a" * (STEP + 1)
    assert unpack(zlib.compress(plain, wbits=-15), "deflate", len(plain)) == Unpacked(plain)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "br, gzip", ""])
@pytest.mark.parametrize("body", [b"hello", b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x78\x9c"], ids=ascii)
def test_a_body_that_cannot_be_unpacked_is_unchanged(encoding, body):
    assert unpack(body, encoding, 100) == Unpacked(body)


PACKED = {"gzip": gzip.compress(PLAIN), "deflate": zlib.compress(PLAIN), "br": brotli.compress(PLAIN, quality=1)}


@pytest.mark.parametrize(("encoding", "body"), PACKED.items(), ids=list(PACKED))
def test_the_beginning_of_a_truncated_body_is_unpacked(encoding, body):
    unpacked = unpack(body[:-12], encoding, len(PLAIN))
    assert unpacked.body
    assert PLAIN.startswith(unpacked.body)


BOMBS = {
    "gzip": lambda zeros: gzip.compress(zeros, 1),
    "deflate": lambda zeros: zlib.compress(zeros, 1),
    "br": lambda zeros: brotli.compress(zeros, quality=1),
    "zstd": zstandard.compress,
    "gzip, gzip": lambda zeros: gzip.compress(gzip.compress(zeros, 1)),
}


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_bomb_is_cut_at_the_limit_and_takes_little_more_memory(encoding):
    limit, bomb = 1_000_000, BOMBS[encoding](bytes(50_000_000))
    tracemalloc.start()
    try:
        assert unpack(bomb, encoding, limit) == Unpacked(bytes(limit), is_cut=True)
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
    finally:
        tracemalloc.stop()
    assert unpack(gzip.compress(bytes(limit)), "gzip", limit) == Unpacked(bytes(limit))


def test_endless_members_are_not_all_read():
    body = gzip.compress(b"") * 200_000
    assert unpack(body, "gzip", 100) == Unpacked(body)


def test_a_stream_that_asks_for_much_memory_is_not_unpacked():
    """zstd reserves what the stream says. RFC 8878 recommends 8 MB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = stream.compress(PLAIN) + stream.flush()
    assert unpack(body, "zstd", len(PLAIN)) == Unpacked(body)
