"""Limits the attempts to log in, by address and by name, before the password is hashed, which takes a third of a
second.

It covers the login pages of all admin sites and of django-allauth, by the names of their URLs. A correct password
does not count. The limits work like the API's, with their own rate. They do not affect sessions and tokens, so a
user who has to wait stays logged in on other devices.
"""

import math
from collections.abc import Callable
from hashlib import sha256
from threading import Lock
from typing import Any
from unicodedata import normalize

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from batches.api.throttling import ConfiguredThrottle

#: The URL names of the pages that ask for a password, each with its field for the name of the account.
NAME_FIELDS = {"login": "username", "account_login": "login"}
#: Held while a throttle reads its counts and writes them back.
ONE_AT_A_TIME = Lock()


class LoginThrottle(ConfiguredThrottle):
    key = "login_rate"
    duration: int

    def forget(self) -> None:
        """Do not count this attempt."""
        with ONE_AT_A_TIME:
            attempts = self.cache.get(self.key, []) if self.rate else []
            if attempts and self.now in attempts:
                attempts.remove(self.now)
                self.cache.set(self.key, attempts, self.duration)


class LoginAddressThrottle(LoginThrottle):
    scope = "batches_login_address"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"{self.scope}/{self.get_ident(request)}"


class LoginNameThrottle(LoginThrottle):
    scope = "batches_login_name"

    def get_cache_key(self, request: Any, view: Any) -> str:
        field = NAME_FIELDS[request.resolver_match.url_name]
        name = normalize("NFKC", request.POST.get(field, "")).strip().casefold()
        return f"{self.scope}/{sha256(name.encode(errors='replace')).hexdigest()}"  # caches do not accept all texts


class LoginThrottleMiddleware(MiddlewareMixin):
    """Refuses further attempts with 429. Put it behind CsrfViewMiddleware, so that other sites' forms do not count."""

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        if request.method != "POST" or match is None or match.url_name not in NAME_FIELDS:
            return None
        counted = request.login_throttles = []  # type: ignore[attr-defined]
        # By address first: a refused address does not use up the attempts of a name.
        for throttle in (LoginAddressThrottle(), LoginNameThrottle()):
            with ONE_AT_A_TIME:
                is_allowed = throttle.allow_request(request, None)  # type: ignore[arg-type]
            if not is_allowed:
                return refuse(request, math.ceil(throttle.wait() or 1))
            counted.append(throttle)
        return None

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        # A wrong password leads to the form again, even for somebody who is already logged in.
        if isinstance(response, HttpResponseRedirect):
            for throttle in getattr(request, "login_throttles", ()):
                throttle.forget()
        return response


def refuse(request: HttpRequest, seconds: int) -> HttpResponse:
    response = render(None, "429.html", {"seconds": seconds}, status=429)
    response["Retry-After"] = str(seconds)
    return response
