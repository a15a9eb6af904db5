"""What each action answers, and what it leaves as it was. Who may and which status allows it: `test_matrix`."""

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, Queue

pytestmark = pytest.mark.django_db

CALLS = ("queue", "start", "pause", "move", "retry", "repeat", "change", "delete")


def make_call(client, call, pk):
    path = f"/api/batches/{pk}/"
    if call == "change":
        return client.patch(path, {"priority": 7})
    if call == "delete":
        return client.delete(path)
    return client.post(f"{path}{call}/", {"position": 1} if call == "move" else None)


def test_a_refusal_shows_the_batch_as_it_is_now(client, make_batch):
    batch = make_batch("done")
    answer = make_call(client, "pause", batch.pk)
    assert answer.status_code == 409
    assert answer.json()["batch"] == client.get(f"/api/batches/{batch.pk}/").json()


@pytest.mark.parametrize(
    ("call", "state", "status", "position"),
    [
        ("queue", "done", "queued", 1),
        ("start", "queued", "running", 0),
        ("pause", "running", "paused", None),
        ("retry", "error", "queued", 1),
    ],
)
def test_an_action_answers_with_the_batch_as_it_is_then(client, make_batch, call, state, status, position):
    batch = make_batch(state, failed=1)
    answer = make_call(client, call, batch.pk).json()
    assert (answer["id"], answer["status"], answer["position"]) == (str(batch.pk), status, position)
    assert answer == client.get(f"/api/batches/{batch.pk}/").json()


NO_IDS = [
    "00000000-0000-0000-0000-000000000000",
    "123",
    "None",
    "%00",
    "a%00b",
    "%ED%A0%80",
    "%FF",
    "%0A",
    "a.b",
    "' OR 1=1",
    "é",
    pytest.param("x" * 10_000, id="10 kB"),
]


@pytest.mark.parametrize("pk", NO_IDS)
def test_an_id_that_is_none_is_not_found(client, everything, pk):
    before = everything()
    for answer in (client.get(f"/api/batches/{pk}/"), *(make_call(client, call, pk) for call in CALLS)):
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"
        assert answer.json().keys() == {"code", "detail"}
    assert everything() == before


def test_a_start_is_refused_while_another_batch_runs(client, make_batch):
    make_batch("running", name="the first")
    waiting = make_batch()
    answer = client.post(f"/api/batches/{waiting.pk}/start/")
    assert (answer.status_code, answer.json()["code"]) == (409, "another_running")
    assert "the first" in answer.json()["detail"]
    assert answer.json()["batch"]["status"] == "queued"


def test_a_start_is_refused_while_the_queue_is_held(client, make_batch):
    waiting = make_batch()
    BatchManager().hold_queue("maintenance")
    answer = client.post(f"/api/batches/{waiting.pk}/start/")
    assert (answer.status_code, answer.json()["code"]) == (409, "queue_held")
    assert "maintenance" in answer.json()["detail"]


def test_a_retry_is_refused_where_nothing_failed(client, make_batch):
    answer = client.post(f"/api/batches/{make_batch('done').pk}/retry/")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_retry")


def test_a_repeat_makes_a_new_batch_that_names_the_one_before(client, make_batch):
    batch = make_batch("done", name="weekly")
    answer = client.post(f"/api/batches/{batch.pk}/repeat/")
    again = answer.json()
    assert answer["Location"] == again["url"]
    assert (again["name"], again["status"], again["total_profiles"]) == ("weekly", "queued", 2)
    assert again["previous"] == str(batch.pk)
    assert client.get(again["url"]).json() == again


def test_a_move_shifts_the_others(client, make_batch):
    first, second, third = (make_batch(name=name) for name in ("first", "second", "third"))
    answer = client.post(f"/api/batches/{third.pk}/move/", {"position": 1})
    assert answer.json()["position"] == 1
    assert list(Batch.objects.queued().order_by("position")) == [third, first, second]


def test_a_move_beyond_the_end_goes_to_the_end(client, make_batch):
    first, second = make_batch(), make_batch()
    assert client.post(f"/api/batches/{first.pk}/move/", {"position": 2_000_000_000}).json()["position"] == 2
    second.refresh_from_db()
    assert second.position == 1


def test_a_move_decided_from_an_older_queue_is_refused(client, make_batch, everything):
    first, second = make_batch(), make_batch()
    seen = client.get("/api/queue/").json()["version"]
    assert client.post(f"/api/batches/{second.pk}/move/", {"position": 1, "queue_version": seen}).status_code == 200
    before = everything()
    answer = client.post(f"/api/batches/{first.pk}/move/", {"position": 1, "queue_version": seen})
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_version")
    assert everything() == before


def test_a_changed_priority_moves_a_queued_batch_to_its_band(client, make_batch):
    make_batch()
    last = make_batch()
    answer = client.patch(f"/api/batches/{last.pk}/", {"priority": 5}).json()
    assert (answer["priority"], answer["position"]) == (5, 1)


def test_a_batch_can_be_renamed(client, make_batch):
    batch = make_batch()
    assert client.patch(f"/api/batches/{batch.pk}/", {"name": "another"}).json()["name"] == "another"
    assert batch.logs.latest("pk").action == "rename_batch"


def test_a_patch_of_nothing_changes_nothing(client, make_batch, everything):
    batch = make_batch()
    before = everything()
    assert client.patch(f"/api/batches/{batch.pk}/", {}).status_code == 200
    assert everything() == before


def test_a_deleted_batch_is_gone(client, make_batch, django_capture_on_commit_callbacks):
    batch = make_batch()
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.delete(f"/api/batches/{batch.pk}/")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(f"/api/batches/{batch.pk}/").status_code == 404
    assert not Batch.everything.exists()


@pytest.mark.parametrize("method", ["put", "post"])
def test_a_batch_cannot_be_replaced(client, make_batch, method):
    answer = getattr(client, method)(f"/api/batches/{make_batch().pk}/", {"name": "other"})
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("call", ["queue", "start", "pause", "move", "retry", "repeat"])
def test_a_get_of_an_action_does_nothing(client, make_batch, everything, call):
    batch = make_batch()
    before = everything()
    assert client.get(f"/api/batches/{batch.pk}/{call}/").status_code == 405
    assert everything() == before


def test_a_get_of_the_queue_makes_no_queue(client):
    Queue.objects.all().delete()
    assert client.get("/api/queue/").json()["version"] == 0
    assert not Queue.objects.exists()
