"""Messages for users while the database is busy or unavailable."""

from batches.models import OUTDATED, is_outdated
from batches.text import Sentence

#: Parts of the errors of PostgreSQL and SQLite for a lock that was held longer than the timeout.
LOCK_ERRORS = ("lock timeout", "database is locked")

#: Seconds until a client should retry.
RETRY_AFTER = 5

BUSY = Sentence("The queue is busy. Try again.")
UNAVAILABLE = Sentence("The database does not answer. Try again in a moment.")
POOLED = "A connection pool in front of it refuses our parameters. Set TRANSACTION_POOL=on."


def describe_outage(error: BaseException) -> str:
    """Return a message without the database's own text, which may contain host names."""
    if is_outdated(error):
        return OUTDATED
    return BUSY if is_lock_timeout(error) else UNAVAILABLE


def describe_outage_to_operator(error: BaseException) -> str:
    """Return a message for the terminal, with the database's own text."""
    if is_outdated(error) or is_lock_timeout(error):
        return describe_outage(error)
    advice = f" {POOLED}" if "unsupported startup parameter" in str(error) else ""
    return f"The database does not answer: {str(error).strip()}{advice}"


def is_lock_timeout(error: BaseException) -> bool:
    return any(text in str(error) for text in LOCK_ERRORS)
