"""`Authorization: Token …`. Sessions are authenticated by Django REST framework's own class.

The query for a token also reads whether its user may view batches. Django's permission check would need two more
queries, and would double the cost of a program that polls every second.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet
from rest_framework import authentication
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import AuthenticationFailed

from batches.text import UNSTORABLE

from .permissions import VIEW


class TokenAuthentication(authentication.TokenAuthentication):
    def authenticate_credentials(self, key: str) -> tuple[User, Token]:
        # PostgreSQL refuses a query for such a text.
        token = None if UNSTORABLE.search(key) else _tokens().filter(key=key).first()
        if token is None:
            raise AuthenticationFailed("Invalid token.")
        if not token.user.is_active:
            raise AuthenticationFailed("User inactive or deleted.")
        return token.user, token


def _tokens() -> QuerySet[Token]:
    """All tokens with their users. `may_view` is False also where only the user's `has_perm` can decide."""
    # With several backends, each can grant or forbid.
    viewers = User.objects.with_perm(VIEW) if len(settings.AUTHENTICATION_BACKENDS) == 1 else User.objects.none()
    return Token.objects.select_related("user").annotate(may_view=Exists(viewers.filter(pk=OuterRef("user"))))
