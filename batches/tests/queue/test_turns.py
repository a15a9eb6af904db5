"""A caller that writes one transaction after the other on SQLite lets waiting callers write in between."""

from contextlib import nullcontext
from itertools import pairwise
from types import SimpleNamespace

import pytest
from django.db import connection, transaction

from batches.models import Action, Batch, BatchLog
from batches.queue import contents, resets, sql
from batches.queue.bulk import run_bulk, undo_changes
from batches.queue.sql import paced, taking_turns
from batches.tests.support.factories import (
    failed,
    make_batch,
    make_waiting,
    ok,
    profile_ids,
    propose_redirect,
    record,
    start_run,
    urls,
)

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


@pytest.mark.parametrize(("is_in_transaction", "pauses"), [(False, [0.36, 0.72]), (True, [])])
def test_chunks_are_written_in_turns_unless_nobody_else_could_write(is_in_transaction, pauses, clock):
    with transaction.atomic() if is_in_transaction else nullcontext():
        for _ in paced(range(10)):
            clock.now += 0.06
    assert clock.pauses == pauses


def test_the_turns_of_a_call_count_once_if_the_call_is_one_of_many(clock):
    for _ in paced(range(10)):
        for _ in paced(range(2)):
            clock.now += 0.03
    assert clock.pauses == [0.33, 0.66]


@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_the_time_in_which_the_log_is_cut_is_a_part_of_the_pause(seconds, clock):
    def take_time(execute, *arguments):
        clock.now += seconds
        return execute(*arguments)

    with connection.execute_wrapper(take_time):
        for _ in paced(range(2)):
            clock.now += 0.15
    assert clock.now == pytest.approx(1000.3 + max(seconds, sql.SECONDS_OF_PAUSE))


def record_each(manager, run):
    """One result a call, as a worker with slow checks does."""
    return all(manager.record_results(run.batch.pk, run.run_token, [(pk, ok())]) for pk in profile_ids(run.batch))


def change_many(manager, action):
    return run_bulk(manager, action, list(Batch.objects.queued().values_list("pk", flat=True))).is_complete


def pause_and_undo(manager):
    assert change_many(manager, Action.PAUSE_BATCH)
    return undo_changes(manager, BatchLog.objects.changes().filter(action=Action.PAUSE_BATCH)).is_complete


CALLS = {
    "create": lambda manager, run: manager.create_batch("new", urls(60)),
    "repeat": lambda manager, run: manager.repeat_batch(run.batch.pk),
    "retry": lambda manager, run: manager.retry_failed(run.batch.pk),
    "queue again": lambda manager, run: manager.queue_batch(run.batch.pk),
    "delete": lambda manager, run: manager.delete_batch(run.batch.pk),
    "record": record_each,
    "pause many and undo": lambda manager, run: pause_and_undo(manager),
    "accept many": lambda manager, run: all(
        manager.accept_redirects([propose_redirect(url, url + "new") for url in urls(10)])
    ),
    "delete many": lambda manager, run: change_many(manager, Action.DELETE_BATCH),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_call_with_many_transactions_takes_turns(name, manager, clock, monkeypatch):
    run = start_run(make_batch("it", 60))
    if name != "record":
        record(run, [(pk, failed()) for pk in profile_ids(run.batch)])
        assert manager.finish_run(run.batch.pk, run.run_token)
    make_waiting(10)
    for chunk in ("INSERT_CHUNK", "DELETE_CHUNK"):
        monkeypatch.setattr(contents, chunk, 3)
    for chunk in ("RESET_CHUNK", "SEARCH_CHUNK"):
        monkeypatch.setattr(resets, chunk, 3)
    clock.now, clock.pauses = 1000.0, []

    def take_time(execute, sql, *arguments):
        if connection.in_atomic_block or not sql.startswith("SELECT"):  # others can write during a SELECT
            clock.now += 0.03
        return execute(sql, *arguments)

    with connection.execute_wrapper(take_time):
        assert CALLS[name](manager, run)
    moments = [0.0, *clock.pauses, clock.now - 1000]
    assert max(later - earlier for earlier, later in pairwise(moments)) < 1
