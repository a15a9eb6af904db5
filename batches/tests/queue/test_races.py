"""Parallel calls on real databases: one wins, the others are refused, and none raises an exception."""

import random

import pytest
from django.db import transaction
from django.utils import timezone

from batches import batch_manager
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Host, Profile, ProfileList, Queue
from batches.queue import contents, results
from batches.queue.leases import ClaimedRun
from batches.queue.refusals import Code
from batches.queue.writer import QueueWriter
from batches.tests.support.factories import (
    age_leases,
    assert_consistent,
    claim,
    failed,
    half_checked,
    make_batch,
    make_list,
    make_waiting,
    ok,
    profile_ids,
    row_statuses,
    start_run,
    token_of,
    urls,
    waiting_names,
)
from batches.tests.support.threads import TIMEOUT, Gate, in_thread, run_in_threads, wait_for_lock

from .test_transitions import CALLS

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_second_of_two_preempting_starts_interrupts_the_first(rounds):
    for _ in rounds():
        it = half_checked("running")
        others = [make_batch(str(number)) for number in range(2)]
        starts = run_in_threads([lambda pk=it.pk: BatchManager().start_batch(pk, preempt=True) for it in others])
        assert starts == [True, True]
        assert Batch.objects.get(position=0) in others
        assert waiting_names()[1:] == ["it", "first", "last"]
        assert Batch.objects.get(pk=it.pk).completed_profiles == 2


@pytest.mark.parametrize("status", ["queued", "started", "expired"])
def test_one_of_several_claims_gets_the_run(status, rounds):
    for _ in rounds():
        it = make_batch("it", 2)
        if status != "queued":
            assert BatchManager().start_batch(it.pk)
        if status == "expired":
            claim()
            assert age_leases(it)
        runs = run_in_threads([lambda: BatchManager().claim_run("worker")] * 4)
        [run] = [run for run in runs if run]
        it.refresh_from_db()
        assert (run.batch, run.run_token) == (it, token_of(it))
        assert it.takeovers == (status == "expired")


# Creating batches


def test_parallel_inserts_leave_no_gap_in_the_queue():
    def insert():
        return [Batch.objects.create(name="plain", priority=random.choice([0, 1])).position for _ in range(5)]

    assert all(position for positions in run_in_threads([insert] * 4) for position in positions)
    assert Batch.objects.queued().count() == 20
    priorities = list(Batch.objects.order_by("position").values_list("priority", flat=True))
    assert priorities == sorted(priorities, reverse=True)
    assert_consistent()


def test_the_first_batches_of_an_empty_database_create_one_queue(rounds):
    for _ in rounds():
        Queue.objects.all().delete()
        run_in_threads([lambda: make_batch("first")] * 4)
        assert Queue.objects.count() == 1
        assert len(waiting_names()) == 4


def test_imports_with_common_addresses_in_opposite_orders_do_not_deadlock(monkeypatch, rounds):
    monkeypatch.setattr(contents, "INSERT_CHUNK", 20)
    for _ in rounds():
        wanted = urls(200)
        shuffled = random.sample(wanted, 200)
        orders = [wanted, wanted[::-1], shuffled]
        batches = run_in_threads([lambda order=order: BatchManager().create_batch("it", order) for order in orders])
        assert Profile.objects.count() == 200
        for batch, order in zip(batches, orders, strict=True):
            assert list(batch.profiles.order_by("pk").values_list("profile__url", flat=True)) == order


# Recording while others write


ENDINGS = {
    "pause": lambda pk: BatchManager().pause_batch(pk),
    "complete": lambda pk: BatchManager().complete_batch(pk),
    "error": lambda pk: BatchManager().handle_error(pk, "It broke."),
    "take over": lambda pk: age_leases(pk) and bool(BatchManager().claim_run("another")),
    "pause and delete": lambda pk: BatchManager().pause_batch(pk) and BatchManager().delete_batch(pk),
    "interrupt": lambda pk: BatchManager().start_batch(make_batch("urgent").pk, preempt=True),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS.keys())
def test_ending_a_run_waits_for_the_results_that_are_being_recorded(end, monkeypatch):
    run = start_run(make_batch("it", 3))
    ids, order = profile_ids(run.batch), []
    gate = Gate(monkeypatch, results, "update_batch_profiles")  # behind the fence

    def record_some():
        answer = BatchManager().record_results(run.batch.pk, run.run_token, [(pk, ok("s")) for pk in ids[:2]])
        order.append("recorded")
        return answer

    def end_it():
        gate.open()
        answer = end(run.batch.pk)
        order.append("ended")
        return answer

    recording = gate.stop(record_some)
    ending = in_thread(end_it)
    assert (recording.result(TIMEOUT), ending.result(TIMEOUT)) == (True, True)
    assert order[-1] == "ended"
    assert BatchManager().record_results(run.batch.pk, run.run_token, [(ids[2], ok())]).code == Code.FENCED
    for batch in Batch.objects.filter(pk=run.batch.pk):  # where it was not deleted
        assert row_statuses(batch) == ["ok", "ok", "pending"]
    assert_consistent()


@pytest.mark.parametrize("end", list(ENDINGS.values())[:3], ids=list(ENDINGS)[:3])
def test_a_result_is_fenced_while_its_run_is_being_ended(end, monkeypatch):
    run = start_run(make_batch("it", 2))
    results = [(pk, ok("s")) for pk in profile_ids(run.batch)]
    gate = Gate(monkeypatch, Queue.objects, "bump_version")  # the batch is written, the change not committed
    ending = gate.stop(lambda: end(run.batch.pk))

    def record_late():
        gate.open()
        return BatchManager().record_results(run.batch.pk, run.run_token, results)

    recording = in_thread(record_late)
    assert ending.result(TIMEOUT) is True
    assert recording.result(TIMEOUT).code == Code.FENCED
    assert row_statuses(run.batch) == ["pending"] * 2
    assert_consistent()


@pytest.mark.databases("postgresql")
def test_a_worker_that_records_again_before_another_has_taken_over_keeps_its_run(monkeypatch):
    """On SQLite, nothing is recorded while another claims."""
    run = start_run(make_batch("it", 2))
    assert age_leases(run.batch)
    gate = Gate(monkeypatch, results, "update_batch_profiles")  # it has renewed its lease, without a COMMIT
    found = [(profile_ids(run.batch)[0], ok())]
    recording = gate.stop(lambda: BatchManager().record_results(run.batch.pk, run.run_token, found))
    claiming = in_thread(lambda: BatchManager().claim_run("another"))
    wait_for_lock(claiming)
    gate.open()
    assert recording.result(TIMEOUT) is True
    assert claiming.result(TIMEOUT) is None
    assert BatchManager().renew_lease(run.batch.pk, run.run_token) is True
    assert Batch.objects.get().takeovers == 0


@pytest.mark.databases("postgresql")
def test_recording_does_not_wait_for_the_queue_lock(monkeypatch):
    """SQLite has one lock for all writers."""
    run = start_run(make_batch("it", 1))
    make_waiting(3)
    gate = Gate(monkeypatch, Queue.objects, "bump_version")
    moving = gate.stop(lambda: BatchManager().move_batch(Batch.objects.get(name="3").pk, 1))
    results = [(pk, ok()) for pk in profile_ids(run.batch)]
    assert BatchManager().record_results(run.batch.pk, run.run_token, results) is True
    assert BatchManager().renew_lease(run.batch.pk, run.run_token) is True
    gate.open()
    assert moving.result(TIMEOUT) is True


def test_two_parallel_recordings_of_the_same_results_count_them_once(rounds):
    for _ in rounds():
        run = start_run(make_batch("it", 50))
        results = [(pk, ok("s")) for pk in profile_ids(run.batch)]
        both = run_in_threads(
            [
                lambda run=run, results=order: BatchManager().record_results(run.batch.pk, run.run_token, results)
                for order in (results, results[::-1])
            ]
        )
        assert both == [True, True]
        run.batch.refresh_from_db()
        assert (run.batch.completed_profiles, run.batch.stories_found) == (50, 50)


# Deleting while others write


#: Each also writes to a batch that somebody may be shifting.
REMOVALS = {
    "the list of a run": lambda found: BatchManager().delete_list(found.pk),
    "a batch that was repeated": lambda found: BatchManager().purge_deleted(),
}


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS.keys())
def test_a_removal_that_also_writes_to_other_batches_waits_for_the_lock_of_the_queue(remove):
    """Without it, both could wait for each other's batches. SQLite has one lock for all writers."""
    found, source = make_list("News", 1), make_batch("source")
    assert BatchManager().run_list(found.pk)
    assert BatchManager().repeat_batch(source.pk)
    Batch.objects.filter(pk=source.pk).update(status="paused", position=None, deleted_at=timezone.now())
    with Queue.objects.locked():
        removing = in_thread(lambda: remove(found))
        wait_for_lock(removing)
        assert not removing.done()
        assert (ProfileList.objects.count(), Batch.everything.count()) == (1, 3)
    removing.result(TIMEOUT)


@pytest.mark.databases("postgresql")
@pytest.mark.parametrize(
    ("prepare", "change"),
    [
        (lambda batch: None, lambda batch, run: BatchManager().rename_batch(batch.pk, "new")),
        (lambda batch: BatchManager().start_batch(batch.pk), lambda batch, run: BatchManager().claim_run("worker")),
        (start_run, lambda batch, run: BatchManager().release_run(batch.pk, run.run_token)),
    ],
    ids=["transition", "running batch", "call of a run"],
)
def test_a_batch_can_be_referred_to_and_copied_while_it_is_changed(prepare, change, monkeypatch):
    """Unless its position changes: PostgreSQL takes that for a part of the key, since it is unique."""
    source = make_batch("source", 2)
    run = prepare(source)
    gate = Gate(monkeypatch, QueueWriter, "_log")
    changing = gate.stop(lambda: change(source, run))
    BatchLog.objects.create(batch=source)
    copy = batch_manager.copy_profiles
    monkeypatch.setattr(batch_manager, "copy_profiles", lambda *source: gate.open() or copy(*source))
    assert BatchManager().repeat_batch(source.pk)
    assert changing.result(TIMEOUT)


# Everything at once


def call_anything(manager, pk):
    calls = [
        *CALLS.values(),
        lambda manager, pk: manager.move_batch(pk, random.randint(1, 8)),
        lambda manager, pk: manager.set_priority(pk, random.randint(-1, 1)),
        lambda manager, pk: manager.create_batch("new", random.sample(urls(6), 3)),
        lambda manager, pk: Batch.objects.create(name="plain"),
        lambda manager, pk: work_on(manager.claim_run("worker")),
    ]
    random.choice(calls)(manager, pk)


def work_on(run: ClaimedRun | None):
    if run:
        manager = BatchManager()
        for profile_id in profile_ids(run.batch):
            manager.record_results(run.batch.pk, run.run_token, [(profile_id, random.choice([ok("s"), failed()]))])
        manager.finish_run(run.batch.pk, run.run_token)


@pytest.mark.slow
def test_random_parallel_calls_keep_everything_consistent_and_raise_nothing():
    for number in range(6):
        make_batch(f"{number}", 4)

    def operate():
        for _ in range(25):
            pks = list(Batch.objects.values_list("pk", flat=True)) or [None]
            call_anything(BatchManager(), random.choice(pks))

    run_in_threads([operate] * 4)
    assert_consistent()
    BatchManager().purge_deleted()
    assert Batch.everything.count() == Batch.objects.count()
    moves = BatchLog.objects.exclude(batch=None).order_by("pk").values_list("batch", "from_status", "to_status")
    last = {}
    for batch_id, from_status, to_status in moves:
        assert from_status == last.get(batch_id, ""), "A line does not continue where the last one of its batch ended."
        last[batch_id] = to_status
    assert last == dict(Batch.objects.values_list("pk", "status"))


@pytest.mark.databases("postgresql")  # on SQLite one writes at a time
def test_pruning_does_not_wait_for_rows_that_others_have_locked():
    hosts = [Host.objects.create(name=f"{number}.example", not_before=timezone.now()).pk for number in range(2)]
    with transaction.atomic():
        Host.objects.select_for_update().get(pk=hosts[0])
        in_thread(lambda: BatchManager().remove_old(Host.objects.all(), hosts)).result(TIMEOUT)
    assert Host.objects.get().pk == hosts[0]
