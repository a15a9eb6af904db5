"""Due lists run automatically: once, by their own clock, and with few statements."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchProfile, ListProfile, Profile, ProfileList
from batches.queue import schedules
from batches.queue.refusals import Code
from batches.tests.support.chunks import Killed
from batches.tests.support.factories import (
    assert_consistent,
    assert_sound,
    last_line,
    make_batch,
    make_list,
    start_run,
    unchanged,
    urls,
    urls_of,
    waiting_names,
)
from batches.tests.support.threads import run_in_threads

from .conftest import NOON

pytestmark = pytest.mark.django_db

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def scheduled(manager, name="News", profiles=3, schedule="0 * * * *", priority=0, **values):
    found = make_list(name, profiles, priority=priority)
    outcome = manager.change_list(found.pk, schedule=schedule, **values)
    assert outcome, outcome
    found.refresh_from_db()
    return found


def names_of(ids):
    return [Batch.objects.get(pk=pk).name for pk in ids]


def tick(clock):
    return BatchManager("the worker", "worker").queue_due_lists(clock.now)


def finish_all():
    """Check everything that waits."""
    while (batch := Batch.objects.queued().order_by("position").first()) is not None:
        run = start_run(batch)
        assert BatchManager().complete_batch(run.batch.pk)


# Setting a schedule


def test_a_schedule_is_set_changed_and_switched_off_and_on(manager, clock):
    found = scheduled(manager, schedule=" 30  6 * * * ", time_zone="Asia/Kolkata")
    assert (found.schedule, found.next_run_at) == ("30 6 * * *", datetime(2026, 6, 2, 1, tzinfo=UTC))
    assert last_line().message == "schedule: “” → “30 6 * * *”, time_zone: “UTC” → “Asia/Kolkata”"
    assert found.schedule_in_words == "At 06:30 every day (Asia/Kolkata)"
    assert found.next_times == [datetime(2026, 6, day, 1, tzinfo=UTC) for day in (2, 3, 4)]
    assert manager.change_list(found.pk, time_zone="UTC")
    found.refresh_from_db()
    assert found.next_run_at == datetime(2026, 6, 2, 6, 30, tzinfo=UTC)
    assert manager.change_list(found.pk, schedule_active=False)
    found.refresh_from_db()
    assert (found.next_run_at, found.next_times) == (None, [])
    assert found.schedule_in_words == "At 06:30 every day (UTC), off"
    clock.now += 10 * DAY
    assert manager.change_list(found.pk, schedule_active=True)
    found.refresh_from_db()
    assert found.next_run_at == datetime(2026, 6, 12, 6, 30, tzinfo=UTC)  # nothing is caught up
    assert manager.change_list(found.pk, schedule="0," * 45 + "30 6 * * *")  # of as many characters as possible
    assert manager.change_list(found.pk, schedule="")
    found.refresh_from_db()
    assert (found.next_run_at, found.schedule_in_words) == (None, "")


def test_another_edit_leaves_the_next_run_alone(manager, clock):
    found = scheduled(manager, delay_minutes=30)
    clock.now += timedelta(minutes=1)
    assert manager.change_list(found.pk, name="Press", priority=3)
    assert manager.add_profiles(found.pk, urls(9))
    assert ProfileList.objects.get().next_run_at == found.next_run_at


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "0 0 30 2 *"},
        {"schedule": "nonsense"},
        {"schedule": "0 0 * * * *"},
        {"schedule": "0 " * 60},
        {"schedule": 5},
        {"schedule": "0 0 * * *", "time_zone": "Mars/Olympus"},
        {"time_zone": "\0"},
        {"time_zone": None},
        {"delay_minutes": -1},
        {"delay_minutes": "5"},
        {"delay_minutes": 10_081},
        {"schedule": "0 * * * *", "delay_minutes": 60},
        {"schedule_active": "yes"},
        {"schedule_active": None},
    ],
    ids=repr,
)
def test_an_impossible_schedule_is_refused(values, manager):
    found = make_list()
    with unchanged():
        assert manager.change_list(found.pk, **values).code == Code.BAD_VALUE


def test_a_time_zone_or_a_delay_that_does_not_fit_the_schedule_is_refused(manager, clock):
    found = scheduled(manager)
    with unchanged():
        assert manager.change_list(found.pk, delay_minutes=60).code == Code.BAD_VALUE
    assert manager.change_list(found.pk, delay_minutes=59)


# Being due


def test_a_list_that_is_due_is_queued_once(manager, clock):
    make_batch("first")
    found = scheduled(manager)
    assert tick(clock) == []
    clock.now += HOUR
    [pk] = tick(clock)
    run = Batch.objects.get(pk=pk)
    assert (run.name, run.list, run.position, run.total_profiles) == ("News", found, 2, 3)
    assert (urls_of(run), run.status, run.previous) == (urls(3), "queued", None)
    found.refresh_from_db()
    assert found.next_run_at == NOON + 2 * HOUR
    line = last_line()
    assert (line.action, line.batch, line.list, line.actor, line.channel) == (
        "run_list",
        run,
        found,
        "the worker",
        "worker",
    )
    assert (line.to_status, line.to_position) == ("queued", 2)
    assert line.message == "3 profiles, due 2026-06-01 13:00:00 UTC"
    with unchanged():
        assert tick(clock) == []
    assert_sound()


def test_runs_go_behind_the_last_of_at_least_their_priority(manager, clock):
    for name, priority in (("urgent", 9), ("usual", 0), ("moved up", -5)):
        make_batch(name, priority=priority)
    assert manager.move_batch(Batch.objects.get(name="moved up").pk, 2)
    for name, priority in (("low", -9), ("list 9", 9), ("list 5", 5), ("another 5", 5), ("list 0", 0)):
        scheduled(manager, name, 1, priority=priority)
    # Of those behind the same batch, the priority decides first, and then who is due for longer.
    for name, seconds in (("another 5", 1), ("list 9", 2)):
        later = F("next_run_at") + timedelta(seconds=seconds)
        ProfileList.objects.filter(name=name).update(next_run_at=later)
    clock.now += 2 * HOUR
    assert len(tick(clock)) == 5
    assert waiting_names() == ["urgent", "list 9", "list 5", "another 5", "moved up", "usual", "list 0", "low"]
    assert_consistent()


@pytest.mark.parametrize("status", ["queued", "running"])
def test_no_second_run_is_queued_while_one_waits_or_runs_and_then_it_is_caught_up_once(status, manager, clock):
    found = scheduled(manager)
    run = manager.run_list(found.pk)
    if status == "running":
        start_run(run)
    for _ in range(5):
        clock.now += HOUR
        assert tick(clock) == []
    if status == "queued":
        start_run(run)
    assert manager.complete_batch(run.pk)
    [caught_up] = tick(clock)
    assert Batch.objects.get(pk=caught_up).previous == run
    finish_all()
    assert tick(clock) == []
    found.refresh_from_db()
    assert found.next_run_at == NOON + 6 * HOUR


def test_a_schedule_that_is_edited_after_the_clock_was_set_back_runs_again(manager, clock):
    found = scheduled(manager)
    clock.now += HOUR
    assert len(tick(clock)) == 1
    finish_all()
    clock.now -= HOUR
    assert tick(clock) == []
    assert manager.change_list(found.pk, schedule_active=False)
    assert manager.change_list(found.pk, schedule_active=True)
    clock.now += HOUR
    assert len(tick(clock)) == 1


@pytest.mark.parametrize("delay_minutes", [0, 30])
def test_a_run_that_was_planned_before_the_clock_was_set_back_is_planned_again(delay_minutes, manager, clock):
    found = scheduled(manager, delay_minutes=delay_minutes)
    clock.now += 365 * DAY
    [pk] = tick(clock)
    Batch.objects.filter(pk=pk).update(created_at=clock.now)
    finish_all()
    clock.now -= 364 * DAY
    assert tick(clock) == []
    found.refresh_from_db()
    planned = found.next_run_at
    assert timedelta(hours=1) <= planned - clock.now <= timedelta(hours=1, minutes=delay_minutes)
    assert last_line().message == "planned again, since the clock was set back"
    assert tick(clock) == []
    found.refresh_from_db()
    assert found.next_run_at == planned
    assert manager.change_list(found.pk, schedule_active=False)
    assert tick(clock) == []
    assert manager.change_list(found.pk, schedule_active=True)
    clock.now += 2 * HOUR
    assert len(tick(clock)) == 1


def test_a_held_queue_collects_runs(manager, clock):
    scheduled(manager)
    assert manager.hold_queue("Maintenance")
    clock.now += HOUR
    assert len(tick(clock)) == 1


def test_the_delay_is_random_and_within_its_bounds(manager, clock):
    starts = set()
    found = scheduled(manager, delay_minutes=30)
    for _ in range(20):
        assert manager.change_list(found.pk, schedule_active=False)
        assert manager.change_list(found.pk, schedule_active=True)
        delay = ProfileList.objects.get().next_run_at - (NOON + HOUR)
        assert timedelta(0) <= delay <= timedelta(minutes=30)
        starts.add(delay)
    assert len(starts) > 5


def test_a_schedule_that_can_no_longer_be_read_is_switched_off_and_the_others_run(manager, clock):
    broken, fine = scheduled(manager, "broken"), scheduled(manager, "fine")
    ProfileList.objects.filter(pk=broken.pk).update(time_zone="Mars/Olympus", version=7)
    clock.now += HOUR
    assert names_of(tick(clock)) == ["fine"]
    broken.refresh_from_db()
    assert (broken.schedule_active, broken.next_run_at, broken.version) == (False, None, 8)
    assert broken.logs.latest("pk").message == (
        "switched off: “Mars/Olympus” is not a known time zone. Write one such as Europe/Berlin or UTC."
    )
    assert fine.runs.count() == 1


# At the same time


@pytest.mark.django_db(transaction=True)
def test_only_one_of_several_workers_makes_each_run(manager, clock):
    for number in range(5):
        scheduled(manager, f"list {number}", 3)
    clock.now += HOUR
    made = run_in_threads([lambda: BatchManager().queue_due_lists(clock.now)] * 4)
    assert sorted(names_of([pk for ids in made for pk in ids])) == [f"list {number}" for number in range(5)]
    assert Batch.everything.count() == 5
    assert_consistent()


@pytest.fixture
def at_each_chunk(monkeypatch):
    """Stores two rows at a time, and calls a function before each chunk."""
    monkeypatch.setattr(schedules, "INSERT_CHUNK", 2)

    def watch(between):
        partition_of = schedules.partition_of

        def watched(address):
            between()
            return partition_of(address)

        monkeypatch.setattr(schedules, "partition_of", watched)

    return watch


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        lambda found: BatchManager().run_list(found.pk),
        lambda found: BatchManager().change_list(found.pk, schedule_active=False),
        lambda found: BatchManager().delete_list(found.pk),
        lambda found: Batch.everything.in_preparation().update(deleted_at=Now() - timedelta(hours=1)),
    ],
    ids=["run by hand", "switched off", "deleted", "interrupted for too long"],
)
def test_a_change_of_the_list_while_its_run_is_stored_wins(change, manager, clock, at_each_chunk):
    found = scheduled(manager, profiles=1)
    clock.now += HOUR
    at_each_chunk(
        lambda: run_in_threads([lambda: change(found)]) if connection.vendor == "postgresql" else change(found)
    )
    assert tick(clock) == []
    assert Batch.everything.filter(deleted_at__isnull=False).count() == 0
    assert Batch.objects.count() <= 1
    assert_consistent()


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_stops_leaves_the_list_to_the_next_worker(manager, clock):
    found = scheduled(manager, profiles=3)
    clock.now += HOUR
    assert manager.queue_due_lists(clock.now, should_stop=lambda: True) == []
    assert not Batch.everything.exists()
    assert len(tick(clock)) == 1
    assert urls_of(found.runs.get()) == urls(3)


@pytest.mark.django_db(transaction=True)
def test_the_rows_of_a_killed_worker_are_purged_and_stored_again(manager, clock, monkeypatch):
    monkeypatch.setattr(schedules, "INSERT_CHUNK", 2)
    calls = []

    def kill(address):
        calls.append(address)
        if len(calls) == 3:  # in the second chunk
            raise Killed
        return 0

    found = scheduled(manager, profiles=3)
    clock.now += HOUR
    with monkeypatch.context() as patch:
        patch.setattr(schedules, "purge_deleted", lambda: None)
        patch.setattr(schedules, "partition_of", kill)
        with pytest.raises(Killed):
            tick(clock)
    Batch.everything.update(deleted_at=Now() + timedelta(minutes=1))  # a kill would not have marked it
    assert tick(clock) == []  # it may still be alive
    assert BatchProfile.objects.count() == 2
    Batch.everything.update(deleted_at=Now() - timedelta(seconds=1))
    assert tick(clock) == []  # purges it
    assert len(tick(clock)) == 1
    assert urls_of(found.runs.get()) == urls(3)


# Cost


def many_lists(count, members):
    """Lists that are due, with this many profiles each."""
    make_batch(profiles=members)
    profiles = list(Profile.objects.values_list("pk", flat=True))
    on_the_hour = {"schedule": "0 * * * *", "next_run_at": NOON}
    due = [
        ProfileList(name=f"list {number:04}", total_profiles=members, priority=number % 7, **on_the_hour)
        for number in range(count)
    ]
    ProfileList.objects.bulk_create(due)
    ListProfile.objects.bulk_create(ListProfile(list=found, profile_id=pk) for found in due for pk in profiles)


def count_statements(call):
    with CaptureQueriesContext(connection) as captured:
        call()
    return len(captured)


@pytest.mark.slow
def test_a_thousand_lists_cost_as_many_statements_as_one(clock):
    many_lists(1, 2)
    few = count_statements(lambda: tick(clock))
    ProfileList.objects.all().delete()
    many_lists(1000, 2)
    assert count_statements(lambda: tick(clock)) == few <= 30
    assert Batch.objects.queued().count() == 1003
    priorities = list(
        Batch.objects.queued().filter(list__isnull=False).order_by("position").values_list("priority", flat=True)
    )
    assert priorities == sorted(priorities, reverse=True)
    assert_consistent()
    nothing = count_statements(lambda: tick(clock))
    assert nothing == 2


def test_the_rows_are_stored_before_the_queue_is_locked(manager, clock):
    scheduled(manager, profiles=10)
    clock.now += HOUR
    with CaptureQueriesContext(connection) as captured:
        assert tick(clock)
    done = [query["sql"].replace('"', "") for query in captured]
    locked = next(index for index, sql in enumerate(done) if "FROM batches_queue" in sql)
    assert not any("batches_batchprofile" in sql for sql in done[locked:])
    assert any("INSERT INTO batches_batchprofile" in sql for sql in done[:locked])
