"""Adds the Content-Security-Policy header to every response.

Django 6 has this built in, with the same setting: switch to `django.middleware.csp` once Django 5.2 is no longer
supported. Until then these lines are smaller than django-csp (800 lines, and a setting of its own).
"""

from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse

#: With DEBUG on, Django answers these with a page for developers that has inline styles and scripts.
DEBUG_PAGES = {HTTPStatus.NOT_FOUND, HTTPStatus.INTERNAL_SERVER_ERROR}


def content_security_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    policy = "; ".join(" ".join((directive, *sources)) for directive, sources in settings.SECURE_CSP.items())

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not (settings.DEBUG and response.status_code in DEBUG_PAGES):
            response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return respond
