"""Pruning while checks run: each kind of row after its own days, a few at a time, by several workers at once."""

import logging
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking import pruning
from batches.checking.pruning import Pruner, list_rules, prune_chunk
from batches.checking.upkeep import do_upkeep
from batches.models import Attempt, Batch, BatchLog, Host, StoryResult, Webhook, WebhookDelivery
from batches.models.api import StoredResponse
from batches.tests.support.factories import (
    assert_sound,
    half_checked,
    make_batch,
    ok,
    profile_ids,
    record,
    start_run,
    unchanged,
)
from batches.tests.support.tables import explain
from batches.tests.support.threads import run_in_threads

pytestmark = pytest.mark.django_db

ALL = {f"PRUNE_{name.upper()}_DAYS": 10 for name in (
    "batches", "stories", "attempts", "logs", "deliveries", "hosts", "sessions", "responses",
)}  # fmt: skip


@pytest.fixture
def everything_is_pruned(settings):
    settings.BATCHES = ALL


def ago(days):
    return timezone.now() - timedelta(days=days)


def make_rows(days):
    """A row of each kind that is this many days old."""
    moment = ago(days)
    batch = make_batch(f"{days} days old", 1)
    run = start_run(batch)
    record(run, [(profile_ids(batch)[0], ok(f"story of {days}"))])
    assert BatchManager().complete_batch(batch.pk)
    Batch.objects.filter(pk=batch.pk).update(completed_at=moment)
    StoryResult.objects.filter(batch=batch).update(found_at=moment, title="A title", url="https://example.org/s")
    BatchLog.objects.filter(batch=batch).update(created_at=moment)
    attempt = {"profile_id": profile_ids(batch)[0], "status": "failed", "checked_at": moment}
    Attempt.objects.create(batch=Batch.objects.filter(name="kept").first() or make_batch("kept"), **attempt)
    hook, _ = Webhook.objects.get_or_create(url="https://example.org/hook")
    WebhookDelivery.objects.create(
        webhook=hook, event_id=uuid.uuid4(), type="webhook.test", created_at=moment, payload="{}", delivered_at=moment
    )
    Host.objects.create(name=f"{days}.example", not_before=moment)
    Session.objects.create(session_key=f"session {days}", session_data="", expire_date=moment)
    user, _ = User.objects.get_or_create(username="ada")
    StoredResponse.objects.create(user=user, key=str(days), fingerprint="f", created_at=moment)
    return batch


def counts():
    return {
        "batches": Batch.everything.exclude(name="kept").count(),
        "shown stories": StoryResult.objects.newest_first().count(),
        "stories": StoryResult.objects.count(),
        "earlier checks": Attempt.objects.count(),
        "deliveries": WebhookDelivery.objects.filter(type="webhook.test").count(),
        "hosts": Host.objects.count(),
        "sessions": Session.objects.count(),
        "responses": StoredResponse.objects.count(),
    }


@pytest.mark.django_db(transaction=True)
def test_each_kind_is_removed_after_its_days_and_the_rest_is_kept(everything_is_pruned):
    old, new = make_rows(11), make_rows(9)
    Pruner().prune(BatchManager("w", "worker"), lambda: False)
    left = counts()
    assert left.pop("stories") == 2  # their IDs
    assert set(left.values()) == {1}, left
    assert Batch.objects.exclude(name="kept").get() == new
    assert not BatchLog.objects.filter(batch=old.pk).exists()
    assert BatchLog.objects.filter(batch=None, action="delete_batch", channel="worker").count() == 1
    assert Host.objects.get().name == "9.example"
    assert_sound()


@pytest.mark.django_db(transaction=True)
def test_nothing_valuable_is_removed_by_default(settings):
    settings.BATCHES = {}
    make_rows(400)
    before = counts()
    Pruner().prune(BatchManager(), lambda: False)
    after = counts()
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {"batches", "shown stories", "stories", "earlier checks"}
    assert BatchLog.objects.filter(batch__isnull=False).exists()


def test_a_pruned_story_is_not_shown_and_never_new_again(settings):
    settings.BATCHES = {"PRUNE_STORIES_DAYS": 10}
    batch = make_rows(11)
    Pruner().prune(BatchManager(), lambda: False)
    story = StoryResult.objects.get()
    assert (story.story_id, story.title, story.url, story.published_at) == ("story of 11", "", "", None)
    batch.refresh_from_db()
    assert list(batch.stories) == list(batch.new_stories) == list(StoryResult.objects.newest_first()) == []
    assert batch.stories_found == 1
    run = start_run(make_batch("again", 1))
    record(run, [(profile_ids(run.batch)[0], ok("story of 11"))])
    run.batch.refresh_from_db()
    assert run.batch.stories_found == 0
    assert BatchManager().complete_batch(run.batch.pk)
    assert BatchManager().forget_profile(story.profile_id)
    batch.refresh_from_db()
    assert batch.stories_found == 0


def test_the_last_log_entry_of_a_batch_stays(settings):
    settings.BATCHES = {"PRUNE_LOGS_DAYS": 10}
    it = half_checked("paused")
    BatchManager().hold_queue("why")
    BatchLog.objects.update(created_at=ago(11))
    Pruner().prune(BatchManager(), lambda: False)
    assert set(BatchLog.objects.values_list("batch__name", "to_status")) == {
        ("it", "paused"), ("first", "queued"), ("last", "queued"),
    }  # fmt: skip
    assert_sound()
    assert it.logs.count() == 1


@pytest.mark.parametrize("status", ["queued", "running", "paused"])
def test_a_batch_that_has_not_ended_stays_however_old_it_is(everything_is_pruned, status):
    it = half_checked(status)
    Batch.objects.update(created_at=ago(400), started_at=ago(400))
    Pruner().prune(BatchManager(), lambda: False)
    assert Batch.objects.filter(pk=it.pk).exists()


def test_a_round_takes_a_chunk_of_each_kind_and_comes_back_until_nothing_is_left(everything_is_pruned, monkeypatch):
    monkeypatch.setattr(pruning, "CHUNK", 2)
    Host.objects.bulk_create(Host(name=f"{number}.example", not_before=ago(11)) for number in range(5))
    pruner, left = Pruner(), []
    for _ in range(4):
        pruner.prune(BatchManager(), lambda: False)
        left.append(Host.objects.count())
    assert left == [3, 1, 0, 0]
    Host.objects.create(name="late.example", not_before=ago(11))
    pruner.prune(BatchManager(), lambda: False)  # rests for an hour
    assert Host.objects.count() == 1


def test_a_worker_that_stops_stops_pruning(everything_is_pruned):
    make_rows(11)
    with unchanged():
        Pruner().prune(BatchManager(), lambda: True)


@pytest.mark.django_db(transaction=True)
def test_the_rest_of_a_deleted_batch_is_removed_after_a_stop(settings):
    settings.BATCHES = {"PRUNE_BATCHES_DAYS": 10}
    batch, asked = make_rows(11), iter([False])
    Pruner().prune(BatchManager(), lambda: next(asked, True))
    assert not Batch.objects.filter(pk=batch.pk).exists()
    assert Batch.everything.to_purge().filter(pk=batch.pk).exists()
    BatchManager().purge_deleted()
    assert not Batch.everything.filter(pk=batch.pk).exists()
    assert_sound()


@pytest.mark.django_db(transaction=True)
def test_several_workers_at_once_do_no_harm(everything_is_pruned, monkeypatch):
    monkeypatch.setattr(pruning, "CHUNK", 20)
    make_rows(11)
    Host.objects.bulk_create(Host(name=f"host-{number}.example", not_before=ago(11)) for number in range(100))

    def work():
        pruner = Pruner()
        for _ in range(10):
            pruner.prune(BatchManager(), lambda: False)

    run_in_threads([work] * 4)
    left = counts()
    assert left.pop("stories") == 1
    assert set(left.values()) == {0}, left
    assert_sound()


@pytest.mark.django_db(transaction=True)
def test_a_fault_is_logged_and_the_rest_of_the_work_is_done(monkeypatch, caplog):
    monkeypatch.setattr(pruning, "list_rules", lambda: 1 / 0)
    monkeypatch.setattr("batches.checking.upkeep.PRUNER", Pruner())
    with caplog.at_level(logging.ERROR):
        do_upkeep(BatchManager(), lambda: False)
    assert [record.message for record in caplog.records] == ["Old rows could not be pruned"]


@pytest.mark.django_db(transaction=True)
def test_one_line_reports_an_unavailable_database(monkeypatch, caplog):
    def fail():
        raise OperationalError("connection refused\n")

    monkeypatch.setattr("batches.checking.upkeep.write_alerts", fail)
    monkeypatch.setattr("batches.checking.upkeep.prepare_messages", pytest.fail)
    do_upkeep(BatchManager(), lambda: False)
    [record] = caplog.records
    assert record.message == "Database error, schedules and messages wait: connection refused"
    assert record.exc_info is None


def test_every_rule_finds_its_rows_by_an_index(settings):
    settings.BATCHES = {"PRUNE_STORIES_DAYS": 10}
    make_rows(11)
    [rule] = [rule for rule in list_rules() if rule.setting == "stories"]
    with CaptureQueriesContext(connection) as captured:
        prune_chunk(rule, BatchManager())
    assert "storyresult_by_age" in explain(captured[0]["sql"])


def test_a_dry_run_counts_by_the_same_rules(everything_is_pruned, manage):
    make_rows(11)
    make_rows(9)
    with unchanged():
        output = manage("batch", "prune", "--dry-run")
    lines = output.out.splitlines()
    assert "11 days old" in lines[1]
    assert "Workers remove: 1 batch older than 10 days." in lines
    assert "Workers remove: 1 story older than 10 days." in lines
    assert "Workers remove: 1 expired session older than 10 days." in lines
    assert output.err == "Dry run: 1 batch would be deleted.\n"
