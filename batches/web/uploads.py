"""Uploaded files, for the admin and the API: the size limit of a form, and temporary storage of long lists."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, TemporaryFileUploadHandler

from batches.limits import MAX_LIST_BYTES
from batches.text import Sentence

logger = logging.getLogger(__name__)

#: The largest list, plus room for the other fields.
MAX_FORM_BYTES = MAX_LIST_BYTES + 1_000_000
NO_ROOM = Sentence(
    "The server cannot store this upload: its disk for temporary files is full. Nothing was changed. Try again later."
)


class NoRoom(SuspiciousOperation):
    """An upload cannot be stored. Django calls `handler400`, since the form is read before any view is called."""


@contextmanager
def storing(close: Callable[[], None]) -> Iterator[None]:
    """Raises NoRoom, and closes the file, if the disk is full."""
    try:
        yield
    except OSError as error:
        logger.error("An upload could not be stored: %s", error.strerror)
        with suppress(OSError):  # it tries to write the rest
            close()
        raise NoRoom(NO_ROOM) from error


class TemporaryListHandler(TemporaryFileUploadHandler):
    """Stores an upload in a temporary file, and refuses a form that is too large before it stores any of it.

    Django's own handler uses named files, which remain on the disk if the process is killed.
    """

    file: "UploadedFile[Any]"  # type: ignore[assignment]  # its file has a path

    def handle_raw_input(
        self, input_data: IO[bytes], META: Any, content_length: int, *args: Any, **kwargs: Any
    ) -> None:
        # The server never reads beyond the Content-Length, so it can be trusted.
        if content_length > MAX_FORM_BYTES:
            raise RequestDataTooBig(f"The form has {content_length:,} bytes. The maximum is {MAX_FORM_BYTES:,}.")

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        FileUploadHandler.new_file(self, *args, **kwargs)  # without the named file of the base class
        with storing(self.upload_interrupted):
            unnamed_file = TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115 — the request closes it
        self.file = UploadedFile(
            unnamed_file, self.file_name, self.content_type, 0, self.charset, self.content_type_extra
        )

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        with storing(self.upload_interrupted):
            super().receive_data_chunk(raw_data, start)

    def file_complete(self, file_size: int) -> "UploadedFile[Any] | None":
        with storing(self.upload_interrupted):
            return super().file_complete(file_size)

    def upload_interrupted(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
