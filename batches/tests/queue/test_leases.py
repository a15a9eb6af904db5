"""Runs and leases: one owner at a time, by the database's clock; retries, and batches without rows."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from batches import __version__
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Lease, Partition, Queue, Worker
from batches.queue.leases import is_looked_after
from batches.queue.refusals import Code
from batches.tests.support.factories import (
    age_leases,
    assert_consistent,
    assert_logged,
    check_batch,
    claim,
    half_checked,
    last_line,
    make_batch,
    ok,
    profile_ids,
    start_run,
    unchanged,
    values_of,
    waiting_names,
)

from .test_transitions import CALLS, RUN_CALLS

pytestmark = pytest.mark.django_db

LEASE = timedelta(seconds=30)
MAX_TAKEOVERS = 3


@pytest.fixture(autouse=True)
def _lease(settings):
    settings.BATCHES = {"LEASE_SECONDS": LEASE.total_seconds(), "MAX_TAKEOVERS": MAX_TAKEOVERS}


def age_lease(batch, age=LEASE * 2):
    assert age_leases(batch, age)


def workers(batch):
    """The workers of its run, with their tokens."""
    return list(Lease.objects.filter(batch=batch).order_by("worker").values_list("worker", "run_token"))


def read(batch, *names):
    values = values_of(batch.pk)
    return tuple(values[name] for name in names)


# Claiming


def test_a_claim_starts_the_head_of_the_queue_and_owns_it(manager):
    first = make_batch("first", 2)
    make_batch("second")
    version = Queue.objects.get().version
    run = manager.claim_run("\0\ud800" + "w" * 500)
    assert Queue.objects.get().version == version + 1
    assert run.batch == first
    assert read(first, "status", "position") == ("running", 0)
    assert run.batch.status == "running"
    assert workers(first) == [("w" * 150, run.run_token)]
    assert None not in read(first, "started_at")
    assert waiting_names() == ["second"]
    assert_logged("promote_next_batch", first, ("queued", 1), ("running", 0), "by worker " + "w" * 150)
    assert Worker.objects.get().name == "w" * 150
    assert_consistent()


def test_a_claim_of_an_empty_queue_is_a_heartbeat_of_the_worker_only(manager):
    assert manager.claim_run("worker 1") is None
    worker = Worker.objects.get()
    assert (worker.name, worker.version, worker.ended_at) == ("worker 1", __version__, None)
    assert not BatchLog.objects.exists()


def test_a_queue_that_is_empty_or_held_is_looked_after_while_a_worker_has_just_looked(manager):
    assert not is_looked_after(60)
    assert manager.claim_run("another") is None
    assert is_looked_after(60)
    make_batch()
    assert not is_looked_after(60)
    assert manager.hold_queue()
    assert is_looked_after(60)
    Queue.objects.update(looked_at=Now() - timedelta(seconds=61))
    assert not is_looked_after(60)
    Queue.objects.update(looked_at=Now(), held_until=Now())
    assert not is_looked_after(60)


def test_a_run_is_looked_after_while_each_partition_has_an_owner_with_a_heartbeat(manager):
    run = start_run(make_batch("it", 3))
    assert not is_looked_after(60)
    assert manager.claim_run("another") is None
    assert is_looked_after(60)
    Partition.objects.update(lease=None)
    assert not is_looked_after(60)
    Partition.objects.update(lease=run.run_token)
    assert is_looked_after(60)
    age_lease(run.batch)
    assert not is_looked_after(60)


def test_a_started_batch_is_claimed_before_the_head_of_the_queue(manager):
    make_batch("head")
    batch = make_batch("started")
    assert manager.start_batch(batch.pk)
    lines, version = BatchLog.objects.count(), Queue.objects.get().version
    assert manager.claim_run("worker 1").batch == batch
    assert read(batch, "takeovers") == (0,)
    assert (BatchLog.objects.count(), Queue.objects.get().version) == (lines + 1, version)
    assert_logged("claim_run", batch, ("running", 0), ("running", 0), "by worker worker 1")


# Leases


@pytest.mark.parametrize("age", [LEASE * 0.5, LEASE * -0.9])
def test_a_run_within_its_lease_is_not_claimed(age, manager):
    run = start_run(make_batch())
    make_batch("waiting")
    age_lease(run.batch, age)
    before = values_of(run.batch.pk)
    assert manager.claim_run("worker 2") is None
    assert values_of(run.batch.pk) == before
    assert waiting_names() == ["waiting"]


@pytest.mark.parametrize("age", [LEASE * 1.1, LEASE * 1000, LEASE * -1.5, LEASE * -1000])
def test_a_run_is_taken_over_if_its_lease_has_expired_or_is_too_far_in_the_future(age, manager):
    run = start_run(make_batch("it", 2))
    age_lease(run.batch, age)
    taken = manager.claim_run("worker 2")
    assert taken.batch == run.batch
    assert taken.run_token != run.run_token
    assert workers(run.batch) == [("worker 2", taken.run_token)]
    assert read(run.batch, "takeovers", "status", "position") == (1, "running", 0)
    message = "by worker worker 2: no heartbeat from the previous worker"
    assert_logged("take_over", run.batch, ("running", 0), ("running", 0), message)
    assert manager.claim_run("worker 3") is None
    assert manager.renew_lease(run.batch.pk, run.run_token).code == Code.FENCED


@pytest.mark.parametrize(
    "beat",
    [
        RUN_CALLS["renew_lease"],
        RUN_CALLS["record_results"],
        lambda manager, batch, token: manager.record_results(batch.pk, token, []),
    ],
    ids=["renew", "record", "record nothing"],
)
def test_a_heartbeat_keeps_the_run_and_is_not_logged(beat, manager):
    run = start_run(make_batch("it", 2))
    age_lease(run.batch)
    lines = BatchLog.objects.count()
    assert beat(manager, run.batch, run.run_token) is True
    assert manager.claim_run("worker 2") is None
    assert BatchLog.objects.count() == lines


@pytest.mark.parametrize("held", [False, True])
def test_a_batch_with_too_many_takeovers_goes_to_error_and_the_next_one_starts_unless_the_queue_is_held(held, manager):
    batch, following = make_batch("poison", 2), make_batch("next")
    claim()
    for takeovers in range(1, MAX_TAKEOVERS + 1):
        age_lease(batch)
        assert claim().batch == batch
        assert read(batch, "takeovers") == (takeovers,)
    age_lease(batch)
    assert not held or manager.hold_queue()
    lines = BatchLog.objects.count()
    run = manager.claim_run("worker 1")
    assert (run and run.batch) == (None if held else following)
    error = "4 workers in a row sent no heartbeat, and the batch made no progress."
    assert read(batch, "status", "position", "error") == ("error", None, error)
    assert workers(batch) == []
    expected = [(batch.pk, "take_over"), (following.pk, "promote_next_batch")]
    assert list(BatchLog.objects.order_by("pk").values_list("batch", "action")[lines:]) == expected[: 1 if held else 2]
    assert_consistent()


@pytest.mark.parametrize(
    "reset",
    [
        lambda manager, run: manager.record_results(run.batch.pk, run.run_token, [(profile_ids(run.batch)[0], ok())]),
        lambda manager, run: manager.pause_batch(run.batch.pk) and manager.queue_batch(run.batch.pk),
        lambda manager, run: manager.pause_batch(run.batch.pk) and manager.start_batch(run.batch.pk),
    ],
    ids=["progress", "queue", "start"],
)
def test_progress_and_a_new_start_reset_the_takeovers(reset, manager):
    run = start_run(make_batch("it", 2))
    Batch.objects.filter(pk=run.batch.pk).update(takeovers=MAX_TAKEOVERS)
    assert reset(manager, run)
    if age_leases(run.batch):  # progress is noticed at the next takeover, which is the first one again
        assert manager.claim_run("worker 2")
        assert read(run.batch, "takeovers") == (1,)
    else:
        assert read(run.batch, "takeovers") == (0,)


# The end of a run


def test_a_batch_without_profiles_is_done_and_one_that_lacks_its_rows_goes_to_error(manager):
    empty, hollow = make_batch("empty"), Batch.objects.create(name="hollow", total_profiles=1500)
    for batch, status, message in (
        (empty, "done", "The batch has no profiles."),
        (hollow, "error", "The batch expects 1,500 profiles but has no rows to check."),
    ):
        run = start_run(batch)
        assert manager.finish_run(batch.pk, run.run_token) is True
        assert read(batch, "status", "error") == (status, message if status == "error" else "")
        assert_logged("finish_run", batch, ("running", 0), (status, None), message)
        assert_consistent()


@pytest.mark.parametrize(
    ("message", "stored"),
    [
        (ValueError("a fault"), "a fault"),
        ("a\0b\ud800c\udfff", "abc"),
        ("x" * 1_000_000, "x" * 2000),
        ("\0" * 1_000_000, "Stopped without an error message."),
        (TimeoutError(), "Stopped without an error message."),
    ],
    ids=["exception", "dirty", "1 MB", "1 MB of NUL", "empty exception"],
)
def test_an_error_is_stored_clean_and_cut_and_never_empty(message, stored, manager):
    run = start_run(make_batch())
    assert manager.handle_error(run.batch.pk, message, run.run_token) is True
    assert read(run.batch, "error") == (stored,)
    assert last_line().message == stored


# Run time


@pytest.mark.parametrize("name", [*RUN_CALLS, "pause_batch", "complete_batch"])
def test_the_time_since_the_last_heartbeat_counts_as_run_time_up_to_a_lease(name, manager):
    for age, expected, at_most in ((LEASE / 2, 15, 30), (LEASE * 5, 30, 30), (-LEASE, 0, 0)):
        batch = make_batch()
        run = start_run(batch)
        Batch.objects.filter(pk=batch.pk).update(run_seconds=100.0)
        age_lease(batch, age)
        assert RUN_CALLS[name](manager, batch, run.run_token) if name in RUN_CALLS else CALLS[name](manager, batch.pk)
        assert expected - 0.01 <= read(batch, "run_seconds")[0] - 100 <= at_most + 0.01
        if read(batch, "status") == ("running",):
            assert manager.pause_batch(batch.pk)


def test_a_batch_without_a_worker_has_no_run_time(manager):
    batch = make_batch()
    assert manager.start_batch(batch.pk)
    Batch.objects.update(started_at=Now() - LEASE * 100)
    assert manager.pause_batch(batch.pk)
    assert read(batch, "run_seconds") == (0,)


# Checking again


ROW = ("status", "error", "http_status", "duration", "has_story", "checked_at")
COUNTERS = ("completed_profiles", "successful_checks", "failed_checks")


@pytest.mark.parametrize(
    ("again", "reset", "seconds", "message"),
    [
        (BatchManager.retry_failed, [1], 100, "retrying 1 failed profile"),
        (BatchManager.queue_batch, [0, 1], 0, ""),
    ],
)
def test_rows_that_are_checked_again_are_like_those_without_a_check(again, reset, seconds, message, manager):
    it = half_checked("done")
    Batch.objects.filter(pk=it.pk).update(run_seconds=100.0)
    assert again(manager, it.pk)
    assert (read(it, "run_seconds"), last_line().message) == ((seconds,), message)
    *rows, unchecked = it.profiles.order_by("pk").values_list(*ROW)
    assert [rows[index] for index in reset] == [unchecked] * len(reset)
    run = check_batch(it, *[ok("new")] * 3)
    assert manager.finish_run(it.pk, run.run_token)
    assert read(it, *COUNTERS) == (3, 3, 0)
    assert_consistent()


# Batches without rows: their callers report progress


@pytest.fixture
def hollow(manager):
    batch = Batch.objects.create(name="hollow", total_profiles=10)
    assert manager.start_batch(batch.pk)
    return batch


@pytest.mark.parametrize("paused", [False, True])
def test_progress_sets_counters_and_completes_the_batch_which_can_then_be_retried_and_queued(paused, hollow, manager):
    if paused:
        assert manager.pause_batch(hollow.pk)
    before = read(hollow, "status", "position")
    for progress in ((3, 2, 1), (5, 0, 5), (2, 2, 0), (7, 1, 1), (0, 0, 0)):
        assert manager.update_progress(hollow.pk, *progress) is True
        assert read(hollow, *COUNTERS, "status", "position") == (*progress, *before)
    assert manager.update_progress(hollow.pk, 10, 6, 4) is True
    assert read(hollow, *COUNTERS, "status", "position") == (10, 6, 4, "done", None)
    assert None not in read(hollow, "completed_at")
    assert_logged("update_progress", hollow, before, ("done", None))
    assert manager.retry_failed(hollow.pk) is True
    assert read(hollow, *COUNTERS) == (6, 6, 0)
    assert manager.complete_batch(hollow.pk)
    assert manager.retry_failed(hollow.pk).code == Code.NOTHING_TO_RETRY
    assert manager.queue_batch(hollow.pk)
    assert read(hollow, *COUNTERS, "total_profiles") == (0, 0, 0, 10)


BAD_PROGRESS = [
    *((3, 2, 2), (2, 3, 0), (11, 11, 0), (11, 0, 0), (-1, 0, 0), (0, -1, 1), (0, 1, -1), (10**30, 0, 0)),
    *((1, None, 0), ("1", 0, 0), (1.0, 1, 0), (True, 0, 0), (1, 1, False)),
]


def test_progress_is_refused_if_it_is_invalid_or_the_batch_has_rows(hollow, manager):
    assert manager.pause_batch(hollow.pk)
    it = half_checked("running")
    with unchanged():
        for progress in BAD_PROGRESS:
            assert manager.update_progress(hollow.pk, *progress).code == Code.BAD_PROGRESS, progress
        assert manager.update_progress(it.pk, 3, 2, 1).code == Code.BAD_PROGRESS
