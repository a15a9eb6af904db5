"""Sessions in the database, for the admin and the API."""

from typing import Any

from django.contrib.sessions.backends import db

from batches.text import UNSTORABLE


class SessionStore(db.SessionStore):
    """Ignores cookies that cannot be session keys, since PostgreSQL refuses NUL in texts."""

    def _validate_session_key(self, key: Any) -> bool:
        return bool(super()._validate_session_key(key)) and not UNSTORABLE.search(key)  # type: ignore[misc]
