"""Request bodies: JSON, whose size `DATA_UPLOAD_MAX_MEMORY_SIZE` bounds, and forms with a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import DataAndFiles, JSONParser, MultiPartParser

from batches.importers import MAX_BYTES

#: Bytes of a form: the largest list that is read, and room for the rest.
MAX_FORM = MAX_BYTES + 1_000_000


class TooLarge(APIException):
    status_code = 413
    default_detail = "The request is too large. Send a long list of profiles as a file, a very long one as several."
    default_code = "too_large"


class JSONBody(JSONParser):
    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("JSON parse error - it is nested too deep.") from error


class FormBody(MultiPartParser):
    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> DataAndFiles[Any, Any]:
        # Before a byte of it is stored. Nothing behind the announced length is ever read, so it can be believed.
        if parser_context and int(parser_context["request"].META["CONTENT_LENGTH"]) > MAX_FORM:
            raise TooLarge
        return super().parse(stream, media_type, parser_context)
