"""`manage.py queue`: show it, hold it, release it."""

import json

import pytest
from django.db import OperationalError

from batches.batch_manager import BatchManager
from batches.management.commands import queue
from batches.models import Batch, Queue
from batches.tests.support.factories import everything, half_checked, make_batch, make_waiting, start_run

pytestmark = pytest.mark.django_db


def test_the_running_batch_and_the_queued_ones_are_shown_in_order(manage):
    half_checked(Batch.Status.RUNNING)
    make_batch("set aside", queue=False)
    _, *lines = manage("queue", "show").out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["0", "running", "it"],
        ["1", "queued", "first"],
        ["2", "queued", "last"],
    ]
    assert manage("queue", "show", "--limit", 1).out.splitlines()[2:] == [
        lines[1],
        "and 1 more; show them with --limit",
    ]


def test_the_queue_is_json_for_programs(manage):
    run = start_run(make_batch("running"))
    make_waiting(3)
    BatchManager("Ada").hold_queue("Maintenance")
    shown = json.loads(manage("queue", "show", "--json", "--limit", 2).out)
    assert shown["running"]["id"] == str(run.batch.pk)
    assert [batch["name"] for batch in shown["waiting"]] == ["1", "2"]
    assert shown["waiting_total"] == 3
    assert (shown["held"], shown["held_by"], shown["hold_reason"]) == (True, "Ada", "Maintenance")
    assert (shown["worker"], shown["version"]) == ("worker", Queue.objects.get().version)


def test_an_empty_queue_is_json_too(manage):
    make_batch("set aside", queue=False)
    shown = json.loads(manage("queue", "show", "--json").out)
    assert (shown["running"], shown["waiting"], shown["waiting_total"]) == (None, [], 0)
    assert (shown["held"], shown["held_by"], shown["worker"]) == (False, "", "")


def test_a_held_queue_says_who_holds_it_and_why_until_it_is_released(manage, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    make_waiting(1)
    sentence = "The queue is held. The running batch continues; release it with: manage.py queue release\n"
    assert manage("queue", "hold", "--reason", "New disk") == (0, sentence, "")
    held_at = f"{Queue.objects.get().held_at:%Y-%m-%d %H:%M:%S}"
    assert manage("queue", "show").out.startswith(f"Queue held by ada since {held_at}: New disk\n")
    assert manage("queue", "release") == (0, "The queue is released.\n", "")
    assert "held" not in manage("queue", "show").out


@pytest.mark.parametrize("action", ["hold", "release"])
def test_a_second_call_is_accepted_and_changes_nothing(action, manage):
    manage("queue", action)
    before = everything()
    assert manage("queue", action).code == 0
    assert everything() == before


def test_a_database_that_does_not_answer_gets_one_sentence(manage, monkeypatch):
    def be_away():
        raise OperationalError("connection refused\n")

    monkeypatch.setattr(queue, "forecast_queue", be_away)
    assert manage("queue", "show") == (1, "", "The database does not answer: connection refused")
