"""A caller that writes one transaction after the other on SQLite lets those who wait have their turn."""

from types import SimpleNamespace

import pytest
from django.db import transaction

from batches.queue import sql
from batches.queue.sql import paced, taking_turns

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases("sqlite")]


@pytest.fixture
def clock(monkeypatch):
    """The clock of the turns: `now`, and the pauses that were made."""
    clock = SimpleNamespace(now=1000.0, pauses=[])

    def pause(seconds):
        clock.now += seconds
        clock.pauses.append(round(clock.now - 1000, 3))

    monkeypatch.setattr(sql, "_turn", sql._Turn())
    monkeypatch.setattr(sql, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=pause))
    return clock


@pytest.mark.parametrize(
    ("seconds", "gap", "pauses"),
    [
        (0.06, 0.0, [0.36, 0.72]),  # after 0.24 s of writing each time
        (0.06, 0.05, [0.56, 1.12]),
        (0.06, 0.13, []),  # others had their turn
        (0.001, 0.0, []),
        (0.3, 0.0, [0.42, 0.84, 1.26, 1.68, 2.1, 2.52, 2.94, 3.36]),
    ],
)
def test_after_a_fifth_of_a_second_of_writing_there_is_a_pause(clock, seconds, gap, pauses):
    for _ in range(8):
        clock.now += gap
        with taking_turns():
            clock.now += seconds
    assert clock.pauses == pauses


def test_chunks_are_written_in_turns(clock):
    written = []
    for chunk in paced(range(10)):
        clock.now += 0.06
        written.append(chunk)
    assert written == list(range(10))
    assert clock.pauses == [0.36, 0.72]


def test_in_a_transaction_there_is_no_pause_since_nobody_else_could_write(clock):
    with transaction.atomic():
        for _ in paced(range(10)):
            clock.now += 0.06
    assert clock.pauses == []
