"""The responses and effects of actions. `test_calls` has their permissions, and the responses by the batch's status."""

import pytest

from batches.batch_manager import BatchManager
from batches.queue.refusals import Code, Refusal

from .conftest import nothing_changes, refusal_of

pytestmark = pytest.mark.django_db


def act(client, batch, call, body=None):
    return client.post(f"/api/batches/{batch.pk}/{call}/", body)


def test_a_batch_that_is_deleted_while_its_call_is_refused_is_not_found(client, make_batch, monkeypatch):
    def refuse_and_delete(manager, batch_id, *values, **expected):
        assert manager.delete_batch(batch_id)
        return Refusal(Code.ANOTHER_RUNNING, "Another batch is running.")

    monkeypatch.setattr(BatchManager, "start_batch", refuse_and_delete)
    answer = act(client, make_batch(), "start")
    assert refusal_of(answer) == (404, "not_found")
    assert answer.json().keys() == {"code", "detail"}


def test_a_start_can_interrupt_the_running_batch_that_was_seen(client, make_batch):
    first, batch = make_batch("running", name="first"), make_batch()
    seen = client.get("/api/queue/").json()["version"]
    with nothing_changes():
        assert refusal_of(act(client, batch, "start", {"queue_version": seen})) == (409, "another_running")
        stale = {"preempt": True, "queue_version": seen - 1}
        assert refusal_of(act(client, batch, "start", stale)) == (409, "stale_version")
    assert act(client, batch, "start", {"preempt": True, "queue_version": seen}).json()["status"] == "running"
    assert client.get(f"/api/batches/{first.pk}/").json()["position"] == 1


def test_a_pause_can_have_a_reason(client, make_batch):
    for body, reason in [({"reason": " The feeds move. "}, "The feeds move."), (None, "")]:
        batch = make_batch()
        assert act(client, batch, "pause", body).json()["status"] == "paused"
        assert client.get(f"/api/batches/{batch.pk}/logs/").json()["results"][0]["message"] == reason


def test_only_the_change_that_the_caller_saw_is_undone(client, make_batch):
    batch = make_batch()
    assert act(client, batch, "pause").status_code == 200
    seen = client.get(f"/api/batches/{batch.pk}/logs/").json()["results"][0]["id"]
    assert act(client, batch, "undo", {"entry": seen}).json()["status"] == "queued"
    with nothing_changes():
        assert refusal_of(act(client, batch, "undo", {"entry": seen})) == (409, "stale_version")
        assert refusal_of(act(client, batch, "undo")) == (409, "nothing_to_undo")


def test_a_move_stops_at_the_end_and_is_refused_if_it_was_decided_from_an_older_queue(client, make_batch):
    first, second = make_batch(), make_batch()
    seen = client.get("/api/queue/").json()["version"]
    assert act(client, second, "move", {"position": 1, "queue_version": seen}).json()["position"] == 1
    with nothing_changes():
        assert refusal_of(act(client, first, "move", {"position": 1, "queue_version": seen})) == (409, "stale_version")
    assert act(client, second, "move", {"position": 2_000_000_000}).json()["position"] == 2


def test_a_batch_gets_a_new_name_or_priority(client, make_batch):
    make_batch()
    path = f"/api/batches/{make_batch().pk}/"
    answer = client.patch(path, {"priority": 5, "name": "another"}).json()
    assert (answer["priority"], answer["position"], answer["name"]) == (5, 1, "another")
    with nothing_changes():
        assert client.patch(path, {}).status_code == 200


@pytest.mark.parametrize("root", ["/api", "/api/v1"])
def test_addresses_in_responses_contain_the_version(client, root):
    answer = client.post(f"{root}/batches/", {"name": "new", "profiles": ["https://example.org/"]})
    batch = answer.json()["batch"]
    assert batch["url"] == answer["Location"] == f"http://testserver/api/v1/batches/{batch['id']}/"
    assert client.get(batch["url"]).json() == batch
    assert client.get(f"{root}/batches/").json()["results"] == [batch]
    assert client.get(f"{root}/queue/").json()["waiting"][0].items() >= batch.items()
    repeat = client.post(f"{root}/batches/{batch['id']}/repeat/")
    assert client.get(repeat["Location"]).json() == repeat.json()
    assert repeat["Location"].startswith("http://testserver/api/v1/batches/")
    assert repeat.json()["previous"] == batch["id"]


def test_failed_profiles_are_retried_by_reason_or_one_by_one(client, make_batch):
    batch = make_batch("paused", failed=2)
    [first, second] = batch.profiles.filter(status="failed").order_by("pk")
    answer = act(client, batch, "retry", {"profiles": [first.profile_id, first.profile_id]}).json()
    assert (answer["status"], answer["failed_checks"]) == ("queued", 1)
    assert BatchManager().pause_batch(batch.pk)
    assert act(client, batch, "retry", {"reasons": [second.error]}).json()["failed_checks"] == 0
    kept = client.get(f"/api/batches/{batch.pk}/attempts/").json()["results"]
    assert [(it["profile"], it["url"], it["status"], it["error"]) for it in kept] == [
        (row.profile_id, row.profile.url, "failed", row.error) for row in (second, first)
    ]
    [only] = client.get(f"/api/batches/{batch.pk}/attempts/?profile={first.profile_id}").json()["results"]
    assert only["id"] == kept[1]["id"]
