"""Adds the Content-Security-Policy header.

In Django 6, `django.middleware.csp` replaces this, with the same setting.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse


def content_security_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    policy = "; ".join(" ".join((directive, *sources)) for directive, sources in settings.SECURE_CSP.items())

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        # With DEBUG on, Django's error page for developers has inline styles and scripts.
        if not (settings.DEBUG and response.status_code in {404, 500}):
            response.headers["Content-Security-Policy"] = policy
        return response

    return respond
