"""What each action answers and changes. `test_calls` has its permission and the statuses that allow it."""

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.queue.refusals import Code, Refusal

from .conftest import refusal_of

pytestmark = pytest.mark.django_db


def act(client, batch, call, body=None):
    return client.post(f"/api/batches/{batch.pk}/{call}/", body)


@pytest.mark.parametrize(
    ("call", "state", "status", "position"),
    [
        ("queue", "done", "queued", 1),
        ("start", "queued", "running", 0),
        ("pause", "running", "paused", None),
        ("retry", "error", "queued", 1),
    ],
)
def test_an_action_answers_with_the_batch_as_it_is_afterwards(client, make_batch, call, state, status, position):
    batch = make_batch(state, failed=1)
    answer = act(client, batch, call).json()
    assert (answer["id"], answer["status"], answer["position"]) == (str(batch.pk), status, position)
    assert answer == client.get(f"/api/batches/{batch.pk}/").json()


def test_a_refusal_contains_the_batch_as_it_is(client, make_batch):
    batch = make_batch("done")
    answer = act(client, batch, "pause")
    assert refusal_of(answer) == (409, "finished")
    assert answer.json()["batch"] == client.get(f"/api/batches/{batch.pk}/").json()


def test_a_start_is_refused_while_another_batch_runs(client, make_batch):
    make_batch("running", name="the first")
    answer = act(client, make_batch(), "start")
    assert refusal_of(answer) == (409, "another_running")
    assert "the first" in answer.json()["detail"]
    assert answer.json()["batch"]["status"] == "queued"


def test_a_start_is_refused_while_the_queue_is_held(client, make_batch):
    BatchManager().hold_queue("maintenance")
    answer = act(client, make_batch(), "start")
    assert refusal_of(answer) == (409, "queue_held")
    assert "maintenance" in answer.json()["detail"]


def test_a_retry_is_refused_if_no_profile_failed(client, make_batch):
    assert refusal_of(act(client, make_batch("done"), "retry")) == (409, "nothing_to_retry")


def test_a_batch_that_is_deleted_while_its_call_is_refused_is_not_found(client, make_batch, monkeypatch):
    def refuse_and_delete(manager, batch_id):
        assert manager.delete_batch(batch_id)
        return Refusal(Code.ANOTHER_RUNNING, "Another batch is running.")

    monkeypatch.setattr(BatchManager, "start_batch", refuse_and_delete)
    answer = act(client, make_batch(), "start")
    assert refusal_of(answer) == (404, "not_found")
    assert answer.json().keys() == {"code", "detail"}


def test_a_value_that_only_the_manager_refuses_is_a_bad_request(client, monkeypatch):
    refusal = Refusal(Code.BAD_VALUE, "This name is taken.")
    monkeypatch.setattr(BatchManager, "create_batch", lambda manager, **fields: refusal)
    answer = client.post("/api/batches/", {"name": "news", "profiles": ["https://example.org/"]})
    assert (answer.status_code, answer.json()) == (400, {"code": "bad_value", "detail": "This name is taken."})


def test_a_repeat_creates_a_batch_that_names_the_previous_one(client, make_batch):
    batch = make_batch("done", name="weekly")
    answer = act(client, batch, "repeat")
    again = answer.json()
    assert answer["Location"] == again["url"]
    assert (again["name"], again["status"], again["total_profiles"]) == ("weekly", "queued", 2)
    assert again["previous"] == str(batch.pk)
    assert client.get(again["url"]).json() == again


def test_a_move_shifts_the_others_and_stops_at_the_end(client, make_batch):
    first, second, third = (make_batch(name=name) for name in ("first", "second", "third"))
    assert act(client, third, "move", {"position": 1}).json()["position"] == 1
    assert list(Batch.objects.queued().order_by("position")) == [third, first, second]
    assert act(client, third, "move", {"position": 2_000_000_000}).json()["position"] == 3


def test_a_move_that_was_decided_from_an_older_queue_is_refused(client, make_batch, everything):
    first, second = make_batch(), make_batch()
    seen = client.get("/api/queue/").json()["version"]
    assert act(client, second, "move", {"position": 1, "queue_version": seen}).status_code == 200
    before = everything()
    assert refusal_of(act(client, first, "move", {"position": 1, "queue_version": seen})) == (409, "stale_version")
    assert everything() == before


def test_a_batch_is_renamed_and_moved_to_the_end_of_its_new_priority(client, make_batch, everything):
    make_batch()
    last = make_batch()
    path = f"/api/batches/{last.pk}/"
    answer = client.patch(path, {"priority": 5}).json()
    assert (answer["priority"], answer["position"]) == (5, 1)
    assert client.patch(path, {"name": "another"}).json()["name"] == "another"
    assert last.logs.latest("pk").action == "rename_batch"
    before = everything()
    assert client.patch(path, {}).status_code == 200
    answer = client.patch(path, {"checker": "http"})  # chosen once
    assert (refusal_of(answer), answer.json()["errors"].keys()) == ((400, "invalid"), {"checker"})
    assert everything() == before


def test_a_deleted_batch_is_gone(client, make_batch, django_capture_on_commit_callbacks):
    batch = make_batch()
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.delete(f"/api/batches/{batch.pk}/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(f"/api/batches/{batch.pk}/").status_code == 404
    assert not Batch.everything.exists()


def test_a_deleted_batch_is_hidden_while_its_rows_are_being_removed(client, make_batch, monkeypatch):
    batch = make_batch()
    monkeypatch.setattr(BatchManager, "purge_deleted", lambda self: None)
    client.delete(f"/api/batches/{batch.pk}/")
    assert Batch.everything.exists()
    assert client.get("/api/batches/").json()["results"] == []
    assert client.get(f"/api/batches/{batch.pk}/").status_code == 404


def test_a_fault_is_not_turned_into_an_answer(client, monkeypatch):
    def fail():
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr("batches.api.views.forecast_queue", fail)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        client.get("/api/queue/")


@pytest.mark.parametrize("root", ["/api", "/api/v1"])
def test_addresses_in_answers_contain_the_version(client, root):
    answer = client.post(f"{root}/batches/", {"name": "new", "profiles": ["https://example.org/"]})
    batch = answer.json()["batch"]
    assert batch["url"] == answer["Location"] == f"http://testserver/api/v1/batches/{batch['id']}/"
    assert client.get(batch["url"]).json() == batch
    assert client.get(f"{root}/batches/").json()["results"] == [batch]
    assert client.get(f"{root}/queue/").json()["waiting"][0].items() >= batch.items()
    repeat = client.post(f"{root}/batches/{batch['id']}/repeat/")
    assert repeat["Location"].startswith("http://testserver/api/v1/batches/")
