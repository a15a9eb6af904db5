"""Starting a batch before the one that runs: that one continues afterwards, without losing or repeating a result."""

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Queue
from batches.queue.refusals import Code
from batches.tests.support.factories import (
    assert_consistent,
    claim,
    half_checked,
    make_batch,
    ok,
    profile_ids,
    record,
    row_statuses,
    token_of,
    unchanged,
    values_of,
    waiting_names,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("before", ["queued", "paused"])
def test_the_interrupted_batch_waits_at_the_front_with_its_results(before, manager):
    it = half_checked("running")
    urgent, counted, version = make_batch("urgent", 1, queue=before == "queued"), values_of(it.pk), version_now()
    seen = it.completed_profiles, it.successful_checks, it.failed_checks, it.stories_found
    assert manager.start_batch(urgent.pk, preempt=True) is True
    it.refresh_from_db()
    assert (values_of(urgent.pk)["status"], values_of(urgent.pk)["position"]) == ("running", 0)
    assert (it.status, it.position) == ("queued", 1)
    assert (it.completed_profiles, it.successful_checks, it.failed_checks, it.stories_found) == seen == (2, 1, 1, 1)
    assert (it.started_at, it.takeovers) == (counted["started_at"], 0)
    assert waiting_names() == ["it", "first", "last"]
    assert version_now() > version
    assert_consistent()


def version_now():
    return Queue.objects.get().version


def test_the_log_of_each_names_the_other(manager):
    it = half_checked("running")
    urgent = Batch.objects.get(name="last")
    assert manager.start_batch(urgent.pk, preempt=True)
    interrupted, started = BatchLog.objects.order_by("pk").values_list(
        "batch", "action", "from_status", "from_position", "to_status", "to_position", "actor", "channel", "message"
    )[BatchLog.objects.count() - 2 :]
    assert interrupted == (
        *(it.pk, "interrupt_batch", "running", 0, "queued", 1, "ada", "api"),
        "interrupted by “last”",
    )
    assert started == (urgent.pk, "start_batch", "queued", 3, "running", 0, "ada", "api", "interrupts “it”")


def test_no_later_result_of_the_interrupted_run_is_recorded_and_its_next_run_checks_the_rest(manager):
    it = half_checked("running")
    token = token_of(it)
    assert manager.start_batch(make_batch("urgent", 1).pk, preempt=True)
    with unchanged():
        late = [(profile_id, ok("late")) for profile_id in profile_ids(it)]
        assert manager.record_results(it.pk, token, late).code == Code.FENCED
        assert manager.finish_run(it.pk, token).code == Code.FENCED
    urgent = claim()
    assert urgent.batch.name == "urgent"
    record(urgent, [(profile_ids(urgent.batch)[0], ok())])
    assert manager.finish_run(urgent.batch.pk, urgent.run_token)
    again = claim()
    assert again.batch == it
    record(again, [(profile_id, ok("again")) for profile_id in profile_ids(it)])
    assert manager.finish_run(it.pk, again.run_token)
    assert row_statuses(it) == ["ok", "failed", "ok"]
    assert (values_of(it.pk)["stories_found"], values_of(it.pk)["completed_profiles"]) == (2, 3)
    assert_consistent()


def test_an_interruption_can_be_interrupted_and_each_goes_on_in_turn(manager):
    it = half_checked("running")
    first, last = (Batch.objects.get(name=name) for name in ("first", "last"))
    for batch in (last, first):
        assert manager.start_batch(batch.pk, preempt=True)
    assert waiting_names() == ["last", "it"]
    assert manager.complete_batch(first.pk)
    assert [manager.promote_next_batch().name, waiting_names()] == ["last", ["it"]]
    assert manager.complete_batch(last.pk)
    assert manager.promote_next_batch() == it


def test_if_nothing_runs_it_is_a_start_like_any_other(manager):
    batch = make_batch()
    assert manager.start_batch(batch.pk, preempt=True) is True
    assert list(batch.logs.order_by("pk").values_list("action", "message"))[1:] == [("start_batch", "")]


@pytest.mark.parametrize(
    ("hold", "expected", "code"),
    [(True, {}, Code.QUEUE_HELD), (False, {"expected_version": 0}, Code.STALE_VERSION)],
    ids=["held", "stale"],
)
def test_it_is_refused_while_the_queue_is_held_or_if_another_queue_was_seen(hold, expected, code, manager):
    half_checked("running")
    if hold:
        assert manager.hold_queue("The network is being repaired.")
    with unchanged():
        last = Batch.objects.get(name="last")
        assert manager.start_batch(last.pk, preempt=True, **expected).code == code


def test_a_batch_that_runs_cannot_interrupt_itself(manager):
    it = half_checked("running")
    with unchanged():
        assert BatchManager().start_batch(it.pk, preempt=True).code == Code.ALREADY_RUNNING
