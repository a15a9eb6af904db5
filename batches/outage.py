"""When the database does not do what it is asked: it is away, full, read-only, or locked by somebody for too long."""

from __future__ import annotations

from django.db import InterfaceError, InternalError, OperationalError

#: None of them is a mistake of the caller, and each may pass. PostgreSQL's "read-only transaction" (a server that has
#: become a standby) and its end of a session that was idle for too long are InternalErrors.
DATABASE_FAULTS = (OperationalError, InterfaceError, InternalError)

#: What PostgreSQL and SQLite say when somebody else held a lock for longer than the time-out.
LOCKED = ("lock timeout", "database is locked", "database table is locked")


def explain(error: BaseException) -> str:
    """What happened and what to do, in a sentence for people; without what the database says, which may name hosts."""
    if any(text in str(error) for text in LOCKED):
        return "Somebody else has been changing the queue for too long. Nothing was changed: try again in a moment."
    return "The database does not answer. Try again in a moment."
