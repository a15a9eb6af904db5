"""Who asks: `Authorization: Token …`, or the session of somebody who is logged in.

What cannot be a token is not looked for: PostgreSQL has no text with NUL.
"""

from __future__ import annotations

from typing import Any

from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed

from batches.text import UNSTORABLE


class TokenAuthentication(authentication.TokenAuthentication):
    def authenticate_credentials(self, key: str) -> Any:
        if UNSTORABLE.search(key):
            raise AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(key)
