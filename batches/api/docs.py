"""The OpenAPI description, for programs, and a page to read and try it, for people. Neither needs a login.

The description contains nothing from the database, and its readers may not have a token yet. Calls from the page need
a token.
"""

from functools import cache
from threading import Lock
from typing import Any

from django.conf import settings
from django.urls import include, path, reverse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings
from drf_spectacular.views import SpectacularAPIView
from rest_framework.renderers import TemplateHTMLRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from .base import OpenView
from .schema import PATH_PREFIX

#: For drf-spectacular, while it makes the description. The project's own SPECTACULAR_SETTINGS are for its own API.
SETTINGS = {
    "TITLE": "batches",
    "DESCRIPTION": (
        "Batches of public profiles wait in one queue. One batch at a time is checked for profiles that respond and "
        "for new stories.\n\n"
        "Create a token with `batches token create USER` and send it as `Authorization: Token …`. "
        "A session needs the CSRF token in `X-CSRFToken` for every change. "
        "Calls refuse unknown fields and query parameters. All errors have one shape."
    ),
    "VERSION": "1",
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "OAS_VERSION": "3.1.0",
    "TAGS": [
        {"name": "batches", "description": "Batches and their results."},
        {"name": "queue", "description": "The one queue."},
        {"name": "lists", "description": "Lists of profiles. A batch is one run of a list, or of chosen profiles."},
        {"name": "feeds", "description": "Feeds of the new stories of lists, for readers without an account."},
        {"name": "profiles", "description": "The profiles of all batches."},
        {"name": "stories", "description": "The stories that all batches found."},
    ],
    "SCHEMA_PATH_PREFIX": PATH_PREFIX,
    "COMPONENT_SPLIT_REQUEST": True,
    "COMPONENT_SPLIT_PATCH": False,
    "SORT_OPERATION_PARAMETERS": False,
    "ENUM_NAME_OVERRIDES": {
        "BatchStatus": "batches.models.Batch.Status",
        "ResultStatus": "batches.models.BatchProfile.Status",
        "Channel": "batches.models.Channel",
        "SubscriptionChannel": "batches.models.Subscription.Channel",
        "Topic": "batches.models.Subscription.Topic",
    },
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_SUFFIX": "",
    "PREPROCESSING_HOOKS": ["batches.api.schema.only_of_this_app"],
}


#: The settings are patched for the whole process.
LOCK = Lock()


class SchemaView(OpenView):
    """YAML, or JSON if `Accept` asks for it."""

    renderer_classes = SpectacularAPIView.renderer_classes

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return Response(describe_api(reverse("batches_api:batch-list").removesuffix("batches/")))


class DocsView(OpenView):
    """Swagger UI from static files, since the content security policy forbids inline scripts and styles."""

    renderer_classes = (TemplateHTMLRenderer,)

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        header = settings.CSRF_HEADER_NAME.removeprefix("HTTP_").replace("_", "-")
        return Response({"title": SETTINGS["TITLE"], "csrf_header": header}, template_name="batches/docs.html")


@cache
def describe_api(root: str) -> dict[str, Any]:
    """The description, which is the same for everybody. It is generated once for each path of the site."""
    with LOCK, patched_settings(SETTINGS):
        patterns = [path(root.removeprefix("/"), include("batches.api.urls"))]
        generator: Any = SchemaGenerator(patterns=patterns)  # type: ignore[no-untyped-call]
        schema: dict[str, Any] = generator.get_schema(request=None, public=True)
    return schema
