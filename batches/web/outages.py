"""What people are told while the database is away or locked."""

from __future__ import annotations

#: What PostgreSQL and SQLite say when somebody else held a lock for longer than the time-out.
LOCKED = ("lock timeout", "database is locked")

#: Seconds after which a client may ask again.
RETRY_AFTER = 5


def explain(error: BaseException) -> str:
    """For people, without the database's own words, which may name hosts."""
    if any(words in str(error) for words in LOCKED):
        return "Somebody else has been changing the queue for too long. Nothing was changed: try again in a moment."
    return "The database does not answer. Try again in a moment."


def explain_at_terminal(error: BaseException) -> str:
    """For whoever can do something about it."""
    sentence = explain(error)
    return sentence if sentence != explain(Exception()) else f"The database does not answer: {str(error).strip()}"
