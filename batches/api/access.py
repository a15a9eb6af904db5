"""Who may call what: tokens, and the permissions of the admin, one for each call of the API.

The query for a token also reads whether its user may view batches. Django's permission check would need two more
queries, and would double the cost of a program that polls every second. Sessions are authenticated by Django REST
framework's own class.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, load_backend
from django.db.models import Exists, OuterRef, QuerySet
from rest_framework import authentication
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from batches.text import UNSTORABLE

VIEW = "batches.view_batch"
ADD = "batches.add_batch"
CHANGE = "batches.change_batch"
DELETE = "batches.delete_batch"
OPERATE = "batches.operate_batch"
VIEW_ROWS = "batches.view_batchprofile"
VIEW_LOGS = "batches.view_batchlog"
VIEW_STORIES = "batches.view_storyresult"
VIEW_PROFILES = "batches.view_profile"


class TokenAuthentication(authentication.TokenAuthentication):
    def authenticate_credentials(self, key: str) -> tuple[Any, Token]:
        tokens = _tokens(tuple(settings.AUTHENTICATION_BACKENDS))
        # PostgreSQL refuses a query for such a text.
        token = None if UNSTORABLE.search(key) else tokens.filter(key=key).first()
        if token is None:
            raise AuthenticationFailed("Invalid token.")
        if not token.user.is_active:
            raise AuthenticationFailed("User inactive or deleted.")
        return token.user, token


@cache  # it takes as long to build as to run
def _tokens(backends: tuple[str, ...]) -> QuerySet[Token]:
    """All tokens with their users. `may_view` is False also where only the user's `has_perm` can decide."""
    backend: Any = load_backend(backends[0])
    # With several backends, each can grant or forbid.
    can_tell = len(backends) == 1 and hasattr(backend, "with_perm")
    viewers = backend.with_perm(VIEW) if can_tell else get_user_model()._default_manager.none()
    return Token.objects.select_related("user").annotate(may_view=Exists(viewers.filter(pk=OuterRef("user"))))


class BatchPermissions(BasePermission):
    """Requires the permission that the view's `required_permissions` name for the action; of several, any one."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not (request.user and request.user.is_authenticated):
            return False
        if view.action in {None, "metadata"}:  # the view does not have this method: the answer is 405
            return True
        required = view.required_permissions[view.action]
        if required == VIEW and getattr(request.auth, "may_view", False):
            return True
        return any(map(request.user.has_perm, [required] if isinstance(required, str) else required))
