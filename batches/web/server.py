"""Runs waitress without storing large bodies of strangers: `python -m batches.web.server`, with the options of
waitress.

waitress stores a body before the application can check its sender, even without a Content-Length. So the body of a
request without credentials has to be small. Credentials can be invented, so all large bodies together have a limit.
"""

import sys
from contextlib import suppress
from copy import copy
from shutil import disk_usage
from tempfile import gettempdir
from typing import Any, ClassVar
from weakref import WeakSet

from django.conf import settings
from waitress.buffers import OverflowableBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.runner import run
from waitress.task import WSGITask
from waitress.utilities import Error, RequestEntityTooLarge

from .stack import with_room_on_stack
from .uploads import MAX_FORM_BYTES, NO_ROOM, NoRoom, storing

#: Bytes, enough for the login form.
MAX_BYTES_OF_STRANGERS = 1_000_000
MAX_BYTES_OF_ALL = 5 * MAX_FORM_BYTES
#: Bytes of a response that wait in memory while the disk for temporary files has less than its reserve.
MAX_BYTES_IN_MEMORY = 1_000_000
RESERVE_ON_DISK = 10_000_000


class Busy(Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


class Body(OverflowableBuffer):  # type: ignore[misc]
    """Drops a body that does not fit onto the disk: a sender who cannot finish sending would not read the response."""

    is_lost = False

    def append(self, data: bytes) -> None:
        if not self.is_lost:
            with suppress(NoRoom), storing(self.close):
                super().append(data)
                return
            self.is_lost = True


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads one request. Only one thread reads, so the sum of the stored bytes is exact."""

    adj: Any
    error: Any
    storing: ClassVar["WeakSet[Parser]"] = WeakSet()

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if not self.has_credentials:
            self.adj = copy(self.adj)
            self.adj.max_request_body_size = min(MAX_BYTES_OF_STRANGERS, self.adj.max_request_body_size)
        if self.body_rcv is not None:
            self.body_rcv.buf = Body(self.adj.inbuf_overflow)
            self.storing.add(self)

    @property
    def has_credentials(self) -> bool:
        cookie = f"{settings.SESSION_COOKIE_NAME}="
        return "AUTHORIZATION" in self.headers or cookie in self.headers.get("COOKIE", "")

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        if isinstance(self.error, RequestEntityTooLarge) and not self.has_credentials:
            self.error = RequestEntityTooLarge("Log in, or send a token, before you upload a list.")
        elif self.body_bytes_received > MAX_BYTES_OF_STRANGERS and self.stored_by_all() > MAX_BYTES_OF_ALL:
            self.error, self.completed = Busy("Too many uploads at the same time. Try again in a minute."), True
        elif self.completed and self.body_rcv is not None and self.body_rcv.buf.is_lost:
            self.error = Busy(NO_ROOM)
        return consumed

    @classmethod
    def stored_by_all(cls) -> int:
        return sum(parser.body_bytes_received for parser in cls.storing)


class Task(WSGITask):  # type: ignore[misc]
    """Sends no body in response to HEAD, which Django leaves to the server: it would be read as the next response."""

    @with_room_on_stack
    def execute(self) -> None:
        super().execute()

    def write(self, data: bytes) -> None:
        has_body = self.request.command != "HEAD"
        if not has_room(len(data)):
            self.wait_for_reader()
        super().write(data if has_body else b"")
        self.chunked_response &= has_body

    def wait_for_reader(self) -> None:
        """Let the rest of the response wait in memory, and this thread wait before that is too much."""
        adj = self.channel.adj = copy(self.channel.adj)
        adj.outbuf_overflow, adj.outbuf_high_watermark = sys.maxsize, MAX_BYTES_IN_MEMORY
        self.channel.current_outbuf_count = MAX_BYTES_IN_MEMORY  # the next bytes begin another buffer


def has_room(size: int) -> bool:
    """Whether a temporary file of this size fits on the disk: a response that does not fit would be cut."""
    try:
        return disk_usage(gettempdir()).free > size + RESERVE_ON_DISK
    except OSError:  # no directory can be written
        return False


def main() -> int:
    HTTPChannel.parser_class, HTTPChannel.task_class = Parser, Task
    return int(run(sys.argv))


if __name__ == "__main__":
    sys.exit(main())
