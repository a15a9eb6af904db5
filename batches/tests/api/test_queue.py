"""The queue: its order, its expected times, and whether it is held."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from batches import __version__
from batches.api.serializers import QueueSerializer
from batches.models import Batch, Queue
from batches.models.public_fields import as_json
from batches.reports.forecast import forecast_queue, queue_as_dict
from batches.tests.support.factories import start_run

from .conftest import nothing_changes

pytestmark = pytest.mark.django_db


def test_an_empty_queue_has_no_tag_and_no_row_is_created(client):
    Queue.objects.all().delete()
    answer = client.get("/api/queue/", headers={"If-None-Match": "*"})
    assert (answer.status_code, "ETag" in answer) == (200, False)
    queue = answer.json()
    assert set(queue) == set(QueueSerializer().fields)
    assert {value for value in queue.values() if value not in ("", [])} == {None, False}  # 0 is False
    assert not Queue.objects.exists()


def test_the_queue_contains_the_running_batch_and_the_first_queued_ones_in_order(client, make_batch, monkeypatch):
    monkeypatch.setattr("batches.api.views.MAX_WAITING", 2)
    running = make_batch("running", name="running")
    last, first = make_batch(name="last"), make_batch(name="first", priority=5)
    make_batch("paused")
    make_batch(name="not in the first two")
    queue = client.get("/api/queue/").json()
    assert queue["running"] == client.get(f"/api/batches/{running.pk}/").json()
    assert [batch["id"] for batch in queue["waiting"]] == [str(first.pk), str(last.pk)]
    assert (queue["waiting_total"], queue["waiting_profiles"]) == (3, 6)


def test_the_queue_is_held_until_a_time_and_released(client, make_batch):
    batch, empty = make_batch("running"), client.get("/api/queue/").json()
    until = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    body = {"reason": "maintenance", "until": until.isoformat(), "stop_running": True}
    held = client.post("/api/queue/hold/", body).json()
    assert (held["held"], held["held_by"], held["hold_reason"]) == (True, "root", "maintenance")
    assert held["held_at"]
    assert held["held_until"] == f"{until:%Y-%m-%dT%H:%M:%S}Z"
    assert (held["running"], held["stopped"], held["waiting"][0]["id"]) == (None, str(batch.pk), str(batch.pk))
    released = client.post("/api/queue/release/").json()
    assert (released["running"]["id"], released["stopped"], released["held_until"]) == (str(batch.pk), None, None)
    assert (released["held"], released["held_by"], released["hold_reason"]) == (False, "", "")
    assert released["version"] > held["version"] > empty["version"]
    with nothing_changes():
        assert client.post("/api/queue/release/").status_code == 200
        answer = client.post("/api/queue/hold/", {"until": "2020-01-01T00:00:00Z"})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_value")


def test_the_queue_has_the_expected_times_of_each_batch(client, make_batch, monkeypatch):
    Batch.objects.filter(pk=make_batch("done").pk).update(completed_profiles=100, total_profiles=100, run_seconds=1000)
    start_run(make_batch())
    make_batch(profiles=3)
    outlook = forecast_queue()
    monkeypatch.setattr("batches.api.views.forecast_queue", lambda turns: outlook)
    queue, expected = client.get("/api/queue/").json(), json.loads(as_json(queue_as_dict(outlook, 1)))
    assert queue["all_done"] == expected["all_done"] == queue["waiting"][0]["expected_end"] is not None
    assert queue["waiting"][0]["expected_start"] == expected["waiting"][0]["expected_start"] < queue["all_done"]
    assert (queue["worker"], queue["worker_version"], queue["worker_alive"]) == ("worker", __version__, True)
    assert queue["worker_seen_at"] == expected["worker_seen_at"] is not None
