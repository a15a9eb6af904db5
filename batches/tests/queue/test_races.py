"""Parallel calls on real databases: one wins, the others are refused, and none raises an exception."""

import random

import pytest
from django.db import transaction
from django.utils import timezone

from batches import batch_manager
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Host, Profile, Queue
from batches.queue import contents
from batches.queue.leases import ClaimedRun
from batches.queue.writer import QueueWriter
from batches.tests.support.factories import (
    assert_consistent,
    failed,
    make_batch,
    make_waiting,
    ok,
    profile_ids,
    start_run,
    urls,
    waiting_names,
)
from batches.tests.support.threads import TIMEOUT, Gate, in_thread, run_in_threads

from .test_transitions import CALLS

pytestmark = pytest.mark.django_db(transaction=True)


# Creating batches


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
