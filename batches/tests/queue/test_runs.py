"""Runs and leases: one owner at a time by the database's clock, and progress kept by callers without rows."""

import uuid
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Queue
from batches.queue.refusals import Code
from batches.tests.support.factories import (
    assert_consistent,
    claim,
    everything,
    failed,
    half_checked,
    last_line,
    make_batch,
    ok,
    profile_ids,
    record,
    row_statuses,
    start_run,
    values_of,
    waiting_names,
)

pytestmark = pytest.mark.django_db

LEASE = timedelta(seconds=30)
MAX_TAKEOVERS = 3


@pytest.fixture(autouse=True)
def _lease(settings):
    settings.BATCHES = {"LEASE_SECONDS": LEASE.total_seconds(), "MAX_TAKEOVERS": MAX_TAKEOVERS}


@pytest.fixture
def manager():
    return BatchManager("worker 1", "worker")


def fall_silent(batch, silence=LEASE * 2):
    """As if the last sign of life was so long ago (negative: ahead), by the database's clock."""
    assert Batch.objects.filter(pk=batch.pk, run_token__isnull=False).update(lease_at=Now() - silence)


# Claiming


def test_claiming_promotes_the_head_of_the_queue_and_owns_it(manager):
    first = make_batch("first", 2)
    make_batch("second")
    run = manager.claim_run("worker 1")
    assert run.batch == first
    now = values_of(first.pk)
    assert (now["status"], now["position"], now["run_token"]) == ("running", 0, run.run_token)
    assert (run.batch.status, run.batch.run_token) == ("running", run.run_token)
    assert now["lease_at"] is not None
    assert now["started_at"] is not None
    assert waiting_names() == ["second"]
    line = last_line()
    assert (line.batch, line.action, line.actor, line.channel) == (first, "promote_next_batch", "worker 1", "worker")
    assert (line.from_status, line.from_position, line.to_status, line.to_position) == ("queued", 1, "running", 0)
    assert_consistent()


def test_there_is_nothing_to_claim_in_an_empty_queue(manager):
    assert manager.claim_run("worker 1") is None
    queue = Queue.objects.get()
    assert queue.worker == "worker 1"
    assert queue.worker_seen_at is not None
    assert not BatchLog.objects.exists()


def test_a_run_that_shows_signs_of_life_is_not_claimed(manager):
    run = start_run(make_batch())
    make_batch("waiting")
    fall_silent(run.batch, LEASE * 0.9)
    before = values_of(run.batch.pk)
    assert manager.claim_run("worker 2") is None
    assert values_of(run.batch.pk) == before
    assert waiting_names() == ["waiting"]


def test_a_batch_that_somebody_started_is_claimed_before_the_next(manager):
    make_batch("head")
    batch = make_batch("started")
    assert manager.start_batch(batch.pk)
    lines, version = BatchLog.objects.count(), Queue.objects.get().version
    run = manager.claim_run("worker 1")
    assert run.batch == batch
    assert values_of(batch.pk)["takeovers"] == 0
    assert BatchLog.objects.count() == lines + 1
    assert Queue.objects.get().version == version
    line = last_line()
    assert (line.batch, line.action, line.message) == (batch, "claim_run", "by worker worker 1")
    assert (line.from_status, line.from_position, line.to_status, line.to_position) == ("running", 0, "running", 0)


def test_a_workers_name_is_stored_clean_and_cut(manager):
    make_batch()
    assert manager.claim_run("\0\ud800" + "w" * 500)
    assert Queue.objects.get().worker == "w" * 150
    assert last_line().message == "by worker " + "w" * 150


# Leases


@pytest.mark.parametrize("silence", [LEASE * 1.1, LEASE * 1000, LEASE * -1.1, LEASE * -1000])
def test_a_lease_that_ran_out_or_lies_too_far_ahead_is_taken_over(silence, manager):
    run = start_run(make_batch("it", 2))
    fall_silent(run.batch, silence)
    taken = manager.claim_run("worker 2")
    assert taken.batch == run.batch
    assert taken.run_token != run.run_token
    now = values_of(run.batch.pk)
    assert (now["run_token"], now["takeovers"], now["status"], now["position"]) == (taken.run_token, 1, "running", 0)
    line = last_line()
    assert (line.batch, line.action, line.from_status, line.to_status) == (run.batch, "take_over", "running", "running")
    assert "no heartbeat from the previous worker" in line.message
    assert manager.claim_run("worker 3") is None


def test_a_lease_a_little_ahead_is_kept_since_clocks_step(manager):
    run = start_run(make_batch())
    fall_silent(run.batch, LEASE * -0.9)
    assert manager.claim_run("worker 2") is None


def test_a_token_without_any_sign_of_life_is_taken_over(manager):
    run = start_run(make_batch())
    Batch.objects.filter(pk=run.batch.pk).update(lease_at=None)
    assert manager.claim_run("worker 2").batch == run.batch


def test_a_sign_of_life_keeps_the_run(manager):
    run = start_run(make_batch("it", 2))
    for show in (
        lambda: manager.renew_lease(run.batch.pk, run.run_token),
        lambda: manager.record_results(run.batch.pk, run.run_token, []),
        lambda: manager.record_results(run.batch.pk, run.run_token, [(profile_ids(run.batch)[0], ok())]),
    ):
        fall_silent(run.batch)
        lines = BatchLog.objects.count()
        assert show() is True
        assert manager.claim_run("worker 2") is None
        assert BatchLog.objects.count() == lines


def test_the_old_token_of_a_run_that_was_taken_over_changes_nothing(manager):
    run = start_run(make_batch("it", 2))
    fall_silent(run.batch)
    taken = manager.claim_run("worker 2")
    before = everything()
    one = profile_ids(run.batch)[0]
    for answer in (
        manager.record_results(run.batch.pk, run.run_token, [(one, ok("s"))]),
        manager.record_results(run.batch.pk, run.run_token, []),
        manager.renew_lease(run.batch.pk, run.run_token),
        manager.release_run(run.batch.pk, run.run_token),
        manager.finish_run(run.batch.pk, run.run_token),
        manager.handle_error(run.batch.pk, "It broke.", run.run_token),
    ):
        assert (bool(answer), answer.code) == (False, Code.FENCED)
    assert everything() == before
    record(taken, [(one, ok("s"))])
    assert manager.handle_error(run.batch.pk, "It broke.", taken.run_token) is True


def test_a_token_of_another_batch_is_fenced(manager):
    other = start_run(make_batch("other"))
    assert manager.pause_batch(other.batch.pk)
    run = start_run(make_batch("it", 1))
    before = everything()
    assert manager.renew_lease(run.batch.pk, other.run_token).code == Code.FENCED
    assert manager.renew_lease(other.batch.pk, run.run_token).code == Code.FENCED
    assert manager.record_results(other.batch.pk, run.run_token, []).code == Code.FENCED
    assert everything() == before


def test_a_batch_that_is_taken_over_again_and_again_goes_to_error_and_the_next_one_runs(manager):
    batch, following = make_batch("poison", 2), make_batch("next")
    claim()
    for takeovers in range(1, MAX_TAKEOVERS + 1):
        fall_silent(batch)
        assert claim().batch == batch
        assert values_of(batch.pk)["takeovers"] == takeovers
    fall_silent(batch)
    lines = BatchLog.objects.count()
    run = manager.claim_run("worker 1")
    assert run.batch == following
    now = values_of(batch.pk)
    assert (now["status"], now["position"], now["run_token"]) == ("error", None, None)
    assert now["error"] == "4 workers in a row sent no heartbeat, and the batch made no progress."
    assert list(BatchLog.objects.order_by("pk").values_list("batch", "action")[lines:]) == [
        (batch.pk, "take_over"),
        (following.pk, "promote_next_batch"),
    ]
    assert_consistent()


def test_a_poisonous_batch_goes_to_error_while_the_queue_is_held_and_nothing_else_starts(manager):
    batch = make_batch("poison")
    make_batch("next")
    claim()
    Batch.objects.filter(pk=batch.pk).update(takeovers=MAX_TAKEOVERS)
    fall_silent(batch)
    assert manager.hold_queue()
    assert manager.claim_run("worker 1") is None
    assert values_of(batch.pk)["status"] == "error"
    assert waiting_names() == ["next"]


def test_progress_forgives_the_takeovers_so_far(manager):
    batch = make_batch("it", 5)
    claim()
    for profile_id in profile_ids(batch):
        for _ in range(MAX_TAKEOVERS - 1):
            fall_silent(batch)
            run = claim()
        assert values_of(batch.pk)["takeovers"] == MAX_TAKEOVERS - 1
        record(run, [(profile_id, ok())])
        assert values_of(batch.pk)["takeovers"] == 0
    assert manager.finish_run(batch.pk, run.run_token)


@pytest.mark.parametrize("again", ["queue_batch", "start_batch"])
def test_a_batch_that_is_queued_or_started_again_has_its_takeovers_forgiven(again, manager):
    batch = make_batch("it", 1)
    claim()
    Batch.objects.filter(pk=batch.pk).update(takeovers=MAX_TAKEOVERS)
    assert manager.pause_batch(batch.pk)
    assert getattr(manager, again)(batch.pk)
    assert values_of(batch.pk)["takeovers"] == 0


# Giving back


def test_a_run_that_was_given_back_is_claimed_at_once_and_is_no_takeover(manager):
    run = start_run(make_batch("it", 2))
    version = Queue.objects.get().version
    assert manager.release_run(run.batch.pk, run.run_token) is True
    now = values_of(run.batch.pk)
    assert (now["status"], now["position"], now["run_token"], now["lease_at"]) == ("running", 0, None, None)
    assert last_line().action == "release_run"
    assert Queue.objects.get().version == version
    assert manager.renew_lease(run.batch.pk, run.run_token).code == Code.FENCED
    again = manager.claim_run("worker 2")
    assert again.batch == run.batch
    assert values_of(run.batch.pk)["takeovers"] == 0


# The end of a run


def test_a_run_is_finished_when_nothing_is_pending(manager):
    run = start_run(make_batch("it", 2))
    one, two = profile_ids(run.batch)
    record(run, [(one, ok())])
    before = everything()
    answer = manager.finish_run(run.batch.pk, run.run_token)
    assert (bool(answer), answer.code) == (False, Code.NOT_FINISHED)
    assert everything() == before
    record(run, [(two, failed())])
    assert manager.finish_run(run.batch.pk, run.run_token) is True
    now = values_of(run.batch.pk)
    assert (now["status"], now["position"], now["run_token"]) == ("done", None, None)
    assert now["completed_at"] is not None
    line = last_line()
    assert (line.action, line.message, line.to_status) == ("finish_run", "", "done")
    assert manager.finish_run(run.batch.pk, run.run_token).code == Code.FENCED


def test_a_batch_without_profiles_is_done_as_soon_as_its_turn_comes_and_the_log_says_so(manager):
    run = start_run(make_batch("empty"))
    assert manager.finish_run(run.batch.pk, run.run_token) is True
    assert values_of(run.batch.pk)["status"] == "done"
    assert last_line().message == "The batch has no profiles."


def test_a_batch_that_claims_profiles_but_has_no_rows_goes_to_error(manager):
    run = start_run(Batch.objects.create(name="hollow", total_profiles=1500))
    assert manager.finish_run(run.batch.pk, run.run_token) is True
    now = values_of(run.batch.pk)
    assert (now["status"], now["completed_at"]) == ("error", None)
    assert now["error"] == "The batch expects 1,500 profiles but has no rows to check."


def test_a_run_goes_on_where_it_was_paused(manager):
    it = half_checked("running")
    assert manager.pause_batch(it.pk)
    run = start_run(it)
    assert row_statuses(it) == ["ok", "failed", "pending"]
    record(run, [(profile_ids(it)[2], ok())])
    assert manager.finish_run(it.pk, run.run_token)
    assert_consistent()


# Errors


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("The disk is full.", "The disk is full."),
        (ValueError("a fault"), "a fault"),
        ("a\0b\ud800c\udfff", "abc"),
        ("x" * 1_000_000, "x" * 2000),
        ("\0" * 1_000_000, "Stopped without an error message."),
        ("", "Stopped without an error message."),
        (TimeoutError(), "Stopped without an error message."),
        (None, "None"),
    ],
    ids=["text", "exception", "dirty", "1 MB", "1 MB of NUL", "empty", "silent exception", "None"],
)
def test_an_error_is_kept_clean_and_cut_and_never_empty(message, kept, manager):
    run = start_run(make_batch())
    assert manager.handle_error(run.batch.pk, message, run.run_token) is True
    assert values_of(run.batch.pk)["error"] == kept
    assert last_line().message == kept


# Time at work


def seconds(batch):
    return values_of(batch.pk)["run_seconds"]


@pytest.mark.parametrize(
    "leave",
    [
        lambda manager, run: manager.renew_lease(run.batch.pk, run.run_token),
        lambda manager, run: manager.record_results(run.batch.pk, run.run_token, []),
        lambda manager, run: manager.release_run(run.batch.pk, run.run_token),
        lambda manager, run: manager.finish_run(run.batch.pk, run.run_token),
        lambda manager, run: manager.pause_batch(run.batch.pk),
        lambda manager, run: manager.complete_batch(run.batch.pk),
        lambda manager, run: manager.handle_error(run.batch.pk, "It broke."),
    ],
    ids=["renew", "record", "release", "finish", "pause", "complete", "error"],
)
def test_the_time_since_the_last_sign_of_life_is_time_at_work_up_to_a_lease(leave, manager):
    for silence, at_work in ((LEASE / 2, 15), (LEASE * 5, 30), (-LEASE, 0)):
        batch = make_batch()
        run = start_run(batch)
        Batch.objects.filter(pk=batch.pk).update(run_seconds=100.0)
        fall_silent(batch, silence)
        assert leave(manager, run)
        assert at_work - 0.01 <= seconds(batch) - 100 < at_work + 5
        if values_of(batch.pk)["status"] == "running":
            assert manager.pause_batch(batch.pk)


def test_a_batch_that_nobody_works_on_spends_no_time(manager):
    batch = make_batch()
    assert manager.start_batch(batch.pk)
    Batch.objects.update(started_at=Now() - LEASE * 100)
    assert manager.pause_batch(batch.pk)
    assert seconds(batch) == 0


def test_checking_anew_starts_the_time_anew_and_a_retry_goes_on(manager):
    it = half_checked("done")
    Batch.objects.filter(pk=it.pk).update(run_seconds=100.0)
    assert manager.retry_failed(it.pk)
    assert seconds(it) == 100
    assert manager.complete_batch(it.pk)
    assert manager.queue_batch(it.pk)
    assert seconds(it) == 0


# Progress of callers that keep no rows


@pytest.fixture
def hollow(manager):
    batch = Batch.objects.create(name="hollow", total_profiles=10)
    assert manager.start_batch(batch.pk)
    return batch


def counters(batch):
    now = values_of(batch.pk)
    return tuple(now[name] for name in ("completed_profiles", "successful_checks", "failed_checks"))


def test_progress_is_set_absolutely(hollow, manager):
    for progress in ((3, 2, 1), (5, 0, 5), (2, 2, 0), (7, 1, 1), (0, 0, 0)):
        assert manager.update_progress(hollow.pk, *progress) is True
        assert counters(hollow) == progress
        assert values_of(hollow.pk)["status"] == "running"


@pytest.mark.parametrize("paused", [False, True])
def test_all_completed_completes_the_batch(paused, hollow, manager):
    if paused:
        assert manager.pause_batch(hollow.pk)
    before = values_of(hollow.pk)
    assert manager.update_progress(hollow.pk, 10, 6, 4) is True
    now = values_of(hollow.pk)
    assert (now["status"], now["position"]) == ("done", None)
    assert now["completed_at"] is not None
    assert counters(hollow) == (10, 6, 4)
    line = last_line()
    assert (line.action, line.from_status, line.from_position) == (
        "update_progress",
        before["status"],
        before["position"],
    )
    assert line.to_status == "done"


@pytest.mark.parametrize(
    "progress",
    [
        (3, 2, 2),
        (2, 3, 0),
        (11, 11, 0),
        (11, 0, 0),
        (-1, 0, 0),
        (0, -1, 1),
        (0, 1, -1),
        (10**30, 0, 0),
        (1, None, 0),
        ("1", 0, 0),
        (1.0, 1, 0),
        (True, 0, 0),
    ],
)
def test_counters_that_do_not_add_up_are_refused(progress, hollow, manager):
    before = everything()
    answer = manager.update_progress(hollow.pk, *progress)
    assert (bool(answer), answer.code) == (False, Code.BAD_PROGRESS)
    assert everything() == before


def test_the_counters_of_a_batch_with_rows_are_its_rows_alone(manager):
    it = half_checked("running")
    before = everything()
    assert manager.update_progress(it.pk, 3, 2, 1).code == Code.BAD_PROGRESS
    assert everything() == before


# Checking again


def test_a_retry_makes_the_failed_rows_as_they_were_before_their_check(manager):
    it = half_checked("done")
    unchecked = it.profiles.get(status="pending")
    assert manager.retry_failed(it.pk) is True
    retried = it.profiles.order_by("pk")[1]
    fields = ("status", "error", "http_status", "duration", "has_story", "checked_at")
    assert [getattr(retried, name) for name in fields] == [getattr(unchecked, name) for name in fields]
    assert last_line().message == "retrying 1 failed profile"
    run = start_run(it)
    record(run, [(retried.profile_id, ok()), (unchecked.profile_id, ok())])
    assert manager.finish_run(it.pk, run.run_token)
    assert counters(it) == (3, 3, 0)
    assert values_of(it.pk)["stories_found"] == 1
    assert_consistent()


@pytest.mark.parametrize("status", ["paused", "done", "error"])
def test_a_batch_without_failed_profiles_has_nothing_to_retry(status, manager):
    it = half_checked(status)
    it.profiles.filter(status="failed").update(status="ok")
    Batch.objects.filter(pk=it.pk).update(failed_checks=0, successful_checks=F("successful_checks") + 1)
    before = everything()
    answer = manager.retry_failed(it.pk)
    assert (bool(answer), answer.code) == (False, Code.NOTHING_TO_RETRY)
    assert everything() == before


def test_a_batch_whose_caller_keeps_no_rows_can_be_retried(hollow, manager):
    assert manager.update_progress(hollow.pk, 10, 6, 4)
    assert manager.retry_failed(hollow.pk) is True
    assert counters(hollow) == (6, 6, 0)
    assert manager.pause_batch(hollow.pk)
    assert manager.retry_failed(hollow.pk).code == Code.NOTHING_TO_RETRY


def test_a_done_batch_that_is_queued_is_checked_anew(manager):
    it = half_checked("done")
    assert manager.queue_batch(it.pk)
    fresh = make_batch("fresh", 3)
    fields = ("status", "error", "http_status", "duration", "has_story", "checked_at")
    assert list(it.profiles.order_by("pk").values_list(*fields)) == list(
        fresh.profiles.order_by("pk").values_list(*fields)
    )
    run = start_run(it)
    record(run, [(pk, ok("new")) for pk in profile_ids(it)])
    assert manager.finish_run(it.pk, run.run_token)
    assert counters(it) == (3, 3, 0)
    assert_consistent()


def test_a_done_batch_without_rows_that_is_queued_starts_at_zero(hollow, manager):
    assert manager.update_progress(hollow.pk, 10, 6, 4)
    assert manager.queue_batch(hollow.pk)
    assert counters(hollow) == (0, 0, 0)
    assert values_of(hollow.pk)["total_profiles"] == 10


def test_every_run_has_a_token_of_its_own(manager):
    batch = make_batch()
    tokens = set()
    for _ in range(3):
        tokens.add(start_run(batch).run_token)
        assert manager.pause_batch(batch.pk)
    assert len(tokens) == 3
    assert all(isinstance(token, uuid.UUID) for token in tokens)
