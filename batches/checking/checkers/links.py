"""Links from strangers' documents."""

from __future__ import annotations

from urllib.parse import urljoin


def join_url(base: str, link: str) -> str:
    """Make `link` absolute. Returns "" if one of the two is not valid."""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""
