"""Undoing the latest change of a batch: it goes back to its place, or the call is refused and changes nothing."""

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, WebhookDelivery
from batches.queue.refusals import Code
from batches.tests.notifications.conftest import make_webhook
from batches.tests.support.factories import (
    assert_consistent,
    assert_logged,
    half_checked,
    last_line,
    make_batch,
    row_statuses,
    unchanged,
    undone,
    waiting_names,
)

pytestmark = pytest.mark.django_db

WORKER = BatchManager("worker", "worker")


def batch(name):
    return Batch.objects.get(name=name)


def state():
    """The order, and the status and error of each batch with its results."""
    rows = {it.name: (it.status, it.error, row_statuses(it)) for it in Batch.objects.all()}
    return waiting_names(), rows


#: The status of "it" between "first" and "last" (if queued), and the change to undo.
CHANGES = {
    "pause a waiting one": ("queued", lambda manager, it: manager.pause_batch(it.pk)),
    "pause the running one": ("running", lambda manager, it: manager.pause_batch(it.pk)),
    "start a waiting one": ("queued", lambda manager, it: manager.start_batch(it.pk)),
    "start a paused one": ("paused", lambda manager, it: manager.start_batch(it.pk)),
    "queue a paused one": ("paused", lambda manager, it: manager.queue_batch(it.pk)),
    "queue one in error": ("error", lambda manager, it: manager.queue_batch(it.pk)),
    "queue a waiting one": ("queued", lambda manager, it: manager.queue_batch(it.pk)),
    "move to the front": ("queued", lambda manager, it: manager.move_batch(it.pk, 1)),
    "move to the end": ("queued", lambda manager, it: manager.move_batch(it.pk, 9)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_after_an_undo_everything_is_as_before(name, manager):
    status, change = CHANGES[name]
    it = half_checked(status)
    make_batch("new")  # the latest change is not one of "it"
    before, webhook = state(), make_webhook("https://example.org/")
    for is_named in (False, True):
        with undone():
            assert change(manager, it)
            done, sent = last_line(), WebhookDelivery.objects.count()
            assert state() != before
            assert manager.undo_change(it.pk, done.pk if is_named else None) is True
            assert state() == before
            it.refresh_from_db()
            ends = [(done.to_status, done.to_position), (done.from_status, done.from_position)]
            assert_logged("undo_change", it, *ends, f"it had been {name.split()[0].rstrip('e')}ed")
            assert WebhookDelivery.objects.filter(webhook=webhook).count() == sent
            assert_consistent()


def test_after_the_undo_of_an_interrupting_start_the_interrupted_batch_runs_again(manager):
    it = half_checked("running")
    before = state()
    assert manager.start_batch(batch("last").pk, preempt=True)
    assert manager.claim_run("worker")
    assert manager.undo_change(batch("last").pk)
    assert state() == before
    assert manager.claim_run("another").batch == it
    assert_consistent()


@pytest.mark.parametrize("decision", ["a move", "a hold"])
def test_it_waits_if_somebody_has_changed_it_or_held_the_queue(decision, manager):
    it = half_checked("running")
    assert manager.start_batch(batch("last").pk, preempt=True)
    assert manager.hold_queue() if decision == "a hold" else manager.move_batch(batch("first").pk, 1)
    if decision == "a hold":
        assert manager.undo_change(batch("last").pk)
        assert waiting_names() == ["it", "first", "last"]
    else:
        with unchanged():
            assert manager.undo_change(batch("last").pk).code == Code.STALE_VERSION
    assert not Batch.objects.filter(pk=it.pk, status="running").exists()


@pytest.mark.parametrize(("started", "order"), [(2, ["c", "d", "e", "behind"]), (4, ["d", "behind"])])
def test_batches_that_workers_have_started_since_and_those_behind_do_not_matter(started, order, manager):
    for name in "abcde":
        make_batch(name)
    assert manager.pause_batch(batch("d").pk)
    assert manager.pause_batch(batch("e").pk)
    assert manager.queue_batch(batch("e").pk)
    for _ in range(started):
        assert WORKER.claim_run("worker")
        assert manager.complete_batch(Batch.objects.running().get().pk)
    make_batch("behind")
    assert manager.undo_change(batch("d").pk)
    assert waiting_names() == order
    assert_consistent()


def test_the_first_batch_goes_back_to_the_front_if_a_worker_has_started_the_next_one_since(manager):
    for name in "abc":
        make_batch(name)
    assert manager.pause_batch(batch("a").pk)
    assert WORKER.claim_run("worker").batch.name == "b"
    assert manager.undo_change(batch("a").pk)
    assert waiting_names() == ["a", "c"]
    assert_consistent()


def test_an_undo_is_refused_after_a_change_just_ahead_of_its_place_even_if_workers_have_started_batches(manager):
    for name in "abcd":
        make_batch(name)
    assert manager.pause_batch(batch("d").pk)
    assert WORKER.claim_run("worker").batch.name == "a"
    assert manager.pause_batch(batch("c").pk)
    with unchanged():
        assert manager.undo_change(batch("d").pk).code == Code.STALE_VERSION


def test_the_paused_batch_runs_again_instead_of_the_next_one_that_a_worker_has_started(manager):
    it = half_checked("running")
    before = state()
    assert manager.pause_batch(it.pk)
    assert WORKER.claim_run("worker").batch.name == "first"
    assert manager.undo_change(it.pk)
    assert state() == before
    assert_consistent()


@pytest.mark.parametrize(
    ("name", "later_change", "code"),
    [
        ("pause a waiting one", lambda manager, it: manager.pause_batch(batch("first").pk), Code.STALE_VERSION),
        ("pause a waiting one", lambda manager, it: make_batch("urgent", priority=5), Code.STALE_VERSION),
        ("pause a waiting one", lambda manager, it: manager.delete_batch(batch("first").pk), Code.STALE_VERSION),
        ("move to the end", lambda manager, it: manager.pause_batch(batch("first").pk), Code.STALE_VERSION),
        ("start a waiting one", lambda manager, it: make_batch("urgent", priority=5), Code.STALE_VERSION),
        ("pause the running one", lambda manager, it: manager.start_batch(batch("first").pk), Code.ANOTHER_RUNNING),
        ("pause the running one", lambda manager, it: manager.hold_queue(), Code.QUEUE_HELD),
        ("pause the running one", lambda manager, it: manager.queue_batch(it.pk), Code.STALE_VERSION),
        ("queue a paused one", lambda manager, it: manager.start_batch(it.pk), Code.STALE_VERSION),
        ("move to the front", lambda manager, it: manager.undo_change(it.pk), Code.STALE_VERSION),
    ],
)
def test_the_undo_is_refused_if_somebody_has_changed_the_order_or_the_batch(name, later_change, code, manager):
    status, change = CHANGES[name]
    it = half_checked(status)
    assert change(manager, it)
    entry = last_line().pk
    assert later_change(manager, it)
    with unchanged():
        assert manager.undo_change(it.pk, entry).code == code
    assert_consistent()


@pytest.mark.parametrize(
    ("status", "change"),
    [
        (None, lambda manager, it: manager.rename_batch(it.pk, "renamed")),
        ("done", lambda manager, it: manager.queue_batch(it.pk)),
        ("done", lambda manager, it: manager.retry_failed(it.pk)),
        ("queued", lambda manager, it: manager.set_priority(it.pk, 5)),
        ("running", lambda manager, it: manager.complete_batch(it.pk)),
        ("queued", lambda manager, it: manager.pause_batch(it.pk) and manager.undo_change(it.pk)),
    ],
    ids=["creation", "recheck all", "recheck failed", "priority", "end", "undo"],
)
def test_other_changes_cannot_be_undone(status, change, manager):
    it = half_checked(status) if status else make_batch()
    assert change(manager, it)
    with unchanged():
        refusal = manager.undo_change(it.pk)
        assert (bool(refusal), refusal.code) == (False, Code.NOTHING_TO_UNDO)
        assert manager.undo_change(it.pk, "latest").code == Code.STALE_VERSION
