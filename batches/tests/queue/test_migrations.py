"""The migrations go forward and backward with data in the tables."""

from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from batches import __version__
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Profile, ProfileList, Queue, StoryResult, Subscription, Webhook, Worker
from batches.queue.workers import note_worker
from batches.tests.support.chunks import Killed
from batches.tests.support.factories import (
    MODELS,
    assert_consistent,
    everything,
    half_checked,
    make_batch,
    make_list,
    subscribe,
    urls,
    urls_of,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

#: Such a migration changes no more. `make test` takes data through the latest ones, and through all others once.
of_an_older_version = pytest.mark.exhaustive


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


def repeat(batch):
    repeat = BatchManager().repeat_batch(batch.pk)
    assert repeat
    return repeat


@of_an_older_version
def test_batches_that_repeat_each_other_become_the_runs_of_a_list():
    """A chain, a batch that was repeated twice, another of the same name, one without its previous, a single one."""
    make_batch("alone", 2)
    news = make_batch("News", 3, priority=2, checker="http")
    chain = [news, repeat(news), repeat(repeat(news))]
    chain.insert(2, chain[2].previous)
    other = make_batch("News", 4)
    assert BatchManager().rename_batch(repeat(other).pk, "x" * 200)
    assert BatchManager().rename_batch(repeat(other).pk, "News")
    gone = make_batch("gone", 1)
    repeat(gone)
    assert BatchManager().delete_batch(gone.pk)
    with back_at("0009"):
        assert not BatchLog.objects.filter(action="create_list").exists()
    lists = {found.name: found for found in ProfileList.objects.all()}
    assert set(lists) == {"News", "News (2)"}
    assert [(found.priority, found.checker) for found in (lists["News"], lists["News (2)"])] == [
        (2, "http"),
        (0, "feed"),
    ]
    assert set(lists["News"].runs.all()) == set(chain)
    assert urls_of(lists["News"]) == urls(3)
    assert urls_of(lists["News (2)"]) == urls(4)
    assert lists["News (2)"].runs.count() == 3
    assert [line.message for line in BatchLog.objects.filter(list=lists["News"])] == [
        "made of 4 batches that repeat each other"
    ]
    assert_consistent()
    with back_at("0008"):
        pass
    assert ProfileList.objects.count() == 2
    assert repeat(news).list.name == "News"


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


@of_an_older_version
def test_what_was_known_of_profiles_counts_as_read_or_failing():
    read, ok_once, seen, failing, _ = (Profile.objects.create(url=url) for url in urls(5))
    day = [datetime(2026, 6, number, tzinfo=UTC) for number in range(1, 6)]
    counters = {"total_profiles": 2, "completed_profiles": 2, "successful_checks": 1, "skipped_profiles": 1}
    batch = Batch.objects.create(name="old", status="paused", **counters)
    batch.profiles.create(profile=ok_once, status="ok", checked_at=day[1])
    skipped = batch.profiles.create(profile=failing, status="skipped", error="It rests.")
    StoryResult.objects.create(profile=read, story_id="a", found_at=day[0])
    Profile.objects.filter(pk=ok_once.pk).update(last_checked_at=day[2], last_error="It is gone.")
    Profile.objects.filter(pk=seen.pk).update(last_checked_at=day[3])
    Profile.objects.filter(pk=failing.pk).update(last_checked_at=day[4], last_error="It is gone.")
    with back_at("0017"), connection.cursor() as cursor:
        cursor.execute("SELECT status FROM batches_batchprofile ORDER BY id")
        assert cursor.fetchall() == [("ok",), ("pending",)]
    memories = Profile.objects.order_by("pk").values_list("first_read_at", "failures", "failing_since", "rests_until")
    assert list(memories) == [
        (day[0], 0, None, None),
        (day[1], 1, day[2], None),
        (day[3], 0, None, None),
        (None, 1, day[4], None),
        (None, 0, None, None),
    ]
    skipped.refresh_from_db()
    assert (skipped.status, skipped.error) == ("pending", "")
    assert_consistent()


@of_an_older_version
def test_lists_of_chains_are_made_in_small_steps_that_can_be_repeated_after_a_kill(monkeypatch):
    news = make_batch("News", 5)
    repeat(news)
    module = import_module("batches.migrations.0010_lists_of_repeated_batches")
    copy = module.copy_members

    def copy_and_die(*arguments):
        assert not connection.in_atomic_block
        copy(*arguments)
        raise Killed

    monkeypatch.setattr(module, "CHUNK", 2)
    with back_at("0009"):
        monkeypatch.setattr(module, "copy_members", copy_and_die)
        with pytest.raises(Killed):
            migrate("0010")
        monkeypatch.setattr(module, "copy_members", copy)
    [found] = ProfileList.objects.all()
    assert (found.name, found.total_profiles, found.runs.count()) == ("News", 5, 2)
    assert urls_of(found) == urls(5)
    assert_consistent()
