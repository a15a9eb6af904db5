"""`manage.py batch doctor` finds damage, repairs what can be derived, and logs it."""

import json
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from unittest.mock import Mock

import pytest
from django.db import connection
from django.utils import timezone

from batches import batch_manager
from batches.batch_manager import BatchManager
from batches.conf import command_line
from batches.management.batch import changing
from batches.models import (
    Attempt,
    Batch,
    BatchLog,
    BatchProfile,
    Lease,
    ListProfile,
    Partition,
    Profile,
    ProfileList,
    Queue,
    StoryResult,
    Webhook,
    WebhookDelivery,
)
from batches.queue.leases import ClaimedRun
from batches.reports import doctor
from batches.tests.support.factories import (
    WAYS,
    age_leases,
    assert_consistent,
    empty_leases,
    half_checked,
    last_line,
    make_batch,
    make_list,
    make_waiting,
    ok,
    record_one,
    start_run,
    token_of,
    unchanged,
    values_of,
    waiting_names,
)

pytestmark = pytest.mark.django_db

Status = Batch.Status


@contextmanager
def unconstrained(model=Batch):
    """As in a dump that was restored without its constraints."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = ON")
            try:
                yield
            finally:
                cursor.execute("PRAGMA ignore_check_constraints = OFF")
            return
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        table = model._meta.db_table
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype IN ('c', 'f', 'u')", [table]
        )
        for (name,) in cursor.fetchall():
            cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}" CASCADE')
        yield


def break_batch(batch, **changes):
    with unconstrained():
        assert Batch.everything.filter(pk=batch.pk).update(**changes)


def messages():
    return [finding.message for finding in doctor.diagnose()]


def assert_is_repaired():
    """The repair removes all findings, and repeating it changes nothing."""
    findings = doctor.diagnose()
    doctor.repair(findings, BatchManager("a doctor"))
    assert messages() == []
    assert_consistent()
    with unchanged():
        doctor.repair(findings, BatchManager("a doctor"))


@pytest.mark.parametrize("status", WAYS)
@pytest.mark.parametrize("rows", [True, False])
def test_a_queue_that_only_the_manager_changed_has_no_findings(status, rows):
    half_checked(status, rows)
    with unchanged():
        assert messages() == []
        doctor.repair([], BatchManager())


@pytest.mark.parametrize("status", [Status.RUNNING, Status.PAUSED, Status.DONE])
def test_counters_are_recounted_from_the_rows(status):
    batch = half_checked(status)
    empty_leases(batch)
    for counters in (
        {"completed_profiles": 3},
        {"completed_profiles": 3, "successful_checks": 2},
        {"failed_checks": 0},
        {"successful_checks": 0},
        {"total_profiles": 7},
    ):
        break_batch(batch, **counters)
        found = messages()
        assert len(found) == len(counters)
        assert all("its rows add up to" in message for message in found)
        assert_is_repaired()
        line = last_line()
        assert (line.batch_id, line.action, line.actor) == (batch.pk, "repair_batch", "a doctor")
        assert all(counter in line.message for counter in counters)


@pytest.mark.parametrize("status", [Status.PAUSED, Status.QUEUED, Status.DONE, Status.ERROR])
def test_leases_of_a_batch_that_does_not_run_are_ended(status):
    batch = half_checked(status)
    Lease.objects.create(batch=batch, worker="worker", lease_at=timezone.now(), successful_checks=3)
    assert messages() == ["is leased by a worker, but is not running"]
    before = values_of(batch.pk)
    assert_is_repaired()
    assert values_of(batch.pk) == before
    assert last_line().message == "ended its leases"


def test_a_running_batch_keeps_its_workers_while_it_is_repaired():
    batch = half_checked(Status.RUNNING)
    token = token_of(batch)
    break_batch(batch, failed_checks=1)
    assert_is_repaired()
    assert record_one(ClaimedRun(batch, token), ok("new"))
    batch.refresh_from_db()
    assert (batch.completed_profiles, batch.stories_found) == (3, 2)
    assert_consistent()


def test_the_counters_of_a_batch_without_rows_are_not_checked():
    batch = half_checked(Status.PAUSED, rows=False)
    Batch.objects.filter(pk=batch.pk).update(completed_profiles=1, failed_checks=0)
    assert messages() == []
    break_batch(batch, error="It broke.")
    assert_is_repaired()
    batch.refresh_from_db()
    assert (batch.total_profiles, batch.completed_profiles) == (3, 1)


def test_gaps_in_the_queue_are_closed_in_its_order():
    batches = make_waiting(4)
    BatchManager().move_batch(batches[3].pk, 1)
    Batch.objects.filter(pk=batches[2].pk).update(position=9)
    assert messages() == ["The queue has gaps: 4 queued batches, the last at position 9."]
    assert_is_repaired()
    assert waiting_names() == ["4", "1", "2", "3"]


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (Status.PAUSED, {"position": 9}),
        (Status.DONE, {"position": 0}),
        (Status.QUEUED, {"position": None}),
        (Status.QUEUED, {"position": 0}),
        (Status.RUNNING, {"position": None}),
        (Status.RUNNING, {"position": 9}),
        (Status.DONE, {"completed_at": None}),
        (Status.RUNNING, {"completed_at": timezone.now()}),
        (Status.ERROR, {"error": ""}),
        (Status.PAUSED, {"error": "It broke."}),
    ],
)
def test_fields_that_contradict_the_status_are_repaired(status, wrong):
    batch = half_checked(status)
    break_batch(batch, **wrong)
    assert messages()
    assert_is_repaired()
    batch.refresh_from_db()
    assert batch.status == status
    assert last_line().action in {"repair_batch", "reorder_queue"}


def test_the_second_of_two_running_batches_is_paused_and_webhooks_are_notified():
    running = start_run(make_batch("right", 2)).batch
    other = make_batch("wrong", 2)
    break_batch(other, status=Status.RUNNING, position=None)
    Webhook.objects.create(url="https://example.org/hook")
    assert "2 batches are running at once." in messages()
    assert_is_repaired()
    assert Batch.objects.get(pk=running.pk).status == Status.RUNNING
    assert Batch.objects.get(pk=other.pk).status == Status.PAUSED
    assert [(delivery.type, delivery.batch) for delivery in WebhookDelivery.objects.all()] == [("batch.paused", other)]


def test_wrong_positions_are_freed_before_others_need_them():
    done, queued = half_checked(Status.DONE), make_batch("queued")
    running = start_run(make_batch("running", 1)).batch
    break_batch(running, position=None)
    break_batch(queued, position=None)
    break_batch(done, position=0)
    assert_is_repaired()
    assert Batch.objects.get(pk=running.pk).position == 0


def test_a_status_that_is_not_logged_is_logged():
    batch = make_batch("moved by hand")
    break_batch(batch, status=Status.PAUSED, position=None)
    BatchLog.objects.filter(batch=make_batch("never logged")).delete()
    expected = {"is paused, but its last log entry says queued", "is queued, but has no log entry"}
    assert set(messages()) == expected
    assert_is_repaired()
    line = batch.logs.latest("pk")
    assert (line.from_status, line.to_status) == (Status.QUEUED, Status.PAUSED)


@pytest.mark.parametrize("since", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_run_without_a_heartbeat_is_reported_and_left_to_the_next_worker(since):
    run = start_run(make_batch("it", 2))
    long_ago = timezone.now() - timedelta(hours=2)
    assert age_leases(run.batch, -since)
    Batch.objects.filter(pk=run.batch.pk).update(started_at=long_ago)
    [finding] = doctor.diagnose()
    assert "no heartbeat since" in finding.message
    assert not finding.can_be_fixed
    with unchanged():
        doctor.repair([finding], BatchManager())


def test_an_outage_that_lasts_is_reported_and_left_to_the_workers():
    assert BatchManager().hold_queue("This machine seems to be offline.")
    now = timezone.now()
    Queue.objects.update(outage_since=now)
    assert messages() == []
    Queue.objects.update(outage_since=now - timedelta(hours=1))
    [finding] = doctor.diagnose()
    assert "This machine seems to be offline. Check its network. Workers continue automatically" in finding.message
    assert not finding.can_be_fixed


def test_a_started_batch_that_no_worker_claims_is_reported():
    batch = make_batch("started", 2)
    BatchManager().start_batch(batch.pk)
    assert messages() == []
    Batch.objects.filter(pk=batch.pk).update(started_at=timezone.now() - timedelta(hours=1))
    assert messages() == [f"no worker has claimed it. Start a worker with: {command_line('batchworker')}"]


def test_rows_without_a_batch_are_deleted():
    kept, lost = make_batch("kept", 2), make_batch("lost", 3)
    record_one(start_run(lost), ok("a story"))
    Attempt.objects.create(batch=lost, profile=Profile.objects.earliest("pk"), status="ok", checked_at=timezone.now())
    with ExitStack() as stack:
        for model in (Partition, Lease, BatchProfile, Attempt, StoryResult, BatchLog):
            stack.enter_context(unconstrained(model))
        Batch.everything.filter(pk=lost.pk)._raw_delete("default")
        assert "Rows without their batch, list or profile: 3 batch profiles." in messages()
        assert len(messages()) == 6
        assert_is_repaired()
    assert set(BatchProfile.objects.values_list("batch", flat=True)) == {kept.pk}
    assert not any(model.objects.exists() for model in (StoryResult, Attempt, Lease, Partition))


def test_profiles_of_a_list_that_is_gone_are_deleted():
    kept, lost = make_list("kept", 2), make_list("lost", 3)
    with unconstrained(ListProfile), unconstrained(BatchLog):
        ProfileList.objects.filter(pk=lost.pk)._raw_delete("default")
        assert messages() == ["Rows without their batch, list or profile: 3 profiles of lists."]
        assert_is_repaired()
        BatchLog.objects.filter(list=lost.pk).update(list=None)
    assert set(ListProfile.objects.values_list("list", flat=True)) == {kept.pk}


def test_the_profiles_of_a_list_are_counted_again():
    found = make_list("News", 3)
    ProfileList.objects.update(total_profiles=7)
    make_list("Empty")
    assert messages() == ["The list “News” counts 7 profiles, but has 3."]
    assert_is_repaired()
    found.refresh_from_db()
    assert (found.total_profiles, found.version) == (3, 2)
    assert (last_line().action, last_line().list, last_line().message) == ("repair_rows", found, "counted 3 profiles")


def test_a_list_that_is_deleted_during_the_repair_needs_none(monkeypatch):
    found = make_list("News", 3)
    assert BatchManager().delete_list(found.pk)
    monkeypatch.setattr(batch_manager, "find_miscounted", lambda: [found])
    assert BatchManager().repair_rows() == 0


# -- The command -------------------------------------------------------------------------------------------------------


def test_the_command_reports_findings_and_repairs_what_it_can(manage):
    batch = half_checked(Status.PAUSED)
    break_batch(batch, failed_checks=0)
    with unchanged():
        answer = manage("batch", "doctor")
        assert answer.code == 1
        assert f"“it” ({batch.pk}): failed_checks is 0, but its rows add up to 1" in answer.out
        assert "manage.py batch doctor --fix" in answer.out
        [finding] = json.loads(manage("batch", "doctor", "--json").out)["findings"]
        assert (finding["batch"], finding["name"], finding["can_be_fixed"]) == (str(batch.pk), "it", True)
    run = start_run(make_batch("lost", 2))
    long_ago = timezone.now() - timedelta(hours=2)
    assert age_leases(run.batch)
    Batch.objects.filter(pk=run.batch.pk).update(started_at=long_ago)
    answer = manage("batch", "doctor", "--fix")
    assert (answer.code, last_line().channel) == (1, "command")
    assert "Repaired: 1. Left: 1." in answer.out
    assert BatchManager().pause_batch(run.batch.pk)
    break_batch(run.batch, failed_checks=1, completed_profiles=1)
    answer = manage("batch", "doctor", "--fix")
    assert answer.code == 0
    assert "Repaired: 2. Left: 0." in answer.out
    assert manage("batch", "doctor") == (0, "No problems found.\n", "")
    answer = manage("batch", "doctor", "--json")
    assert (answer.code, json.loads(answer.out)) == (0, {"findings": [], "left": []})


# -- Pruning -----------------------------------------------------------------------------------------------------------


def test_pruning_deletes_only_batches_that_ended_long_ago(manage):
    old = timezone.now() - timedelta(days=100)
    for status in WAYS:
        half_checked(status)
        Batch.objects.filter(name="it").update(name=status, started_at=old, created_at=old)
        BatchManager().pause_batch(Batch.objects.get(name=status).pk)
    Batch.objects.filter(status=Status.DONE).update(completed_at=old)
    names = set(Batch.objects.values_list("name", flat=True))
    assert "Dry run: 2 batches would be deleted." in manage("batch", "prune", "--dry-run").err
    assert set(Batch.objects.values_list("name", flat=True)) == names
    assert manage("batch", "prune", "--days", "101").out == "0 batches deleted.\n"
    assert manage("batch", "prune", "--keep-errors").out == "1 batch deleted.\n"
    assert set(Batch.objects.values_list("name", flat=True)) == names - {Status.DONE}
    assert manage("batch", "prune").out == "1 batch deleted.\n"
    assert set(Batch.objects.values_list("name", flat=True)) == names - {Status.DONE, Status.ERROR}
    assert last_line().action == "delete_batch"
    assert manage("batch", "prune", "--dry-run").out.startswith("No batch ended that long ago.\nWorkers remove: ")


@pytest.mark.parametrize("change", ["queued again", "done again"])
def test_prune_skips_batches_that_were_queued_again_during_its_question(change, manage, monkeypatch):
    manager = BatchManager()
    batch, old = make_batch("it"), make_batch("old")
    for each in (batch, old):
        assert manager.complete_batch(each.pk)
    Batch.objects.update(completed_at="2020-01-01T00:00Z")

    def answer(question):
        assert question == "Delete 2 batches with all results?"
        assert manager.queue_batch(batch.pk)
        if change == "done again":
            assert manager.complete_batch(batch.pk)

    monkeypatch.setattr(changing, "require_confirmed", answer)
    assert manage("batch", "prune", stdin=Mock(isatty=lambda: True)).out == "1 batch deleted.\n"
    assert Batch.objects.get() == batch
