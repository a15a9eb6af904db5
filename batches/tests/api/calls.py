"""The API's calls as the resolver has them: what a test goes over, so that no new one is forgotten."""

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver

from batches.api.docs import DocsView, SchemaView
from batches.api.urls import urlpatterns
from batches.api.views import NothingHere

#: They ask nobody who he is, say nothing of what is in the database, and know no way to write.
OPEN = (DocsView, NothingHere, SchemaView)


def api_routes() -> Iterator[tuple[str, str]]:
    """Each (method, name of the call) below /api/, such as ("post", "batch-pause"). The OPEN ones are left out."""
    for pattern in patterns(urlpatterns):
        view = pattern.callback.cls
        # DRF adds the HEAD of a GET when a call is first made. A view that is no viewset has methods of its own.
        methods = getattr(pattern.callback, "actions", None) or {
            method for method in view.http_method_names if hasattr(view, method)
        }
        if not issubclass(view, OPEN):
            yield from ((method, str(pattern.name)) for method in methods if method not in {"head", "options"})


def patterns(entries) -> Iterator[URLPattern]:
    for entry in entries:
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns)
        else:
            yield entry
