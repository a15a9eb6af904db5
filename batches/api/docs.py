"""The description itself, for programs, and a page to read it and try it, for people. Neither needs a login.

The description tells how to ask, and nothing of what is in the database: who makes a client from it, or looks whether
this is what they need, has no token yet. What is asked from the page still needs one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .views import UTF8Only


class ErrorsInJSON(UTF8Only):
    """A view that answers otherwise than in JSON, but for the errors, which have the API's own shape."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.exception:
            response.accepted_renderer, response.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return response


class SchemaView(ErrorsInJSON, SpectacularAPIView):
    """YAML, or JSON where `Accept` asks for it."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(description())


class DocsView(ErrorsInJSON, SpectacularSwaggerSplitView):
    """Swagger UI from this server's own files: the policy of every page allows no inline script or style."""

    url_name = "api:schema"
    template_name = "batches/docs.html"


@cache
def description() -> dict[str, Any]:
    """Made once: it is the same for everybody, and anybody may ask."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return schema
