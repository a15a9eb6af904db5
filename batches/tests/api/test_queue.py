"""The queue: who runs, who waits in which order, and whether it is held."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.batch_manager import BatchManager

pytestmark = pytest.mark.django_db


def test_the_queue_shows_the_running_batch_and_the_waiting_ones_in_order(client, make_batch):
    running = make_batch("running", name="running")
    last, first = make_batch(name="last"), make_batch(name="first", priority=5)
    make_batch("paused")

    queue = client.get("/api/queue/").json()

    assert queue["running"] == client.get(f"/api/batches/{running.pk}/").json()
    assert [batch["id"] for batch in queue["waiting"]] == [str(first.pk), str(last.pk)]
    assert queue["waiting_total"] == 2


def test_an_empty_queue_is_shown(client):
    assert client.get("/api/queue/").json() == {
        "version": 0,
        "held": False,
        "held_by": "",
        "held_at": None,
        "hold_reason": "",
        "worker": "",
        "worker_seen_at": None,
        "worker_alive": False,
        "running": None,
        "waiting": [],
        "waiting_total": 0,
        "waiting_profiles": 0,
        "all_done": None,
    }


def test_the_first_hundred_waiting_batches_are_shown(client, monkeypatch, make_batch):
    monkeypatch.setattr("batches.api.views.MAX_WAITING", 2)
    batches = [make_batch(profiles=0) for _ in range(3)]
    queue = client.get("/api/queue/").json()
    assert [batch["id"] for batch in queue["waiting"]] == [str(batch.pk) for batch in batches[:2]]
    assert queue["waiting_total"] == 3


def test_the_queue_is_held_and_released(client):
    held = client.post("/api/queue/hold/", {"reason": "maintenance"}).json()
    assert (held["held"], held["held_by"], held["hold_reason"]) == (True, "root", "maintenance")
    assert held["held_at"]
    released = client.post("/api/queue/release/").json()
    assert (released["held"], released["held_by"], released["held_at"], released["hold_reason"]) == (
        False,
        "",
        None,
        "",
    )
    assert released["version"] > held["version"]


def test_a_hold_needs_no_reason(client):
    assert client.post("/api/queue/hold/").json()["held"]


def test_a_second_hold_and_a_second_release_change_nothing(client, everything):
    for call in ("hold", "release"):
        client.post(f"/api/queue/{call}/")
        before = everything()
        assert client.post(f"/api/queue/{call}/").status_code == 200
        assert everything() == before


@pytest.mark.parametrize(
    "reason", [5, True, None, ["x"], {"a": 1}, "\0", "\ud800", pytest.param("x" * 2001, id="long")]
)
def test_a_reason_that_cannot_be_kept_is_refused(client, everything, reason):
    before = everything()
    body = json.dumps({"reason": reason})
    answer = client.post("/api/queue/hold/", body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json()["errors"].keys() == {"reason"}
    assert everything() == before


def test_the_number_of_queries_does_not_grow_with_the_queue(client, make_batch):
    make_batch("running", profiles=0)
    few = count_queries(client)
    for _ in range(10):
        make_batch(profiles=0)
    assert count_queries(client) == few


def count_queries(client):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert client.get("/api/queue/").status_code == 200
    assert all(query["sql"].startswith("SELECT") for query in queries)
    return len(queries)


def test_a_batch_shows_who_runs_the_queue(client, make_batch):
    make_batch()
    BatchManager().claim_run("worker 1 on host")
    queue = client.get("/api/queue/").json()
    assert queue["worker"] == "worker 1 on host"
    assert queue["worker_seen_at"]
