"""`manage.py queue`: the queue as it is, held and released."""

import json

import pytest
from django.db import OperationalError

from batches.batch_manager import BatchManager
from batches.management.commands import queue
from batches.models import Batch, Queue
from batches.tests.support.factories import everything, half_checked, make_batch, make_waiting, start_run

pytestmark = pytest.mark.django_db

Status = Batch.Status


def test_the_running_batch_and_the_waiting_ones_are_shown_in_their_order(manage):
    half_checked(Status.RUNNING)
    make_batch("set aside", queue=False)
    _, *lines = manage("queue", "show").out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["0", "running", "it"],
        ["1", "queued", "first"],
        ["2", "queued", "last"],
    ]


def test_an_empty_queue_says_so(manage):
    make_batch("set aside", queue=False)
    assert manage("queue", "show").out == "The queue is empty.\n"


def test_a_long_queue_is_cut_and_counted(manage):
    start_run(make_batch("running"))
    make_waiting(5)
    lines = manage("queue", "show", "--limit", 2).out.splitlines()
    assert len(lines) == 1 + 1 + 2 + 1
    assert lines[-1] == "and 3 more; show them with --limit"


def test_the_queue_is_json_for_programs(manage):
    run = start_run(make_batch("running"))
    make_waiting(3)
    BatchManager("Ada").hold_queue("Maintenance")
    shown = json.loads(manage("queue", "show", "--json", "--limit", 2).out)
    assert shown["running"]["id"] == str(run.batch.pk)
    assert [batch["name"] for batch in shown["waiting"]] == ["1", "2"]
    assert shown["waiting_total"] == 3
    assert (shown["held"], shown["held_by"], shown["hold_reason"]) == (True, "Ada", "Maintenance")
    assert shown["worker"] == "worker"
    assert shown["version"] == Queue.objects.get().version


def test_an_empty_queue_is_json_too(manage):
    shown = json.loads(manage("queue", "show", "--json").out)
    assert (shown["running"], shown["waiting"], shown["waiting_total"]) == (None, [], 0)
    assert (shown["held"], shown["held_by"], shown["worker"]) == (False, "", "")


def test_a_held_queue_says_by_whom_and_why_until_it_is_released(manage, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    make_waiting(1)
    answer = manage("queue", "hold", "--reason", "New disk")
    assert (answer.code, answer.out) == (
        0,
        "The queue is held. The running batch continues; release it with: manage.py queue release\n",
    )
    held_at = f"{Queue.objects.get().held_at:%Y-%m-%d %H:%M:%S}"
    shown = manage("queue", "show").out
    assert shown.startswith(f"Queue held by ada since {held_at}: New disk\n")
    assert manage("queue", "release") == (0, "The queue is released.\n", "")
    assert "held" not in manage("queue", "show").out


def test_a_database_that_does_not_answer_gets_one_sentence(manage, monkeypatch):
    def be_away():
        raise OperationalError("connection refused\n")

    monkeypatch.setattr(queue, "forecast_queue", be_away)
    assert manage("queue", "show") == (1, "", "The database does not answer: connection refused")


def test_what_is_so_already_is_accepted_and_changes_nothing(manage):
    manage("queue", "hold")
    for action, prepare in (("hold", "hold"), ("release", "release")):
        manage("queue", prepare)
        before = everything()
        assert manage("queue", action).code == 0
        assert everything() == before
