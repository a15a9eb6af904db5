from datetime import UTC, datetime
from functools import partial
from threading import get_ident
from types import SimpleNamespace

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.queue import contents, editions, resets
from batches.tests.conftest import empty_tables
from batches.tests.support.factories import assert_consistent

#: When the clock of the manager stands still.
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    """The clock of the manager. It has the time `now`, which a test can change."""
    clock = SimpleNamespace(now=NOON)
    monkeypatch.setattr(timezone, "now", lambda: clock.now)
    return clock


@pytest.fixture
def manager():
    return BatchManager("ada", "api")


@pytest.fixture
def at_each_chunk(monkeypatch):
    """Stores three rows at a time, and calls a function between two chunks of this thread."""
    monkeypatch.setattr(contents, "INSERT_CHUNK", 3)
    monkeypatch.setattr(editions, "INSERT_CHUNK", 3)
    monkeypatch.setattr(editions, "SETTLE_CHUNK", 3)
    chunks, settle = contents.into_chunks, editions._settle_rows

    def watch(call):
        thread = get_ident()

        def between():
            if get_ident() == thread:
                call()

        def watched(items):
            for chunk in chunks(items):
                yield chunk
                between()

        def settle_watched(*arguments):
            has_more = settle(*arguments)
            between()
            return has_more

        monkeypatch.setattr(contents, "into_chunks", watched)
        monkeypatch.setattr(editions, "_settle_rows", settle_watched)

    return watch


@pytest.fixture
def at_each_removal(monkeypatch):
    """Removes three rows at a time, and calls a function before each of these steps."""
    monkeypatch.setattr(contents, "DELETE_CHUNK", 3)
    return partial(call_before, monkeypatch, contents, "_find_chunk_end")


@pytest.fixture
def at_each_reset(monkeypatch):
    """Resets three rows at a time, and calls a function before each step that follows the decision."""
    monkeypatch.setattr(resets, "RESET_CHUNK", 3)
    monkeypatch.setattr(resets, "SEARCH_CHUNK", 3)
    return partial(call_before, monkeypatch, resets, "_continue")


def call_before(monkeypatch, owner, name, call):
    function = getattr(owner, name)

    def watched(*arguments):
        call()
        return function(*arguments)

    monkeypatch.setattr(owner, name, watched)


@pytest.fixture(params=[2, pytest.param(5, marks=pytest.mark.exhaustive)])
def rounds(request):
    """Several rounds of calls at the same time, each with empty tables at first, and consistent at the end."""

    def rounds():
        for _ in range(request.param):
            yield
            assert_consistent()
            empty_tables()

    return rounds
