"""Versions in the path: `/api/v1/…`. What a version promises stands in `docs/api.md`."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.versioning import NamespaceVersioning

#: The namespace of all calls, within which each version has one of its own.
ROOT = "api"


class PathVersioning(NamespaceVersioning):
    """The version is a namespace within `api`. A path without one, for curl by hand, is the default version's.

    Addresses in answers (`url`, `Location`) always name the version: whoever stores one keeps what he was promised
    when the default changes. The next page of a list is asked for in the way in which the first one was.
    """

    def determine_version(self, request: Request, *args: Any, **kwargs: Any) -> str:
        match = request.resolver_match
        if match is None or match.namespace == ROOT:
            return str(self.default_version)
        return super().determine_version(request, *args, **kwargs)

    def get_versioned_viewname(self, viewname: str, request: Request) -> str:
        return f"{ROOT}:{request.version}:{viewname.removeprefix(f'{ROOT}:')}"


def versions() -> list[str]:
    return sorted(api_settings.ALLOWED_VERSIONS or ())
