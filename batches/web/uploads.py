"""Uploaded files, whichever door they come through: how large a form may be, and where a long list waits to be read."""

from __future__ import annotations

from tempfile import TemporaryFile
from typing import IO, Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler

from batches.limits import MAX_LIST_BYTES

#: Bytes of a form: the largest list that is read, and room for the rest.
MAX_FORM = MAX_LIST_BYTES + 1_000_000


class TemporaryListHandler(FileUploadHandler):
    """Writes a file to the disk, and not a byte of one that no importer would read to its end.

    Not Django's own: its files have names, and stay where they are when the process is killed.
    """

    file: UploadedFile[Any]

    def handle_raw_input(
        self, input_data: IO[bytes], META: Any, content_length: int, *args: Any, **kwargs: Any
    ) -> None:
        # Nothing behind the announced length is ever read, so it can be believed.
        if content_length > MAX_FORM:
            raise RequestDataTooBig(f"A form of {content_length:,} bytes; at most {MAX_FORM:,} are read.")

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        nameless = TemporaryFile(dir=settings.FILE_UPLOAD_TEMP_DIR)  # noqa: SIM115 — the request closes it
        self.file = UploadedFile(nameless, self.file_name, self.content_type, 0, self.charset, self.content_type_extra)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.file.write(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile[Any]:
        self.file.seek(0)
        self.file.size = file_size
        return self.file

    def upload_interrupted(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
