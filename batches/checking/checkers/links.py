"""Links from strangers' documents."""

from __future__ import annotations

from urllib.parse import urljoin


def join_url(base: str, link: str) -> str:
    """`link` made absolute, or empty where one of the two cannot be read."""
    try:
        return urljoin(base, link)
    except ValueError:
        return ""
