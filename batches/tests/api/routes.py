"""The API's calls as the resolver has them: what a test goes over, so that no new one is forgotten."""

from collections.abc import Iterator

from django.urls import URLPattern, URLResolver, get_resolver


def api_routes() -> Iterator[tuple[str, str]]:
    """Each (method, name of the call) below /api/, such as ("post", "batch-pause")."""
    for pattern in patterns(get_resolver().url_patterns):
        actions = getattr(pattern.callback, "actions", None) or {}
        # DRF adds the HEAD of a GET when a call is first made.
        yield from ((method, str(pattern.name)) for method in actions if method != "head")


def patterns(entries) -> Iterator[URLPattern]:
    for entry in entries:
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns)
        else:
            yield entry
