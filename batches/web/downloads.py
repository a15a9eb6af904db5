"""File downloads, streamed while they are written."""

from collections.abc import Iterable, Iterator
from itertools import islice
from unicodedata import normalize

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.utils.text import slugify

from batches.lists.exports import MEDIA_TYPES
from batches.models import Batch, ProfileList

#: Lines per chunk: each chunk is a write to the network.
CHUNK_LINES = 500
#: Maximum characters of a name in a file name.
MAX_SLUG = 60


def name_download(row: Batch | ProfileList, part: str = "") -> str:
    """The file name for a batch or a list, or a part of it: "press-failed-8e03978e".

    Runs of a list have the same name.
    """
    name = slugify(row.name, allow_unicode=True)[:MAX_SLUG] or row._meta.model_name
    return "-".join(filter(None, (name, part, str(row.pk)[:8])))


def stream_download(lines: Iterable[str], name: str, kind: str) -> StreamingHttpResponse:
    """Stream a file of one of the MEDIA_TYPES; `name` comes without the extension."""
    charset = "; charset=utf-8" if MEDIA_TYPES[kind].startswith("text/") else ""
    headers = {"Content-Disposition": describe_file(f"{name}.{kind}")}
    return StreamingHttpResponse(_join_chunks(lines), content_type=MEDIA_TYPES[kind] + charset, headers=headers)


def describe_file(name: str) -> str:
    """The header with the file name. A name with other letters gets an additional one in ASCII, for `curl -OJ`."""
    header = content_disposition_header(True, name) or "attachment"
    if name.isascii():
        return header
    plain = normalize("NFKD", name).encode("ascii", "ignore").decode().lstrip("-")
    return f'attachment; filename="{plain}"; {header.removeprefix("attachment; ")}'


def _join_chunks(lines: Iterable[str]) -> Iterator[bytes]:
    lines = iter(lines)
    while chunk := "".join(islice(lines, CHUNK_LINES)):
        yield chunk.encode()
