"""Decompresses bodies according to their bytes rather than the header, and never to more than a limit."""

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import brotli
import zstandard

GZIP, ZSTANDARD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
# "gzip, gzip" exists: some proxies compress a compressed body again.
MAX_LAYERS = 2
# Some servers send a gzip member for each part of a page. Endless empty members would only cost time.
MAX_MEMBERS = 100
# A zstd stream can demand up to 2 GB of memory. RFC 8878 recommends supporting 8 MB.
MAX_WINDOW = 8 * 1024 * 1024
STEP = 64 * 1024

ERRORS = (zlib.error, brotli.error, zstandard.ZstdError)


class Unpacked(NamedTuple):
    body: bytes
    is_cut: bool = False  # the rest is beyond the limit


def unpack(body: bytes, encodings: str, limit: int) -> Unpacked:
    """Decompress a body, whatever the Content-Encoding header (`encodings`) says.

    A body that contradicts the header is returned unchanged. Of a damaged or truncated body, the part before the fault
    is returned. Bytes after the end are left out.
    """
    result = Unpacked(body)
    for layer in range(MAX_LAYERS):
        method = choose_method(result.body, "" if layer else encodings)
        unpacked = collect(method(result.body), limit) if method else None
        if not unpacked or not unpacked.body:
            break
        result = unpacked
    return result


def choose_method(body: bytes, encodings: str) -> Callable[[bytes], Iterator[bytes]] | None:
    """The function that decompresses the body; None if it is not compressed."""
    if body.startswith((b"<", b"{")):  # a document, whatever the header says
        return None
    if body.startswith(GZIP):
        return unpack_gzip
    if body.startswith(ZSTANDARD):
        return unpack_zstandard
    if not encodings:
        return None
    if "deflate" in encodings.lower():
        return unpack_deflate
    return unpack_brotli if "br" in encodings.lower() else None


def collect(pieces: Iterator[bytes], limit: int) -> Unpacked:
    """Join the pieces until the limit, or until something is wrong with them."""
    body = bytearray()
    try:
        for piece in pieces:
            body += piece
            if len(body) > limit:
                return Unpacked(bytes(body[:limit]), is_cut=True)
    except ERRORS:
        pass
    return Unpacked(bytes(body))


def unpack_gzip(body: bytes) -> Iterator[bytes]:
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        yield from _inflate(member, body)
        body = member.unused_data
        if not body.startswith(GZIP):
            break


def unpack_deflate(body: bytes) -> Iterator[bytes]:
    """With a zlib header, as the standard says, or without one, as some servers send it."""
    has_header = len(body) > 1 and body[0] & 15 == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
    yield from _inflate(zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS), body)


def _inflate(stream: "zlib._Decompress", body: bytes) -> Iterator[bytes]:
    while not stream.eof:  # without any bytes left, the stream may still hold back output
        piece = stream.decompress(body, STEP)
        if not piece and not stream.unconsumed_tail:
            break
        yield piece
        body = stream.unconsumed_tail


def unpack_brotli(body: bytes) -> Iterator[bytes]:
    stream = brotli.Decompressor()
    yield stream.process(body, output_buffer_limit=STEP)
    while not stream.is_finished() and (piece := stream.process(b"", output_buffer_limit=STEP)):
        yield piece


def unpack_zstandard(body: bytes) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(body, read_across_frames=True) as stream:
        while piece := stream.read(STEP):
            yield piece
