"""Limits the words and the time of a search, which reads every row for each word without an index."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ValidationError
from django.db import OperationalError, connection, transaction

from batches.limits import MAX_WORDS
from batches.text import Sentence

SEARCH_SECONDS = 5.0
#: Number of SQLite's instructions between two checks of the clock: about a millisecond.
INSTRUCTIONS = 10_000


class SearchTooSlow(Exception):
    def __init__(self) -> None:
        super().__init__(Sentence("The search took too long. Search for fewer words, or add a filter."))


def validate_words(text: str) -> None:
    if len(text.split()) > MAX_WORDS:
        raise ValidationError(Sentence("Search for at most %(most)s words.", most=MAX_WORDS))


@contextmanager
def limited_search() -> Iterator[None]:
    """Raises SearchTooSlow if a query in the block takes too long."""
    try:
        with _limit_sqlite() if connection.vendor == "sqlite" else _limit_postgresql():
            yield
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == "57014" or str(error) == "interrupted":
            raise SearchTooSlow from error
        raise


@contextmanager
def _limit_sqlite() -> Iterator[None]:
    end = time.monotonic() + SEARCH_SECONDS
    connection.ensure_connection()
    connection.connection.set_progress_handler(lambda: time.monotonic() > end, INSTRUCTIONS)
    try:
        yield
    finally:
        connection.connection.set_progress_handler(None, 0)


@contextmanager
def _limit_postgresql() -> Iterator[None]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{SEARCH_SECONDS * 1000:.0f}ms"])
        yield
        transaction.set_rollback(True)  # it only reads, and otherwise the limit lasts as long as an outer transaction
