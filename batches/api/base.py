"""What all views of the API have in common."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.views import APIView

UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


class BaseView(APIView):
    """Accepts UTF-8 only, and throttles before it checks permissions."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Django would decode the form and the query with any codec that the request names, even zlib or rot13.
        if (request._request.encoding or "utf-8").lower() not in UTF8:
            raise UnsupportedMediaType(request.content_type)
        super().initial(request, *args, **kwargs)

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        finally:  # requests that end with 401 or 403 count too: somebody may be guessing tokens
            super().check_throttles(request)

    def check_throttles(self, request: Request) -> None:
        """Already done by perform_authentication."""
