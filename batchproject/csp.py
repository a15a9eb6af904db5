"""The Content-Security-Policy of every response.

Django 6 has the same built in, with the same setting. Once Python 3.12 may be asked for, `django.middleware.csp` takes
this module's place and nothing else changes.
"""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse

#: Answers that may be Django's page for developers, which has its styles and scripts within it.
MAY_BE_DEBUG_PAGE = {HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR}


def header(policy: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(" ".join((directive, *sources)) for directive, sources in policy.items())


def content_security_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not (settings.DEBUG and response.status_code in MAY_BE_DEBUG_PAGE):
            response.headers.setdefault("Content-Security-Policy", header(settings.SECURE_CSP))
        return response

    return respond
