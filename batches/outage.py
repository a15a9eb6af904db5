"""When the database does not do what it is asked: it is away, full, read-only, or locked by somebody for too long."""

from __future__ import annotations

from django.db import InterfaceError, InternalError, OperationalError, connections

#: None of them is a mistake of the caller, and each may pass. PostgreSQL's "read-only transaction" (a server that has
#: become a standby) and its end of a session that was idle for too long are InternalErrors.
DATABASE_FAULTS = (OperationalError, InterfaceError, InternalError)

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


def discard_connections() -> None:
    """Use none again on which a call failed, though it may seem sound.

    SQLite's goes on refusing every write if the file could not be written when it was opened.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
