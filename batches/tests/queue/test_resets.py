"""Checking a batch again, or some of its failed profiles: decided at once, while the rows follow in small transactions.

The replaced results are kept as earlier checks.
"""

import pytest
from django.db import connection, transaction

from batches import batch_manager
from batches.batch_manager import BatchManager
from batches.limits import MAX_BULK, MAX_ID, MAX_REASONS
from batches.models import Attempt, Batch
from batches.queue import resets
from batches.queue.refusals import Code
from batches.reports.doctor import diagnose
from batches.tests.support.chunks import killed_at
from batches.tests.support.factories import (
    assert_consistent,
    assert_ledger_is_exact,
    assert_sound,
    check_batch,
    claim,
    counters,
    failed,
    make_batch,
    ok,
    profile_ids,
    record,
    remembered,
    row_statuses,
    unchanged,
)
from batches.tests.support.threads import TIMEOUT, in_thread, wait_for_lock

pytestmark = pytest.mark.django_db(transaction=True)

#: The call, the statuses of the rows afterwards, and the counters: completed, successful, failed.
CALLS = {
    "again": (BatchManager.queue_batch, ["pending"] * 8, (0, 0, 0)),
    "retry": (BatchManager.retry_failed, ["ok", "pending"] * 4, (4, 4, 0)),
}


@remembered
def make_done(*results):
    run = check_batch(make_batch("done", len(results)), *results)
    assert BatchManager().finish_run(run.batch.pk, run.run_token)
    return run.batch


@pytest.fixture
def done():
    """A done batch of eight rows, every other one failed."""
    return make_done(*[ok("s"), failed()] * 4)


@pytest.fixture(params=CALLS)
def case(request):
    return CALLS[request.param]


def test_others_work_between_the_chunks_and_see_the_new_status_and_counters(case, done, manager, at_each_reset):
    call, rows, after = case
    seen = []

    def work_in_parallel():
        """Would wait for a lock that is still held."""
        assert not connection.in_atomic_block
        assert in_thread(lambda: BatchManager().rename_batch(done.pk, f"{len(seen)}")).result(TIMEOUT)
        assert (counters(done), done.status, done.position) == (after, "queued", 1)
        assert manager.claim_run("worker") is None  # not before the rows are ready
        assert [finding.message for finding in diagnose()] == ["Previous results are left in 1 rechecked batch."]
        seen.append(row_statuses(done))

    at_each_reset(work_in_parallel)
    assert call(manager, done.pk) is True
    before = ["ok", "failed"] * 4
    assert seen == [rows[:3] + before[3:], rows[:6] + before[6:]]
    assert row_statuses(done) == rows
    assert_sound()


@pytest.mark.parametrize("number", [1, 2])
def test_the_next_worker_completes_an_interrupted_reset(number, case, done, manager, at_each_reset):
    call, rows, after = case
    with killed_at(number, at_each_reset):
        call(manager, done.pk)
    assert counters(done) == after
    assert manager.start_batch(done.pk)
    assert manager.claim_run("worker") is None
    manager.finish_resets()
    assert row_statuses(done) == rows
    run = claim()
    record(run, [(profile_id, ok("s")) for profile_id in profile_ids(done)])
    assert counters(done) == (8, 8, 0)
    assert manager.finish_run(done.pk, run.run_token)
    assert_consistent()


@pytest.mark.databases("postgresql")  # on SQLite one writes at a time
def test_a_reset_touches_no_row_before_it_has_the_lock_of_the_batch(case, done, manager, at_each_reset):
    """Otherwise two workers that complete it at the same time would keep the replaced results twice."""
    call, rows, _ = case
    with killed_at(1, at_each_reset):
        call(manager, done.pk)
    with transaction.atomic():
        Batch.objects.select_for_update(no_key=True).get(pk=done.pk)
        completing = in_thread(manager.finish_resets)
        wait_for_lock(completing)
        assert len(done.profiles.select_for_update(skip_locked=True)) == 8
    completing.result(TIMEOUT)
    assert row_statuses(done) == rows


INTERRUPTIONS = {
    "pause": (BatchManager.pause_batch, "paused"),
    "complete": (BatchManager.complete_batch, "done"),
    "error": (lambda manager, pk: manager.handle_error(pk, "It broke."), "error"),
    "start": (BatchManager.start_batch, "running"),
    "again after its completion": (
        lambda manager, pk: manager.complete_batch(pk) and manager.queue_batch(pk),
        "queued",
    ),
}


@pytest.mark.parametrize("name", INTERRUPTIONS)
def test_any_transition_can_come_in_between(name, case, done, manager, at_each_reset):
    call, rows, after = case
    change, status = INTERRUPTIONS[name]
    with killed_at(2, at_each_reset):
        call(manager, done.pk)
    assert change(manager, done.pk)
    manager.finish_resets()
    if name.startswith("again"):
        rows, after = CALLS["again"][1:]
    assert (counters(done), done.status, row_statuses(done), done.reset_after) == (after, status, rows, None)
    assert_consistent()


def test_a_deleted_one_is_not_reset_but_purged(case, done, manager, at_each_reset):
    at_each_reset(lambda: manager.delete_batch(done.pk))
    assert case[0](manager, done.pk) is True
    assert not Batch.everything.exists()


# Rechecking some of the failed profiles


@pytest.fixture
def mixed():
    """A done batch of eight rows, with several reasons."""
    gone, slow = failed("gone"), failed("slow")
    return make_done(ok("s"), gone, slow, failed("odd"), ok(), gone, slow, slow)


WITHOUT_GONE = ["ok", "pending", "failed", "failed", "ok", "pending", "failed", "failed"]
CHOICES = {
    "a reason": ({"reasons": ["gone"]}, WITHOUT_GONE, "retrying 2 failed profiles: gone"),
    "reasons, one of them unknown": (
        {"reasons": ["odd", "slow", "odd", "never"]},
        ["ok", "failed", "pending", "pending", "ok", "failed", "pending", "pending"],
        "retrying 4 failed profiles: odd; slow; never",
    ),
    "chosen ones": ({"chosen": [0, 1, 5]}, WITHOUT_GONE, "retrying 2 failed profiles that somebody chose"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_only_chosen_profiles_are_checked_again_and_the_ledger_is_always_exact(name, mixed, manager, at_each_reset):
    choice, rows, message = CHOICES[name]
    if "chosen" in choice:
        choice = {"profiles": [profile_ids(mixed)[index] for index in choice["chosen"]]}
    seen = []

    def work_in_parallel():
        assert in_thread(lambda: BatchManager().rename_batch(mixed.pk, f"{len(seen)}")).result(TIMEOUT)
        assert manager.claim_run("worker") is None
        mixed.refresh_from_db()
        assert_ledger_is_exact(mixed)
        seen.append((mixed.status, mixed.position))

    at_each_reset(work_in_parallel)
    assert manager.retry_failed(mixed.pk, **choice) is True
    assert seen == ([("queued", 1)] * 2 if "reasons" in choice else [])
    assert row_statuses(mixed) == rows
    assert mixed.logs.get(action="retry_failed").message == message
    again = rows.count("pending")
    assert counters(mixed) == (8 - again, 2, 6 - again)
    assert Attempt.objects.filter(batch=mixed).count() == again
    assert (mixed.reset_after, mixed.reset_reasons, mixed.completed_at) == (None, None, None)
    assert_sound()


@pytest.mark.parametrize("way", [lambda it: {"reasons": ["gone"]}, lambda it: {"profiles": profile_ids(it)[1:3]}])
def test_the_log_of_a_retry_counts_without_those_that_were_checked_since_they_were_chosen(
    way, mixed, manager, monkeypatch
):
    def choose_slowly(*arguments):
        patch.undo()
        chosen = batch_manager.choose_failed(*arguments)
        assert manager.retry_failed(mixed.pk, profiles=profile_ids(mixed)[1:2])
        assert manager.start_batch(mixed.pk)
        record(claim(), [(profile_ids(mixed)[1], ok("late"))])
        assert manager.complete_batch(mixed.pk)
        return chosen

    with monkeypatch.context() as patch:
        patch.setattr(batch_manager, "choose_failed", choose_slowly)
        assert manager.retry_failed(mixed.pk, **way(mixed))
    assert mixed.logs.latest("pk").message.startswith("retrying 1 failed profile")
    assert_sound()


def test_few_among_many_take_few_transactions(mixed, manager, at_each_reset, monkeypatch):
    monkeypatch.setattr(resets, "RESET_CHUNK", 2)
    monkeypatch.setattr(resets, "SEARCH_CHUNK", 8)
    seen = []
    at_each_reset(lambda: seen.append(row_statuses(mixed).count("pending")))
    assert manager.retry_failed(mixed.pk, reasons=["slow"])
    assert seen == [2]  # two of three in the first transaction, which read all rows
    assert row_statuses(mixed).count("pending") == 3
    assert_consistent()


def test_replaced_results_are_kept_whatever_the_new_results(mixed, manager):
    fields = ("profile_id", *Attempt.RESULT)
    before = list(mixed.profiles.filter(error="gone").order_by("pk").values_list(*fields))
    assert manager.retry_failed(mixed.pk, reasons=["gone"])
    assert list(Attempt.objects.order_by("pk").values_list(*fields)) == before
    assert manager.start_batch(mixed.pk)
    record(claim(), [(before[0][0], failed("gone again")), (before[1][0], ok("late"))])
    assert manager.complete_batch(mixed.pk)
    assert manager.queue_batch(mixed.pk)  # all again
    kept = Attempt.objects.filter(batch=mixed)
    assert [(kept.filter(status=status)).count() for status in ("ok", "failed")] == [3, 7]
    assert list(kept.filter(profile=before[0][0]).values_list("error", flat=True)) == ["gone", "gone again"]
    assert row_statuses(mixed) == ["pending"] * 8
    assert_consistent()


@pytest.mark.parametrize("change", [None, BatchManager.pause_batch, BatchManager.start_batch])
def test_an_interrupted_retry_by_reason_continues_with_the_same_reasons(change, mixed, manager, at_each_reset):
    with killed_at(1, at_each_reset):
        manager.retry_failed(mixed.pk, reasons=["gone"])
    mixed.refresh_from_db()
    assert_ledger_is_exact(mixed)
    assert [finding.message for finding in diagnose()] == ["Previous results are left in 1 rechecked batch."]
    assert change is None or change(manager, mixed.pk)
    manager.finish_resets()
    assert row_statuses(mixed) == WITHOUT_GONE
    assert_consistent()


def test_another_retry_first_completes_the_one_that_was_interrupted(mixed, manager, at_each_reset):
    with killed_at(1, at_each_reset):
        manager.retry_failed(mixed.pk, reasons=["gone"])
    assert manager.pause_batch(mixed.pk)
    assert manager.retry_failed(mixed.pk, reasons=["odd"])
    assert row_statuses(mixed) == ["ok", "pending", "failed", "pending", "ok", "pending", "failed", "failed"]
    assert_consistent()


@pytest.mark.parametrize(
    ("choice", "code"),
    [
        ({"reasons": ["never"]}, Code.NOTHING_TO_RETRY),
        ({"reasons": [str(number) for number in range(MAX_REASONS)]}, Code.NOTHING_TO_RETRY),
        ({"profiles": [1, MAX_ID]}, Code.NOTHING_TO_RETRY),
        ({"profiles": range(10**9, 10**9 + MAX_BULK)}, Code.NOTHING_TO_RETRY),
        ({"reasons": []}, Code.BAD_VALUE),
        ({"reasons": ["gone", 5]}, Code.BAD_VALUE),
        ({"reasons": [str(number) for number in range(MAX_REASONS + 1)]}, Code.BAD_VALUE),
        ({"profiles": []}, Code.BAD_VALUE),
        ({"profiles": ["1"]}, Code.BAD_VALUE),
        ({"profiles": [True]}, Code.BAD_VALUE),
        ({"profiles": [0]}, Code.BAD_VALUE),
        ({"profiles": [MAX_ID + 1]}, Code.BAD_VALUE),
        ({"profiles": range(1, MAX_BULK + 2)}, Code.BAD_VALUE),
        ({"reasons": ["gone"], "profiles": [1]}, Code.BAD_VALUE),
        ({"reasons": ["gone"], "expected_status": "error"}, Code.STALE_VERSION),
    ],
    ids=str,
)
def test_a_choice_without_failed_profiles_is_refused_and_changes_nothing(choice, code, mixed, manager):
    with unchanged():
        assert manager.retry_failed(mixed.pk, **choice).code == code
    assert manager.retry_failed("nonsense", **choice).code in {Code.NOT_FOUND, Code.BAD_VALUE}
