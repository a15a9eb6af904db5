from threading import get_ident

import pytest

from batches.batch_manager import BatchManager
from batches.queue import contents, editions
from batches.tests.conftest import empty_tables
from batches.tests.support.factories import assert_consistent


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


@pytest.fixture(params=[2, pytest.param(5, marks=pytest.mark.exhaustive)])
def rounds(request):
    """Several rounds of calls at the same time, each with empty tables at first, and consistent at the end."""

    def rounds():
        for _ in range(request.param):
            yield
            assert_consistent()
            empty_tables()

    return rounds
