"""What all views of the API have in common, whatever the `REST_FRAMEWORK` of the project says."""

from codecs import getreader
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.utils.translation import override
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.settings import APISettings
from rest_framework.utils import json
from rest_framework.views import APIView

from .access import BatchPermissions, TokenAuthentication
from .errors import exception_handler
from .filters import StrictFilterBackend, refuse_unusable
from .schema import CallSchema
from .throttling import AddressThrottle, UserThrottle
from .versioning import PathVersioning

UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


class Parser(JSONParser):
    """Refuses NaN, and repeated keys: Python would ignore the first value."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            text: Any = getreader("utf-8")(stream)
            return json.load(text, object_pairs_hook=refuse_duplicates)
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from error


def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key[:50]!r} is given more than once")
    return values


class Renderer(JSONRenderer):
    strict = compact = True
    ensure_ascii = False


class Negotiation(DefaultContentNegotiation):
    #: `?format=` is an unknown parameter like any other.
    settings: Any = APISettings({"URL_FORMAT_OVERRIDE": None})  # type: ignore[arg-type]


class BaseView(APIView):
    """Accepts UTF-8 only, throttles before it checks permissions, and speaks English in any language of the request."""

    authentication_classes: Any = (TokenAuthentication, SessionAuthentication)
    content_negotiation_class = Negotiation
    filter_backends: Any = (StrictFilterBackend,)
    #: The actions whose query parameters are filters. The others take none.
    filtered = frozenset({"list", "export"})
    metadata_class = None
    parser_classes = (Parser,)
    permission_classes: Any = (BatchPermissions,)
    required_permissions: Mapping[str, Any] = {}
    renderer_classes: Any = (Renderer,)
    schema: Any = CallSchema()
    throttle_classes = (UserThrottle, AddressThrottle)
    versioning_class = PathVersioning

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with override("en"):
            response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
            response.headers["Content-Language"] = "en"
            return response.render() if isinstance(response, SimpleTemplateResponse) else response

    def get_exception_handler(self) -> Callable[..., Any]:
        return exception_handler

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Django would decode the form and the query with any codec that the request names, even zlib or rot13.
        if (request._request.encoding or "utf-8").lower() not in UTF8:
            raise UnsupportedMediaType(request.content_type)
        super().initial(request, *args, **kwargs)
        if getattr(self, "action", None) in self.required_permissions.keys() - self.filtered:
            refuse_unusable(request.query_params, {})

    def perform_authentication(self, request: Request) -> None:
        try:
            super().perform_authentication(request)
        finally:  # requests that end with 401 or 403 count, too: somebody may be guessing tokens
            super().check_throttles(request)

    def check_throttles(self, request: Request) -> None:
        """Already done by perform_authentication."""

    def render_current(self, pk: str) -> dict[str, Any]:
        """The current state of the object in the address, for a refusal."""
        return {}


class OpenView(BaseView):
    """A view for everybody, which is not in the description."""

    authentication_classes = ()
    permission_classes = ()
    schema = None
