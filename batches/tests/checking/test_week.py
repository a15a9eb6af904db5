"""A week in fast motion: the real worker and the real database, with a clock and an internet of the test's own."""

import json
import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from django.core import mail
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking import outage
from batches.checking.checkers.base import NO_ANSWER, CheckResult
from batches.checking.worker import Worker
from batches.models import Action, Batch, BatchLog, BatchProfile, StoryResult, WebhookDelivery
from batches.tests.support.factories import age_leases, assert_sound, claim, ok, record, subscribe

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive_on("postgresql"), pytest.mark.django_db(transaction=True)]

#: Summer time begins in Berlin on Sunday at 01:00, and ends in Sydney on the next Saturday at 16:00.
BEGIN = datetime(2025, 3, 29, 20, tzinfo=UTC)
END = BEGIN + timedelta(days=7)
HOSTS = [f"host-{number}.example" for number in range(24)]


def at(day, time):
    """A time of this week: day 0 is the Saturday of the beginning."""
    hour, minute = map(int, time.split(":"))
    return datetime(2025, 3, 29, hour, minute, tzinfo=UTC) + timedelta(days=day)


#: The due times of each list, in order.
DUE = {
    "Press": [at(day, time) for day in range(1, 8) for time in ("00:00", "08:00", "16:00")],
    # At 02:30, which does not exist on the first day.
    "Berlin": [at(1, "01:00"), *(at(day, "00:30") for day in range(2, 8))],
    # At 02:30, which comes twice on the last day.
    "Sydney": [at(day, "15:30") for day in range(1, 8)],
}

#: Nobody is reachable from here, and no worker runs.
OUTAGES = [(at(3, "07:30"), at(3, "10:00")), (at(4, "23:30"), at(5, "02:00"))]
PAUSE = at(6, "06:00"), at(6, "18:00")

#: Hosts that die, and recover.
DEAD = {
    "host-3.example": (at(2, "00:00"), at(5, "09:00")),
    "host-7.example": (at(1, "08:00"), at(1, "20:00")),
}

STOPPED_BY_SIGNAL, KILLED = at(2, "08:00"), at(2, "16:00")


class World:
    """The clock and the internet. Each host publishes a story a day, at noon, and its feed has the last three."""

    def __init__(self):
        self.now = BEGIN
        self.checks = Counter()

    @property
    def is_online(self):
        return not any(begin <= self.now < end for begin, end in OUTAGES)

    def is_dead(self, host):
        begin, end = DEAD.get(host, (END, END))
        return begin <= self.now < end

    async def check(self, profile):
        host = urlsplit(profile.url).hostname
        self.checks[self.now] += 1
        if self.now == STOPPED_BY_SIGNAL and self.checks[self.now] == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        if not self.is_online or self.is_dead(host):
            return CheckResult(ok=False, error=NO_ANSWER, is_unreachable=True)
        days = (self.now - at(0, "12:00")).days
        return ok(*(f"day {day}" for day in range(days, days - 3, -1)))

    async def answers(self, addresses, config):
        return self.is_online


@pytest.fixture
def world(monkeypatch, script, configure):
    world = World()
    configure(rest_after=3, first_rest=6 * 3600, outage_seconds=0.001, outage_window=24)
    script(world.check)
    monkeypatch.setattr(timezone, "now", lambda: world.now)
    monkeypatch.setattr(outage, "does_any_answer", world.answers)
    return world


def schedule(name, hosts, cron, zone="UTC", priority=0):
    manager = BatchManager()
    found = manager.create_list(name, [f"https://{host}/{name}" for host in hosts], priority, "scripted")
    assert manager.change_list(found.pk, schedule=cron, time_zone=zone)
    assert subscribe(found, f"{name}@example.org", topics=["stories", "done", "failing", "recovered"])


def work(now):
    """Run a new worker each time, since all state is in the database. One dies, and one is stopped."""
    Worker().tend()
    if now == KILLED:
        lost = claim("lost")
        first = lost.batch.profiles.order_by("pk").values_list("profile_id", flat=True)[:3]
        record(lost, [(pk, ok()) for pk in first])
        assert age_leases(lost.batch)
    worker = Worker(delivers=False, seconds=60)
    worker.work()
    if worker.stopped_by:
        Worker(delivers=False, seconds=60).work()


def look_times():
    """When something is due, an hour later, and when something changes."""
    due = {time for times in DUE.values() for time in times}
    changes = {time for period in (*OUTAGES, *DEAD.values()) for time in period}
    looks = due | {time + timedelta(hours=1) for time in due} | changes | {PAUSE[1]}
    return sorted(time for time in looks if not PAUSE[0] <= time < PAUSE[1])


#: The runs that wait for the end of an outage, or for a worker. The second of two that were missed is left out.
MADE_AT = {
    ("Press", at(3, "08:00")): at(3, "10:00"),
    ("Press", at(5, "00:00")): at(5, "02:00"),
    ("Berlin", at(5, "00:30")): at(5, "02:00"),
    ("Press", at(6, "08:00")): at(6, "18:00"),
    ("Sydney", at(6, "15:30")): at(6, "18:00"),
    ("Press", at(6, "16:00")): None,
}
PRIORITY = {"Press": 0, "Berlin": 0, "Sydney": 5}


def expected_runs():
    """When each run ends, in the order of the queue."""
    runs = [
        (MADE_AT.get((name, time), time), -PRIORITY[name], time, name) for name, times in DUE.items() for time in times
    ]
    return [(made, name) for made, _, _, name in sorted(run for run in runs if run[0])]


def ended_runs():
    lines = BatchLog.objects.filter(action=Action.FINISH_RUN).order_by("pk")
    return list(lines.values_list("batch__completed_at", "batch__list__name"))


def test_a_week_of_schedules_outages_and_restarts(world):
    schedule("Press", HOSTS, "0 */8 * * *")
    schedule("Berlin", HOSTS[:3], "30 2 * * *", "Europe/Berlin")
    schedule("Sydney", HOSTS[:3], "30 2 * * *", "Australia/Sydney", PRIORITY["Sydney"])
    for world.now in look_times():
        work(world.now)
    Worker().tend()

    assert ended_runs() == expected_runs()
    assert set(Batch.objects.values_list("status", flat=True)) == {"done"}
    assert_sound()
    rows = Counter(BatchProfile.objects.values_list("batch__list__name", "status"))
    assert rows == {
        ("Press", "ok"): 20 * 24 - 8 - 7,
        ("Press", "failed"): 6 + 2,  # of the host that was dead for three days, and of the other one
        ("Press", "skipped"): 1 + 2 + 4,
        ("Berlin", "ok"): 7 * 3,
        ("Sydney", "ok"): 7 * 3,
    }

    stories = StoryResult.objects.filter(is_baseline=False)
    assert Counter(stories.values_list("batch__list__name", flat=True)) == {
        "Press": 23 * 7 + 5,  # two were over when the dead host was checked again
        "Berlin": 3 * 6,
        "Sydney": 3 * 6,
    }
    sent = [json.loads(delivery.payload)["data"] for delivery in WebhookDelivery.objects.order_by("pk")]
    assert Counter(data["batch"]["id"] for data in sent) == {str(batch.pk): 1 for batch in Batch.objects.all()}
    assert Counter(letter.to[0] for letter in mail.outbox) == Counter(f"{name}@example.org" for _, name in ended_runs())
    reported = [
        (found["profile_url"], story["title"])
        for _, found in find_profiles(sent, "stories")
        for story in found["stories"]
    ]
    assert len(reported) == len(set(reported)) == stories.count()
    changes = [(topic, found["profile_url"]) for topic, found in find_profiles(sent, "failing", "recovered")]
    assert changes == [
        ("failing", "https://host-3.example/Press"),
        ("recovered", "https://host-3.example/Press"),
    ]
    held = BatchLog.objects.filter(action__in=[Action.HOLD_QUEUE, Action.RELEASE_QUEUE]).order_by("pk")
    assert list(held.values_list("action", flat=True)) == ["hold_queue", "release_queue"] * len(OUTAGES)


def find_profiles(sent, *topics):
    return [(topic, found) for data in sent for topic in topics for found in data.get(topic, {}).get("profiles", ())]
