"""Database connections and their faults: the database is unavailable, full, read-only, locked for too long, or of
another version.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, InternalError, OperationalError, connections

from batches.conf import command_line
from batches.text import Sentence

#: Errors that are temporary, and not mistakes of the caller. PostgreSQL reports a "read-only transaction" (the server
#: has become a standby) and the end of an idle session as InternalErrors.
DATABASE_FAULTS = (OperationalError, InterfaceError, InternalError)

#: PostgreSQL's codes, since its messages are in the language of the server, and the beginnings of SQLite's messages.
MISSING = ("42P01", "42703", "no such table", "no such column", "table batches_")
LOCKED = ("55P03", "database is locked")
UNWRITABLE = ("53100", "25006", "database or disk is full", "attempt to write a readonly database")
TOO_COMPLEX = ("54", "Expression tree is too large", "parser stack overflow", "too many", "LIKE or GLOB pattern too")

#: Runs a call in the thread that owns the connection: `await database(function, *arguments)`.
Database = Callable[..., Awaitable[Any]]

OUTDATED = Sentence(
    "The database does not fit this version of the application. Run: %(command)s", command=command_line("migrate")
)


def is_outdated(error: BaseException) -> bool:
    """Whether a table or column is missing, because its migration has not run yet."""
    return isinstance(error, DatabaseError) and _code_or_text(error).startswith(MISSING)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a lock was held for longer than the timeout."""
    return _code_or_text(error).startswith(LOCKED)


def is_unwritable(error: BaseException) -> bool:
    """Whether the disk of the database is full, or the database is read-only."""
    return _code_or_text(error).startswith(UNWRITABLE)


def is_too_complex(error: BaseException) -> bool:
    """Whether a query has too many conditions, which is the caller's mistake."""
    return isinstance(error, DatabaseError) and _code_or_text(error).startswith(TOO_COMPLEX)


def is_database_fault(error: BaseException) -> bool:
    """Whether the error is temporary, and not the caller's mistake."""
    return is_outdated(error) or (isinstance(error, DATABASE_FAULTS) and not is_too_complex(error))


def _code_or_text(error: BaseException) -> str:
    return getattr(error.__cause__, "sqlstate", None) or str(error)


def discard_connections() -> None:
    """Close every connection, since one on which a call failed may be broken without showing it.

    A connection of SQLite refuses every write if the file was not writable when it was opened.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


@contextmanager
def snapshot() -> Iterator[None]:
    """A block in which all reads see the same snapshot and block nobody."""
    connection = connections[DEFAULT_DB_ALIAS]
    begin = "BEGIN DEFERRED" if connection.vendor == "sqlite" else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    with connection.cursor() as cursor:
        cursor.execute(begin)
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")
