"""Rechecking some of the failed profiles, and keeping earlier checks."""

from datetime import timedelta

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.limits import MAX_BULK, MAX_ID, MAX_REASONS
from batches.models import Attempt, Batch, BatchProfile
from batches.queue import resets
from batches.queue.refusals import Code
from batches.reports.doctor import diagnose
from batches.tests.support.factories import (
    assert_consistent,
    assert_ledger_is_exact,
    assert_sound,
    claim,
    failed,
    last_line,
    make_batch,
    ok,
    profile_ids,
    record,
    row_statuses,
    start_run,
    unchanged,
)
from batches.tests.support.threads import TIMEOUT, in_thread

pytestmark = pytest.mark.django_db(transaction=True)

RESULTS = [ok("s"), failed("gone"), failed("slow"), failed("odd"), ok(), failed("gone"), failed("slow"), failed("slow")]


@pytest.fixture
def done(monkeypatch):
    """A done batch of eight rows that are reset three at a time."""
    monkeypatch.setattr(resets, "RESET_CHUNK", 3)
    monkeypatch.setattr(resets, "SEARCH_CHUNK", 3)
    run = start_run(make_batch("done", 8))
    record(run, list(zip(profile_ids(run.batch), RESULTS, strict=True)))
    assert BatchManager().finish_run(run.batch.pk, run.run_token)
    return run.batch


def errors(batch):
    return list(batch.profiles.order_by("pk").values_list("error", flat=True))


def counters(batch):
    batch.refresh_from_db()
    return batch.completed_profiles, batch.successful_checks, batch.failed_checks


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
def test_only_chosen_profiles_are_checked_again_and_the_ledger_is_always_exact(name, done, manager, monkeypatch):
    choice, rows, message = CHOICES[name]
    if "chosen" in choice:
        choice = {"profiles": [profile_ids(done)[index] for index in choice["chosen"]]}
    go_on, seen = resets._continue, []

    def watched(batch_id):
        assert in_thread(lambda: BatchManager().rename_batch(done.pk, f"{len(seen)}")).result(TIMEOUT)
        assert manager.claim_run("worker") is None
        done.refresh_from_db()
        assert_ledger_is_exact(done)
        seen.append((done.status, done.position))
        return go_on(batch_id)

    monkeypatch.setattr(resets, "_continue", watched)
    assert manager.retry_failed(done.pk, **choice) is True
    assert seen == ([("queued", 1)] * 2 if "reasons" in choice else [])
    assert row_statuses(done) == rows
    assert done.logs.get(action="retry_failed").message == message
    again = rows.count("pending")
    assert counters(done) == (8 - again, 2, 6 - again)
    assert Attempt.objects.filter(batch=done).count() == again
    assert (done.reset_after, done.reset_reasons, done.completed_at) == (None, None, None)
    assert_sound()


def test_few_among_many_take_few_transactions(done, manager, monkeypatch):
    monkeypatch.setattr(resets, "RESET_CHUNK", 2)
    monkeypatch.setattr(resets, "SEARCH_CHUNK", 8)
    go_on, seen = resets._continue, []

    def watched(batch_id):
        seen.append(row_statuses(done).count("pending"))
        return go_on(batch_id)

    monkeypatch.setattr(resets, "_continue", watched)
    assert manager.retry_failed(done.pk, reasons=["slow"])
    assert seen == [2]  # two of three in the first transaction, which read all rows
    assert row_statuses(done).count("pending") == 3
    assert_consistent()


def test_replaced_results_are_kept_whatever_the_new_results(done, manager):
    fields = ("profile_id", *Attempt.RESULT)
    before = list(done.profiles.filter(error="gone").order_by("pk").values_list(*fields))
    assert manager.retry_failed(done.pk, reasons=["gone"])
    assert list(Attempt.objects.order_by("pk").values_list(*fields)) == before
    assert manager.start_batch(done.pk)
    record(claim(), [(before[0][0], failed("gone again")), (before[1][0], ok("late"))])
    assert manager.complete_batch(done.pk)
    assert manager.queue_batch(done.pk)  # all again
    kept = Attempt.objects.filter(batch=done)
    assert [(kept.filter(status=status)).count() for status in ("ok", "failed")] == [3, 7]
    assert list(kept.filter(profile=before[0][0]).values_list("error", flat=True)) == ["gone", "gone again"]
    assert row_statuses(done) == ["pending"] * 8
    assert_consistent()


class Killed(BaseException):
    """Like a kill: the code under test does not catch it."""


@pytest.mark.parametrize("change", [None, BatchManager.pause_batch, BatchManager.start_batch])
def test_an_interrupted_retry_by_reason_continues_with_the_same_reasons(change, done, manager, monkeypatch):
    def die(batch_id):
        raise Killed

    monkeypatch.setattr(resets, "_continue", die)
    with pytest.raises(Killed):
        manager.retry_failed(done.pk, reasons=["gone"])
    monkeypatch.undo()
    done.refresh_from_db()
    assert_ledger_is_exact(done)
    assert [finding.message for finding in diagnose()] == ["Previous results are left in 1 rechecked batch."]
    assert change is None or change(manager, done.pk)
    manager.finish_resets()
    assert row_statuses(done) == WITHOUT_GONE
    assert_consistent()


def test_another_retry_first_completes_the_one_that_was_interrupted(done, manager, monkeypatch):
    def die(batch_id):
        raise Killed

    monkeypatch.setattr(resets, "_continue", die)
    with pytest.raises(Killed):
        manager.retry_failed(done.pk, reasons=["gone"])
    monkeypatch.undo()
    assert manager.pause_batch(done.pk)
    assert manager.retry_failed(done.pk, reasons=["odd"])
    assert row_statuses(done) == ["ok", "pending", "failed", "pending", "ok", "pending", "failed", "failed"]
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
def test_a_choice_without_failed_profiles_is_refused_and_changes_nothing(choice, code, done, manager):
    with unchanged():
        assert manager.retry_failed(done.pk, **choice).code == code
    assert manager.retry_failed("nonsense", **choice).code in {Code.NOT_FOUND, Code.BAD_VALUE}


def test_a_chosen_profile_that_is_ok_by_now_is_not_checked_again(done, manager, monkeypatch):
    """Between the look at the rows and the lock of the queue."""
    from batches.queue import retries

    look = retries.choose_failed

    def look_and_wait(*args):
        found = look(*args)
        BatchProfile.objects.filter(batch=done, error="gone").update(status="ok", error="")
        Batch.objects.filter(pk=done.pk).update(successful_checks=4, failed_checks=4)
        return found

    monkeypatch.setattr("batches.batch_manager.choose_failed", look_and_wait)
    gone = [pk for pk, error in zip(profile_ids(done), errors(done), strict=True) if error in {"gone", "odd"}]
    assert manager.retry_failed(done.pk, profiles=gone)
    assert last_line().message == "retrying 1 failed profile that somebody chose"
    assert_consistent()


def test_earlier_checks_go_with_their_batch_and_with_their_profile(done, manager):
    assert manager.retry_failed(done.pk)
    other = Attempt.objects.get(error="odd")
    assert manager.forget_profile(other.profile_id)
    assert sorted(Attempt.objects.values_list("error", flat=True)) == ["gone", "gone", "slow", "slow", "slow"]
    assert_consistent()
    assert manager.delete_batch(done.pk)
    assert not Attempt.objects.exists()
    assert_sound()


def test_the_checks_of_an_outage_are_not_kept(manager):
    run = start_run(make_batch("it", 3))
    lost = failed("No answer.")
    record(run, [(pk, lost) for pk in profile_ids(run.batch)])
    BatchProfile.objects.update(http_status=None)
    since = timezone.now() - timedelta(hours=1)
    assert manager.report_outage(run.batch.pk, run.run_token, "Offline.", since)
    assert row_statuses(run.batch) == ["pending"] * 3
    assert not Attempt.objects.exists()
