"""Messages for users while the database is busy or unavailable."""

from __future__ import annotations

#: Parts of the errors of PostgreSQL and SQLite for a lock that was held longer than the timeout.
LOCK_ERRORS = ("lock timeout", "database is locked")

#: Seconds until a client should retry.
RETRY_AFTER = 5

BUSY = "The queue is busy. Try again."
UNAVAILABLE = "The database does not answer. Try again in a moment."


def describe_outage(error: BaseException) -> str:
    """Return a message without the database's own text, which may contain host names."""
    return BUSY if is_lock_timeout(error) else UNAVAILABLE


def describe_outage_to_operator(error: BaseException) -> str:
    """Return a message for the terminal, with the database's own text."""
    return BUSY if is_lock_timeout(error) else f"The database does not answer: {str(error).strip()}"


def is_lock_timeout(error: BaseException) -> bool:
    return any(text in str(error) for text in LOCK_ERRORS)
