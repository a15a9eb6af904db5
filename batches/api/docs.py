"""The OpenAPI description, for programs, and a page to read and try it, for people. Neither needs a login.

The description contains nothing from the database, and its readers may not have a token yet. Calls from the page need
one.
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

from .base import BaseView


class ErrorsInJSON(BaseView):
    """A view that does not answer in JSON, except for errors, which have the API's own shape."""

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.exception:
            response.accepted_renderer, response.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return response


class SchemaView(ErrorsInJSON, SpectacularAPIView):
    """YAML, or JSON if `Accept` asks for it."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(describe_api())


class DocsView(ErrorsInJSON, SpectacularSwaggerSplitView):
    """Swagger UI with static files only: the content security policy allows no inline script or style."""

    url_name = "batches_api:schema"
    template_name = "batches/docs.html"


@cache
def describe_api() -> dict[str, Any]:
    """Made once: the description is the same for everybody."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return schema
