"""A call is refused and changes nothing if the state that its caller saw has changed."""

from uuid import UUID

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, Queue
from batches.queue.bulk import run_bulk
from batches.queue.refusals import Code
from batches.tests.support.factories import assert_consistent, half_checked, make_batch, unchanged, values_of

pytestmark = pytest.mark.django_db(transaction=True)

#: Each transition with its other arguments, and a status that allows it.
TRANSITIONS = {
    "queue_batch": ("done",),
    "start_batch": ("paused",),
    "pause_batch": ("running",),
    "complete_batch": ("paused",),
    "handle_error": ("running", "It broke."),
    "move_batch": ("queued", 1),
    "set_priority": ("queued", 5),
    "rename_batch": ("done", "renamed"),
    "retry_failed": ("error",),
    "delete_batch": ("done",),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_call_that_was_decided_from_another_state_is_refused(name, manager):
    status, *arguments = TRANSITIONS[name]
    it, queue = half_checked(status), Queue.objects.get()
    other = "paused" if status != "paused" else "queued"
    for expected in (
        {"expected_status": other},
        {"expected_status": "\0"},
        {"expected_version": queue.version - 1},
        {"expected_in": Batch.objects.filter(status=other)},
        {"expected_status": status, "expected_version": queue.version + 1},
    ):
        with unchanged():
            assert getattr(manager, name)(it.pk, *arguments, **expected).code == Code.STALE_VERSION
    with unchanged():
        assert getattr(manager, name)(it.pk, *arguments, expected_version="7").code == Code.BAD_VALUE
    seen = {
        "expected_status": status,
        "expected_version": queue.version,
        "expected_in": Batch.objects.filter(status=status),
    }
    assert getattr(manager, name)(it.pk, *arguments, **seen) is True
    assert_consistent()


def test_a_bulk_deletion_skips_batches_that_no_longer_match_its_filter(manager):
    gone, kept = make_batch("gone", queue=False), make_batch("kept", queue=False)
    seen = Batch.objects.filter(status="paused")
    ids = list(seen.values_list("pk", flat=True))
    assert manager.queue_batch(kept.pk)
    result = run_bulk(manager, "delete_batch", ids, expected_in=seen)
    results = {outcome.id: outcome.result for outcome in result.outcomes}
    assert results.pop(str(gone.pk)) is True
    assert results[str(kept.pk)].code == Code.STALE_VERSION
    assert Batch.everything.get() == kept


def test_a_repeat_with_the_same_id_is_made_once(manager):
    source, repeat_id = make_batch("source", 3), UUID(int=7)
    first = manager.repeat_batch(source.pk, id=repeat_id)
    assert (first.pk, first.previous, first.total_profiles) == (repeat_id, source, 3)
    with unchanged():
        assert manager.repeat_batch(source.pk, id=repeat_id).code == Code.ALREADY_EXISTS


# The model cannot undo the manager


@pytest.mark.parametrize("fields", [None, ["name", "status", "position", "completed_at"]])
def test_saving_an_old_instance_writes_no_field_of_the_manager(fields, manager):
    it = half_checked("queued")
    stale = Batch.objects.get(pk=it.pk)
    assert manager.complete_batch(it.pk)
    before = values_of(it.pk)
    stale.name = "renamed"
    stale.save(update_fields=fields)
    assert values_of(it.pk) == before | {"name": "renamed"}
    for field in stale._meta.concrete_fields:
        if field.name not in {"id", "name", "priority", "checker", "previous"}:
            with unchanged():
                stale.save(update_fields=[field.name])
    assert BatchManager().reorder_queue()
    assert_consistent()
