"""Versions in the path: `/api/v1/…`. docs/reference/api.md says what a version promises."""

from typing import Any

from rest_framework.request import Request
from rest_framework.versioning import NamespaceVersioning

#: The namespace of all calls; a project may have its own `api`. Each version has a namespace within it.
ROOT = "batches_api"


class PathVersioning(NamespaceVersioning):
    """The version is a namespace within ROOT. A path without a version, for people with curl, uses the default version.

    Addresses in responses (`url`, `Location`) always contain the version, so a stored address keeps its meaning when
    the default changes. `next` has the form of the request.
    """

    default_version = "v1"
    allowed_versions = ("v1",)

    def determine_version(self, request: Request, *args: Any, **kwargs: Any) -> str:
        match = request.resolver_match
        if match is None or match.namespace == ROOT:
            return str(self.default_version)
        return super().determine_version(request, *args, **kwargs)

    def get_versioned_viewname(self, viewname: str, request: Request) -> str:
        return f"{ROOT}:{request.version}:{viewname.removeprefix(f'{ROOT}:')}"
