"""The migrations go forward and backward with data in the tables."""

from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from batches import __version__
from batches.batch_manager import BatchManager
from batches.models import Batch, Profile, Queue, Subscription, Webhook, Worker
from batches.queue.workers import note_worker
from batches.tests.support.factories import (
    MODELS,
    assert_consistent,
    everything,
    half_checked,
    make_batch,
    make_list,
    subscribe,
    urls,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def migrate(target):
    call_command("migrate", "batches", target, verbosity=0)


@contextmanager
def back_at(target):
    """With the tables as they were at that migration."""
    migrate(target)
    try:
        yield
    finally:
        migrate(latest())


def steps():
    return sorted(name for app, name in MigrationLoader(connection).disk_migrations if app == "batches")


def latest():
    return steps()[-1]


def our_tables():
    return {model._meta.db_table for model in MODELS} & set(connection.introspection.table_names())


@pytest.mark.exhaustive  # the next test leads through all but the first
def test_all_can_be_undone_and_applied_again_with_data_in_the_tables():
    half_checked("running")
    with back_at("zero"):
        assert our_tables() == set()
    assert len(our_tables()) == len(MODELS)
    assert not Batch.objects.exists()
    half_checked("running")
    assert_constrained()


def assert_constrained():
    assert_consistent()
    with pytest.raises(IntegrityError), transaction.atomic():
        Batch.objects.filter(name="first").update(position=0)
    with pytest.raises(IntegrityError), transaction.atomic():
        Profile.objects.bulk_create([Profile(url=urls(1)[0])])


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_data_survive_the_way_back_to_each_step_and_forward_again(every):
    """The way back to the first step leads through all others. One at a time they show which of them loses what."""
    half_checked("done")
    BatchManager().end_worker("worker")
    Batch.objects.update(count_first=False)  # earlier versions have no such choice
    Profile.objects.update(last_duration=None)  # and the next check will know it
    Worker.objects.all().delete()  # and workers will say that they are there
    before = everything()
    for step in steps()[::-1] if every else [steps()[-2], steps()[0]]:
        with back_at(step):
            pass
        assert everything() == before
    make_batch("works", 3)
    assert_constrained()


def test_the_last_worker_of_the_queue_gets_its_own_row():
    note_worker("host:1")
    seen_at = Worker.objects.get().seen_at
    with Queue.objects.locked():
        pass
    with back_at("0032"), connection.cursor() as cursor:
        cursor.execute("SELECT worker, worker_version FROM batches_queue")
        assert cursor.fetchall() == [("host:1", __version__)]
    [worker] = Worker.objects.all()
    assert (worker.name, worker.version, worker.seen_at) == ("host:1", __version__, seen_at)
    assert worker.ended_at == seen_at  # its next heartbeat shows whether it is still alive


def test_subscriptions_of_webhooks_are_identified_by_the_webhook():
    found, webhook = make_list("News", 1), Webhook.objects.create(url="https://example.org/hook")
    for of_list, topic in ((found, "stories"), (None, "held")):
        subscribe(of_list, webhook.url, channel="webhook", topics=[topic])
    subscribe(found)
    before = everything()
    webhooks = Subscription.objects.filter(channel="webhook")
    with back_at("0033"):
        assert set(webhooks.values_list("address", flat=True)) == {webhook.url}
        webhooks.update(address="https://example.org/old")
        later = Subscription.objects.get(list=found, channel="webhook")
        later.pk, later.address, later.created_at = uuid4(), webhook.url, datetime.now(UTC)
        later.save(force_insert=True)
    assert webhooks.get(pk=later.pk).address == webhook.url
    later.delete()
    assert everything() == before


def test_the_way_back_waits_for_a_retry_by_reason_which_earlier_versions_would_take_for_one_of_all_rows():
    batch = half_checked("done")
    Batch.objects.filter(pk=batch.pk).update(reset_after=0, reset_reasons=["It answers with 500."])
    try:
        with pytest.raises(CommandError, match="A retry by reason is not complete"):
            migrate("0030")
    finally:
        migrate(latest())
    Batch.objects.filter(pk=batch.pk).update(reset_after=None, reset_reasons=None)
    with back_at("0030"):
        pass
