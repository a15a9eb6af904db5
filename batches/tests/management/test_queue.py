"""`manage.py queue`: show it, hold it, release it."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from batches import __version__
from batches.conf import command_line
from batches.management.output import when
from batches.models import Batch, Queue, Worker
from batches.queue.workers import note_worker
from batches.tests.support.factories import half_checked, make_batch, make_waiting

pytestmark = pytest.mark.django_db


def test_the_running_batch_and_the_queued_ones_are_shown_in_order(manage):
    half_checked(Batch.Status.RUNNING)
    make_batch("set aside", queue=False)
    _, *lines, _, _, worker = manage("queue", "show").out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["0", "running", "it"],
        ["1", "queued", "first"],
        ["2", "queued", "last"],
    ]
    name, version, *_, batch, partitions, _ = worker.split()
    assert (name, version, batch, partitions) == ("worker", __version__, "it", "1")
    assert manage("queue", "show", "--limit", 1).out.splitlines()[2:5] == [
        lines[1],
        "and 1 more; show all with --limit",
        "",
    ]


def test_workers_that_have_died_are_shown_last_and_the_first_ones_only(manage):
    for name in ("dead", "idle"):
        note_worker(name)
    Worker.objects.filter(name="dead").update(seen_at=timezone.now() - timedelta(hours=1))
    _, _, _, idle, dead = manage("queue", "show").out.splitlines()
    assert re.fullmatch(rf"idle +{re.escape(__version__)} +\S+ \S+ UTC +idle", idle)
    assert re.fullmatch(rf"dead +{re.escape(__version__)} +no heartbeat since \S+ \S+ UTC", dead)
    assert manage("queue", "show", "--limit", 1).out.endswith("idle\nand 1 more worker; show all with --limit\n")
    shown = json.loads(manage("queue", "show", "--json", "--limit", 1).out)
    assert ([worker["name"] for worker in shown["workers"]], shown["workers_total"]) == (["idle"], 2)


def test_json_has_as_many_batches_as_asked_for_and_the_number_of_all(manage):
    """Its fields have a test in `test_public_fields.py`."""
    make_waiting(3)
    shown = json.loads(manage("queue", "show", "--json", "--limit", 2).out)
    assert ([batch["name"] for batch in shown["waiting"]], shown["waiting_total"]) == (["1", "2"], 3)


def test_a_held_queue_says_who_holds_it_and_why_until_it_is_released(manage, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    make_waiting(1)
    sentence = f"The queue is held. The running batch continues; release it with: {command_line('queue release')}\n"
    assert manage("queue", "hold", "--reason", "New disk") == (0, sentence, "")
    held_at = f"{Queue.objects.get().held_at:%Y-%m-%d %H:%M:%S} UTC"
    assert manage("queue", "show").out.startswith(f"Queue held by ada since {held_at}: New disk\n")
    assert manage("queue", "release") == (0, "The queue is released.\n", "")
    assert "held" not in manage("queue", "show").out


def test_a_hold_can_stop_the_running_batch_until_the_release(manage):
    half_checked(Batch.Status.RUNNING)
    sentence = f"The queue is held. “it” is stopped until then; release it with: {command_line('queue release')}\n"
    assert manage("queue", "hold", "--reason", "New disk.", "--stop-running") == (0, sentence, "")
    header, _, first, *_ = manage("queue", "show").out.splitlines()
    assert header.endswith(": New disk. “it” is stopped until the release.")
    assert first.split()[:3] == ["1", "queued", "it"]
    assert manage("queue", "release").code == 0
    assert Batch.objects.running().get().name == "it"


def test_a_hold_for_an_outage_says_how_it_ends(manage):
    manage("queue", "hold", "--reason", "This machine seems to be offline.")
    Queue.objects.update(outage_since=timezone.now())
    line = manage("queue", "show").out.splitlines()[0]
    assert line.endswith(": This machine seems to be offline. It is released as soon as sites answer again.")
    assert json.loads(manage("queue", "show", "--json").out)["outage_since"]


def test_a_time_has_its_zone_even_in_summer():
    with timezone.override("Europe/Berlin"):
        assert when(datetime(2026, 7, 1, 12, tzinfo=UTC)) == "2026-07-01 14:00:00 CEST"
        assert when(datetime(2026, 12, 1, 12, tzinfo=UTC)) == "2026-12-01 13:00:00 CET"


def test_a_hold_can_have_an_end(manage):
    until = timezone.localtime() + timedelta(hours=1)
    output = manage("queue", "hold", "--until", f"{until:%Y-%m-%dT%H:%M}").out
    assert output.startswith(f"The queue is held until {until:%Y-%m-%d %H:%M}:00 UTC. ")
    assert f"{Queue.objects.get().held_until:%H:%M}" == f"{until.astimezone(UTC):%H:%M}"
    assert f" until {until:%Y-%m-%d %H:%M}:00 UTC" in manage("queue", "show").out
    assert manage("queue", "hold", "--until", f"{until:%H:%M}").code == 0
    assert Queue.objects.get().held_until - timezone.now() <= timedelta(hours=1)
    yesterday = manage("queue", "hold", "--until", "2020-01-01")
    assert (yesterday.code, yesterday.err) == (1, "The end of a hold must be in the future, and within a year.")
    assert "'soon' is not a time such as 06:00" in manage("queue", "hold", "--until", "soon").err
