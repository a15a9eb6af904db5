"""One action on many batches: their selection, their order, and the report of the result."""

import pytest
from django.db.models import QuerySet

from batches.batch_manager import BatchManager
from batches.models import Action, Batch, BatchLog
from batches.queue import bulk
from batches.queue.bulk import run_bulk, select_batches, undo_changes
from batches.queue.refusals import Code, Refused
from batches.tests.support.factories import (
    assert_consistent,
    cap_bulk,
    make_batch,
    make_waiting,
    start_run,
    waiting_names,
)

pytestmark = pytest.mark.django_db


def bulk_of(action, batches, **options):
    return run_bulk(BatchManager("ada", "admin"), action, [batch.pk for batch in batches], **options)


def names_selected(action, batches):
    ids, left = select_batches(action, batches)
    names = Batch.objects.in_bulk(ids)
    return [names[pk].name for pk in ids], left


def test_a_batch_that_leaves_at_the_tail_leaves_no_gap_to_close(django_assert_max_num_queries):
    batches = make_waiting(4)
    with django_assert_max_num_queries(100):
        result = bulk_of(Action.PAUSE_BATCH, [batches[1], batches[3], batches[0], batches[2]])
    log = BatchLog.objects.filter(action=Action.PAUSE_BATCH).order_by("pk")
    assert list(log.values_list("from_position", flat=True)) == [4, 3, 2, 1]
    assert [outcome.before.name for outcome in result.outcomes] == ["2", "4", "1", "3"]
    assert_consistent()


def test_batches_that_the_action_is_offered_for_come_before_the_others(monkeypatch):
    make_waiting(2)
    make_batch("paused", queue=False)
    for first in ("2", "1"):
        assert BatchManager().move_batch(Batch.objects.get(name=first).pk, 1)
        assert names_selected(Action.START_BATCH, Batch.objects.all()) == ([first], 2)  # only the first of the queue
    cap_bulk(monkeypatch, 2)
    assert names_selected(Action.QUEUE_BATCH, Batch.objects.all()) == (["paused", "1"], 1)
    for action in (Action.PAUSE_BATCH, Action.DELETE_BATCH):  # from the tail of the queue
        assert names_selected(action, Batch.objects.filter(position__isnull=False)) == (["2", "1"], 0)
    assert names_selected(Action.PAUSE_BATCH, Batch.objects.all()) == (["2", "1"], 1)


def test_nothing_is_left_if_one_was_deleted_since_they_were_selected(monkeypatch):
    make_waiting(2)
    cap_bulk(monkeypatch, 2)
    monkeypatch.setattr(QuerySet, "count", lambda _: 1)
    assert names_selected(Action.QUEUE_BATCH, Batch.objects.order_by("name")) == (["1", "2"], 0)


def test_more_repeats_than_fit_are_refused_since_a_second_call_could_not_continue(monkeypatch):
    make_waiting(3)
    cap_bulk(monkeypatch, 2)
    with pytest.raises(Refused, match="More than 2 batches are selected") as refused:
        select_batches(Action.REPEAT_BATCH, Batch.objects.all())
    assert refused.value.refusal.code == Code.BAD_VALUE
    assert select_batches(Action.REPEAT_BATCH, Batch.objects.filter(position__lte=2))[1] == 0


def test_each_outcome_has_the_batch_before_and_after_and_why_it_was_refused():
    queued, running = make_waiting(2)
    start_run(running)
    unknown = "not an id" * 20
    result = run_bulk(BatchManager(), Action.DELETE_BATCH, [str(running.pk), str(queued.pk), unknown])
    refused, deleted, missing = result.outcomes
    assert (refused.ok, refused.result.code) == (False, Code.ALREADY_RUNNING)
    assert (refused.after.status, refused.after.position) == ("running", 0)
    assert refused.detail.startswith("“2” is running.")
    assert (deleted.ok, deleted.detail, deleted.after) == (True, "", None)
    assert deleted.before.name == "1"
    assert (missing.result.code, missing.before, missing.id) == (Code.NOT_FOUND, None, unknown[:100])
    assert (result.done, result.refused, result.is_complete) == (1, 2, False)


def test_batches_that_no_longer_match_the_filter_of_their_selection_are_not_deleted():
    gone, kept = (make_batch(name, queue=False) for name in ("gone", "kept"))
    seen = Batch.objects.filter(status="paused")
    assert BatchManager().queue_batch(kept.pk)
    deleted, refused = bulk_of(Action.DELETE_BATCH, [gone, kept], expected_in=seen).outcomes
    assert (deleted.ok, refused.result.code) == (True, Code.STALE_VERSION)
    assert Batch.objects.get() == kept


def undo_all(action):
    """Undo all changes of this action."""
    return undo_changes(BatchManager("ada"), BatchLog.objects.changes().filter(action=action))


@pytest.mark.parametrize("worker_has_started_another", [True, False])
def test_the_undo_of_many_pauses_brings_the_queue_back_and_the_batch_that_ran(worker_has_started_another):
    ran, *waiting = make_waiting(6)
    start_run(ran)
    assert_order("1", "2 3 4 5 6")
    paused = waiting[1:4] if worker_has_started_another else waiting
    assert bulk_of(Action.PAUSE_BATCH, [ran, *paused]).done == len(paused) + 1
    assert (BatchManager("worker", "worker").promote_next_batch() is not None) is worker_has_started_another
    result = undo_all(Action.PAUSE_BATCH)
    assert result.sentences() == [f"Undo: {len(paused) + 1} done, 0 refused."]
    assert_order("1", "2 3 4 5 6")
    assert_consistent()


def assert_order(running, waiting):
    assert Batch.objects.running().get().name == running
    assert waiting_names() == waiting.split()


def test_the_undo_of_many_queued_batches_unqueues_them_and_reports_the_others():
    batches = [make_batch(name, queue=False) for name in "abc"]
    make_waiting(1)
    bulk_of(Action.QUEUE_BATCH, batches)
    assert BatchManager().move_batch(batches[1].pk, 1)
    result = undo_all(Action.QUEUE_BATCH)
    assert (result.done, result.refused) == (2, 1)
    assert result.sentences()[1] == "“b” has changed since, and is queued now. Nothing was undone."
    assert waiting_names() == ["b", "1"]
    assert_consistent()


def test_an_undo_of_many_stops_where_somebody_has_changed_the_order():
    batches = make_waiting(5)
    bulk_of(Action.PAUSE_BATCH, [batches[1], batches[3]])
    assert BatchManager().move_batch(batches[4].pk, 2)
    first, second = undo_all(Action.PAUSE_BATCH).outcomes
    assert (first.before.name, first.ok, second.before.name) == ("2", True, "4")
    assert second.result.code == Code.STALE_VERSION
    assert waiting_names() == ["1", "2", "5", "3"]
    assert_consistent()


@pytest.mark.parametrize(("skip_idle", "order"), [(False, ["2", "3", "1"]), (True, ["1", "2", "3"])])
def test_queued_batches_keep_their_places_if_idle_ones_are_skipped(skip_idle, order):
    first = make_waiting(2)[0]
    paused = make_batch("3", queue=False)
    done, idle = bulk_of(Action.QUEUE_BATCH, [paused, first], skip_idle=skip_idle).outcomes
    assert waiting_names() == order
    assert (done.ok, idle.ok) == (True, not skip_idle)
    if skip_idle:
        assert (idle.result.code, idle.detail) == (Code.ALREADY_QUEUED, "“1” is already queued.")


def test_the_summary_has_the_counts_the_first_refusals_and_what_is_left(monkeypatch):
    monkeypatch.setattr(bulk, "MAX_REASONS", 1)
    batches = [*make_waiting(2), *(make_batch(name, queue=False) for name in "abc")]
    assert bulk_of(Action.PAUSE_BATCH, batches, left=1234, skip_idle=True).sentences() == [
        "Pause: 2 done, 3 refused. 1,234 left unchanged: at most 1,000 at a time.",
        "“a” is already paused.",
        "… and 2 more.",
    ]
    for first, expected in ((4, ["“c” is already paused."]), (3, ["“b” is already paused.", "… and 1 more."])):
        [_, *reasons] = bulk_of(Action.PAUSE_BATCH, batches[first:], left=1, skip_idle=True).sentences()
        assert reasons == expected


def test_the_summary_of_a_single_batch_is_its_outcome():
    [batch] = make_waiting(1)
    assert bulk_of(Action.PAUSE_BATCH, [batch]).sentences() == ["“1” was paused."]
    batch.refresh_from_db()
    assert bulk_of(Action.PAUSE_BATCH, [batch], skip_idle=True).sentences() == ["“1” is already paused."]
    assert bulk_of(Action.DELETE_BATCH, [batch]).sentences() == ["“1” was deleted."]
    assert bulk_of(Action.PAUSE_BATCH, []).sentences() == ["Pause: 0 done, 0 refused."]
