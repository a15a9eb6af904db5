"""Files that are written while they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from batches.lists.exports import MEDIA_TYPES

#: Lines of a file that are sent at once: a chunk for each line would be a write to the network for each.
LINES_AT_ONCE = 500


def download(lines: Iterable[str], name: str, kind: str) -> StreamingHttpResponse:
    """A file of one of the MEDIA_TYPES that is written while it is sent; `name` without its ending."""
    charset = "; charset=utf-8" if MEDIA_TYPES[kind].startswith("text/") else ""
    headers = {"Content-Disposition": content_disposition_header(True, f"{name}.{kind}") or "attachment"}
    return StreamingHttpResponse(_in_chunks(lines), content_type=MEDIA_TYPES[kind] + charset, headers=headers)


def _in_chunks(lines: Iterable[str]) -> Iterator[bytes]:
    lines = iter(lines)
    while chunk := "".join(islice(lines, LINES_AT_ONCE)):
        yield chunk.encode()
