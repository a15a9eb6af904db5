"""Tokens and permissions: each call of the API needs one of the admin's permissions.

The query for a token also reads whether its user may view batches. Django's permission check would need two more
queries, and would double the cost of a program that polls every second. Sessions are authenticated by Django REST
framework's own class.
"""

from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model, load_backend
from django.db.models import Exists, OuterRef, QuerySet
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from batches.models.api import AccessToken
from batches.models.keys import digest_of

Scope = AccessToken.Scope

VIEW = "batches.view_batch"
ADD = "batches.add_batch"
CHANGE = "batches.change_batch"
DELETE = "batches.delete_batch"
OPERATE = "batches.operate_batch"
VIEW_ROWS = "batches.view_batchprofile"
VIEW_LOGS = "batches.view_batchlog"
VIEW_STORIES = "batches.view_storyresult"
VIEW_PROFILES = "batches.view_profile"
FORGET = "batches.delete_profile"
VIEW_LISTS = "batches.view_profilelist"
VIEW_MEMBERS = "batches.view_listprofile"
ADD_LIST = "batches.add_profilelist"
CHANGE_LIST = "batches.change_profilelist"
DELETE_LIST = "batches.delete_profilelist"
VIEW_FEEDS = "batches.view_listfeed"
ADD_FEED = "batches.add_listfeed"
REVOKE_FEED = "batches.delete_listfeed"
VIEW_REDIRECTS = "batches.view_redirect"
VIEW_HOSTS = "batches.view_host"
ACCEPT = "batches.change_redirect"


class TokenAuthentication(authentication.TokenAuthentication):
    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        token = _tokens(tuple(settings.AUTHENTICATION_BACKENDS)).filter(digest=digest_of(key)).first()
        if token is None:
            raise AuthenticationFailed("Invalid token.")
        if not token.user.is_active:
            raise AuthenticationFailed("User inactive or deleted.")
        if token.is_expired:
            raise AuthenticationFailed("The token has expired. Create another.")
        token.note_use()
        return token.user, token


@cache  # building the query takes as long as running it
def _tokens(backends: tuple[str, ...]) -> QuerySet[AccessToken]:
    """All tokens with their users. `may_view` is False also where only the user's `has_perm` can decide."""
    backend: Any = load_backend(backends[0])
    # With several backends, each can grant or forbid.
    can_tell = len(backends) == 1 and hasattr(backend, "with_perm")
    viewers = backend.with_perm(VIEW) if can_tell else get_user_model()._default_manager.none()
    tokens = AccessToken.objects.select_related("user")
    return tokens.annotate(may_view=Exists(viewers.filter(pk=OuterRef("user"))))


class BatchPermissions(BasePermission):
    """Requires the permission that the view's `required_permissions` name for the action; of several, any one."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not (request.user and request.user.is_authenticated):
            return False
        if view.action in {None, "metadata"}:  # the view does not have this method: the response is 405
            return True
        required = view.required_permissions[view.action]
        if required == VIEW and getattr(request.auth, "may_view", False):
            return True
        self.message = explain_denial(request, *([required] if isinstance(required, str) else required))
        return not self.message


def explain_denial(request: Request, *permissions: str) -> str:
    """Why a call that needs any one of the permissions is denied; "" if it is allowed."""
    in_scope = [permission for permission in permissions if is_in_scope(request.auth, permission)]
    if not in_scope:
        return "The scope of this token does not allow that. Create a token with another scope."
    return "" if any(map(request.user.has_perm, in_scope)) else f"You need the permission {' or '.join(in_scope)}."


def is_in_scope(token: Any, permission: str) -> bool:
    """A session has no scope: like `operate`, that allows what the user may do."""
    scope = getattr(token, "scope", Scope.OPERATE)
    is_adding = scope == Scope.ADD and permission == ADD
    return scope == Scope.OPERATE or is_adding or permission.startswith("batches.view_")
