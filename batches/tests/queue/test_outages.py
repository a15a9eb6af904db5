"""An outage of our own: the run stops, the queue is held, and unreachable profiles are not recorded as failed."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.checking.queries import find_start_of_outage, sample_answering
from batches.models import Attempt, BatchLog, BatchProfile, Profile, Queue
from batches.queue import outages
from batches.queue.refusals import Code
from batches.tests.support.chunks import killed_at
from batches.tests.support.factories import (
    assert_consistent,
    assert_sound,
    check_batch,
    claim,
    counters,
    failed,
    make_batch,
    ok,
    profile_ids,
    record,
    row_statuses,
    start_run,
    unchanged,
    waiting_names,
)

pytestmark = pytest.mark.django_db(transaction=True)

REASON = "This machine seems to be offline: 143 of the last 200 checks on 96 hosts could not connect."
LOST = CheckResult(False, "no such host", is_unreachable=True)
HOUR = timedelta(hours=1)


def run_with(*results, name="it", pending=1):
    """A run with these results, and this many rows without one."""
    return check_batch(make_batch(name, len(results) + pending), *results)


def report(run, since=None):
    manager = BatchManager("the worker", "worker")
    return manager.report_outage(run.batch.pk, run.run_token, REASON, since or timezone.now() - HOUR)


def test_rows_that_failed_without_an_answer_are_pending_again_and_the_batch_waits_at_the_front():
    run = run_with(ok("story"), LOST, failed(), LOST)
    make_batch("next")
    assert report(run) is True
    assert row_statuses(run.batch) == ["ok", "pending", "failed", "pending", "pending"]
    assert counters(run.batch) == (2, 1, 1)
    assert waiting_names() == ["it", "next"]
    assert list(Profile.objects.order_by("pk").values_list("failures", "last_error"))[1:4] == [
        *((0, ""), (1, "It answers with 500."), (0, ""))
    ]
    assert not Attempt.objects.exists()  # the sites were never asked
    assert BatchManager().record_results(run.batch.pk, run.run_token, []).code == Code.FENCED
    assert_consistent()


def test_the_queue_is_held_with_the_reason_until_hosts_answer_again():
    run = run_with(LOST)
    assert report(run)
    queue = Queue.objects.get()
    assert (queue.held, queue.held_by, queue.held_until, queue.hold_reason) == (True, "the worker", None, REASON)
    assert queue.outage_since == queue.held_at
    assert BatchManager().claim_run("worker") is None
    lines = BatchLog.objects.order_by("pk").values_list("batch", "action", "channel", "message")
    assert list(lines)[-2:] == [
        (run.batch.pk, "interrupt_batch", "worker", REASON),
        (None, "hold_queue", "worker", REASON),
    ]
    assert BatchManager("another worker", "worker").end_outage() is True
    queue.refresh_from_db()
    assert (queue.held, queue.outage_since, queue.hold_reason) == (False, None, "")
    assert BatchLog.objects.latest("pk").message == "This machine is online again."
    assert outages.have_others_continued()
    assert claim().batch == run.batch


def test_the_rows_of_all_workers_are_set_back_and_their_leases_end():
    run = start_run(BatchManager().create_batch("it", [f"https://{number}.example/" for number in range(40)]))
    BatchManager().share_run(run.batch.pk, run.run_token, released=run.partitions[:10])
    other = claim("another worker")
    for worker in (run, other):
        mine = run.batch.profiles.filter(partition__in=worker.partitions)
        record(worker, [(pk, LOST) for pk in mine.values_list("profile_id", flat=True)])
    assert row_statuses(run.batch).count("failed") == 40
    assert report(other)
    assert row_statuses(run.batch) == ["pending"] * 40
    assert BatchManager().renew_lease(run.batch.pk, run.run_token).code == Code.FENCED
    assert_consistent()


def test_failures_from_before_the_outage_are_kept():
    run = run_with(LOST, ok(), LOST)
    BatchProfile.objects.filter(profile_id=profile_ids(run.batch)[0]).update(checked_at=timezone.now() - 2 * HOUR)
    assert report(run)
    assert row_statuses(run.batch) == ["failed", "ok", "pending", "pending"]
    assert list(Profile.objects.order_by("pk").values_list("failures", flat=True)) == [1, 0, 0, 0]


def test_the_outage_began_after_the_last_answer():
    """A worker that was killed may have seen its beginning, and the one that notices it only failures."""
    run = run_with(failed(), LOST, LOST)
    noticed_at = timezone.now()
    BatchProfile.objects.filter(batch=run.batch, status="failed").update(checked_at=F("checked_at") - HOUR)
    answered = run.batch.profiles.get(http_status=500)
    assert find_start_of_outage(run.batch, noticed_at) == answered.checked_at
    BatchProfile.objects.filter(pk=answered.pk).update(checked_at=noticed_at + HOUR)
    assert find_start_of_outage(run.batch, noticed_at) == noticed_at
    BatchProfile.objects.filter(pk=answered.pk).update(http_status=None)
    run.batch.refresh_from_db()
    assert find_start_of_outage(run.batch, noticed_at) == run.batch.started_at


def test_after_a_kill_the_rest_is_set_back_before_anybody_claims_the_batch(at_each_reset):
    run = run_with(LOST, LOST, ok(), LOST, failed(), LOST, pending=0)
    with killed_at(1, at_each_reset):
        report(run)
    assert row_statuses(run.batch) == ["pending", "pending", "ok", "failed", "failed", "failed"]
    assert counters(run.batch) == (4, 1, 3)
    assert BatchManager().end_outage()
    assert BatchManager().claim_run("worker") is None
    BatchManager().finish_resets()
    assert_sound()
    assert row_statuses(run.batch) == ["pending", "pending", "ok", "pending", "failed", "pending"]
    assert counters(run.batch) == (2, 1, 1)
    assert claim().batch == run.batch
    assert_consistent()


def test_a_retry_in_between_checks_all_failed_ones_again(at_each_reset):
    run = run_with(ok(), LOST, failed(), LOST, pending=0)
    with killed_at(1, at_each_reset):
        report(run)
    assert BatchManager().pause_batch(run.batch.pk)
    assert BatchManager().retry_failed(run.batch.pk)
    assert row_statuses(run.batch) == ["ok", "pending", "pending", "pending"]
    assert_consistent()


def test_one_worker_at_a_time_asks_hosts_and_not_too_often():
    assert not outages.take_probe(60)
    assert report(run_with(LOST))
    assert not outages.take_probe(60)
    for probed_at in (None, timezone.now() - HOUR, timezone.now() + HOUR):
        Queue.objects.update(probed_at=probed_at)
        assert [outages.take_probe(60) for _ in range(2)] == [True, False]


def test_an_outage_does_not_change_a_hold_by_a_person():
    run = run_with(LOST)
    assert BatchManager("ada").hold_queue("repairs")
    assert report(run)
    assert waiting_names() == ["it"]
    queue = Queue.objects.get()
    assert (queue.held_by, queue.hold_reason, queue.outage_since) == ("ada", "repairs", None)
    with unchanged():
        assert BatchManager("the worker", "worker").end_outage() is True


def test_a_person_can_take_over_the_hold_or_release_it():
    run = run_with(LOST)
    assert report(run)
    assert BatchManager("ada").hold_queue("repairs")
    with unchanged():
        assert BatchManager("the worker", "worker").end_outage() is True
    assert BatchManager("ada", "admin").release_queue()
    assert Queue.objects.get().outage_since is None
    assert not outages.have_others_continued()


def test_hosts_are_asked_that_answered_last_time_each_at_another_domain():
    addresses = [f"https://{page}.{number}.example/" for number in range(6) for page in "ab"]
    results = [ok(), ok(), LOST, LOST, failed(), failed(), ok(), ok(), ok(), LOST]
    check_batch(BatchManager().create_batch("it", addresses), *results)
    found = {address.split(".")[1] for address in sample_answering(10)}
    assert found == {"0", "3", "4"}
    assert len(sample_answering(2)) == 2
