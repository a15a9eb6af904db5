"""Connections, and what may be wrong with them: the database is away, full, read-only, or locked for too long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from django.db import InterfaceError, InternalError, OperationalError, connections

#: None of them is a mistake of the caller, and each may pass. PostgreSQL's "read-only transaction" (a server that has
#: become a standby) and its end of a session that was idle for too long are InternalErrors.
DATABASE_FAULTS = (OperationalError, InterfaceError, InternalError)


#: Runs a call in the thread that owns the connection: `await database(function, *arguments)`.
Database = Callable[..., Awaitable[Any]]


def discard_connections() -> None:
    """Close every connection, since one on which a call failed may seem sound and is not.

    SQLite's goes on refusing every write if the file could not be written when it was opened.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
