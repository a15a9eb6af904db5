"""One action for many batches: an outcome for each, and never all or nothing by accident."""

from uuid import uuid4

import pytest
from django.db import connection

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog
from batches.tests.support.factories import assert_consistent, cap_bulk

pytestmark = pytest.mark.django_db

PATH = "/api/batches/bulk/"
UNKNOWN = "00000000-0000-0000-0000-000000000000"


def ids_of(batches):
    return [str(batch.pk) for batch in batches]


def do(client, action, batches=None, **body):
    return client.post(PATH, {"action": action} | ({} if batches is None else {"ids": ids_of(batches)}) | body)


def outcomes(answer):
    assert answer.status_code == 200, answer.json()
    return [(outcome["code"] or "ok", outcome["status"]) for outcome in answer.json()["outcomes"]]


STATES = ("queued", "running", "paused", "done", "error")
# Per action the outcomes for queued, running, paused, done and error: a status at the end, or the code of a refusal.
MATRIX = {
    "queue": ("queued", "already_running", "queued", "queued", "queued"),
    "pause": ("paused", "paused", "paused", "finished", "finished"),
    "retry": ("already_queued", "already_running", "queued", "queued", "queued"),
    "repeat": STATES,
    "delete": (None, "already_running", None, None, None),
}


@pytest.mark.parametrize("action", MATRIX)
def test_each_batch_has_the_outcome_that_it_would_have_by_itself(client, make_batch, action):
    batches = [make_batch(state, failed=1) for state in STATES if state != "running"]
    batches.insert(1, make_batch("running", failed=1))

    answer = do(client, action, batches)

    wanted = [
        (end, state) if end in REFUSED else ("ok", end) for end, state in zip(MATRIX[action], STATES, strict=True)
    ]
    assert outcomes(answer) == wanted
    body = answer.json()
    assert [outcome["id"] for outcome in body["outcomes"]] == ids_of(batches)
    assert (body["done"], body["refused"], body["left"]) == (
        sum(code == "ok" for code, _ in wanted),
        sum(code != "ok" for code, _ in wanted),
        0,
    )
    for outcome in body["outcomes"]:
        assert outcome["ok"] == (outcome["code"] is None) == (outcome["detail"] == "")
    assert_consistent()


REFUSED = {"already_running", "already_queued", "finished"}


def test_a_repeat_names_the_batch_that_it_made(client, make_batch):
    batch = make_batch("done")
    [outcome] = do(client, "repeat", [batch]).json()["outcomes"]
    assert Batch.objects.get(pk=outcome["made"]).previous == batch


def test_what_is_no_id_is_not_found_and_the_others_are_done(client, make_batch):
    batch = make_batch()
    strange = [UNKNOWN, "123", "", "\0", "x" * 10_000, "é", "' OR 1=1"]
    answer = client.post(PATH, {"action": "pause", "ids": [*strange, str(batch.pk)]})
    assert outcomes(answer) == [("not_found", None)] * len(strange) + [("ok", "paused")]
    assert all(len(outcome["id"]) <= 100 for outcome in answer.json()["outcomes"])


def test_an_id_that_comes_twice_is_taken_once_however_it_is_written(client, make_batch):
    pk = str(make_batch("done").pk)
    answer = client.post(PATH, {"action": "repeat", "ids": [pk, pk.upper(), pk.replace("-", ""), f"{{{pk}}}"]})
    assert [outcome["id"] for outcome in answer.json()["outcomes"]] == [pk]
    assert Batch.objects.count() == 2


def test_batches_are_queued_in_the_order_given(client, make_batch):
    batches = [make_batch("paused", name=name) for name in "abc"]
    do(client, "queue", [batches[2], batches[0], batches[1]])
    assert "".join(Batch.objects.queued().order_by("position").values_list("name", flat=True)) == "cab"


@pytest.mark.parametrize("action", ["pause", "delete"])
def test_batches_leave_from_the_end_of_the_queue_so_that_no_gap_has_to_be_closed(client, make_batch, action):
    batches = [make_batch(name=name) for name in "abcd"]
    do(client, action, [batches[1], batches[3], batches[0], batches[2]])
    left = BatchLog.objects.filter(channel="api").order_by("pk").values_list("from_position", flat=True)
    assert list(left) == [4, 3, 2, 1]


def test_a_thousand_ids_are_taken_and_one_more_is_not(client, everything):
    ids = [str(uuid4()) for _ in range(1001)]
    before = everything()
    assert do(client, "pause", ids=ids[:1000]).json()["refused"] == 1000
    answer = do(client, "pause", ids=ids)
    assert (answer.status_code, answer.json()["errors"]) == (400, {"ids": ["Send at most 1,000 ids."]})
    assert everything() == before


# By filter


def test_a_filter_means_the_batches_that_the_list_shows_with_it(client, make_batch):
    press = [make_batch("queued", name="press 1"), make_batch("paused", name="Press 2")]
    make_batch("queued", name="other")
    answer = do(client, "delete", filter={"search": "press"})
    assert {outcome["id"] for outcome in answer.json()["outcomes"]} == set(ids_of(press))
    assert [batch.name for batch in Batch.objects.all()] == ["other"]


def test_a_filter_may_have_a_list_and_a_number(client, make_batch):
    make_batch("queued", priority=5)
    make_batch("paused", priority=5)
    make_batch("paused")
    answer = do(client, "delete", filter={"status": ["queued", "paused"], "priority": 5})
    assert answer.json()["done"] == 2
    assert Batch.objects.get().priority == 0


@pytest.mark.parametrize(
    ("action", "states"),
    [
        ("queue", {"paused", "done", "error"}),
        ("pause", {"queued", "running"}),
        ("retry", {"paused", "done", "error"}),
        ("repeat", set(STATES)),
        ("delete", {"queued", "paused", "done", "error"}),
    ],
)
def test_of_those_that_match_the_action_is_tried_with_those_that_it_is_for(client, make_batch, action, states):
    batches = {make_batch(state, failed=1).pk: state for state in STATES if state != "running"}
    batches[make_batch("running", failed=1).pk] = "running"
    make_batch("paused", name="nothing to retry") if action == "retry" else None
    answer = do(client, action, filter={"name": "a batch"})
    done = {state for pk, state in batches.items() if str(pk) in {o["id"] for o in answer.json()["outcomes"]}}
    assert done == states
    assert answer.json()["refused"] == 0


@pytest.mark.parametrize("action", ["queue", "pause", "retry", "delete"])
def test_the_same_request_goes_on_with_those_that_are_left(client, make_batch, monkeypatch, action):
    cap_bulk(monkeypatch, 2)
    for _ in range(5):
        make_batch("queued" if action == "pause" else "done", failed=1)
    left = []
    for _ in range(3):
        answer = do(client, action, filter={"search": "batch"}).json()
        assert answer["refused"] == 0
        left.append((answer["done"], answer["left"]))
    assert left == [(2, 3), (2, 1), (1, 0)]
    assert do(client, action, filter={"search": "batch"}).json()["outcomes"] == []


def test_a_repeat_of_more_than_fit_is_refused_since_it_could_not_go_on(client, make_batch, everything, monkeypatch):
    cap_bulk(monkeypatch, 2)
    for _ in range(3):
        make_batch("done")
    before = everything()
    answer = do(client, "repeat", filter={"search": "batch"})
    assert (answer.status_code, answer.json()["errors"].keys()) == (400, {"filter"})
    assert everything() == before


BAD_FILTERS = [
    ({}, "filter"),
    (None, "filter"),
    ([], "filter"),
    ("status=done", "filter"),
    ({"nonsense": "x"}, "filter.nonsense"),
    ({"ordering": "name"}, "filter.ordering"),
    ({"page": 2}, "filter.page"),
    ({"status": "nonsense"}, "filter.status"),
    ({"status": []}, "filter.status"),
    ({"status": ["done", "nonsense"]}, "filter.status"),
    ({"status": ["done", ["queued"]]}, "filter.status"),
    ({"status": True}, "filter.status"),
    ({"status": None}, "filter.status"),
    ({"search": ""}, "filter.search"),
    ({"search": "  "}, "filter.search"),
    ({"search": "\0"}, "filter.search"),
    ({"search": ["a", "b"]}, "filter.search"),
    ({"search": {"a": 1}}, "filter.search"),
    ({"search": "x" * 201}, "filter.search"),
    ({"priority": "high"}, "filter.priority"),
    ({"priority": 1.5}, "filter.priority"),
    ({"priority": 10**30}, "filter.priority"),
    ({"created_after": "yesterday"}, "filter.created_after"),
    ({"search": "x", "created_after": ""}, "filter.created_after"),
]


@pytest.mark.parametrize(("filter", "field"), BAD_FILTERS, ids=lambda value: str(value)[:30])
def test_a_filter_that_is_none_is_refused_by_name(client, make_batch, everything, filter, field):
    make_batch("done")
    before = everything()
    answer = do(client, "delete", filter=filter)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert answer.json()["errors"].keys() == {field}
    assert everything() == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "action"),
        ({"ids": [UNKNOWN]}, "action"),
        ({"action": "explode", "ids": [UNKNOWN]}, "action"),
        ({"action": "start", "ids": [UNKNOWN]}, "action"),
        ({"action": ["pause"], "ids": [UNKNOWN]}, "action"),
        ({"action": None, "ids": [UNKNOWN]}, "action"),
        ({"action": "pause"}, "ids"),
        ({"action": "pause", "ids": []}, "ids"),
        ({"action": "pause", "ids": None}, "ids"),
        ({"action": "pause", "ids": UNKNOWN}, "ids"),
        ({"action": "pause", "ids": {UNKNOWN: 1}}, "ids"),
        ({"action": "pause", "ids": [UNKNOWN, 5]}, "ids"),
        ({"action": "pause", "ids": [[UNKNOWN]]}, "ids"),
        ({"action": "pause", "ids": [UNKNOWN], "filter": {"search": "x"}}, "ids"),
        ({"action": "pause", "ids": [UNKNOWN], "status": "done"}, "status"),
    ],
    ids=str,
)
def test_a_body_that_is_none_is_refused_by_name(client, everything, body, field):
    before = everything()
    answer = client.post(PATH, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert field in answer.json()["errors"]
    assert everything() == before


def test_a_form_is_no_body_for_it(client):
    answer = client.post(PATH, {"action": "pause", "ids": UNKNOWN}, format="multipart")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_filter_that_cannot_be_stored_is_no_fault(client):
    text = '{"action": "pause", "filter": {"search": "\\ud800"}}'
    assert client.post(PATH, text, content_type="application/json").status_code == 400


# Who may


@pytest.mark.parametrize("action", MATRIX)
@pytest.mark.parametrize("role", ["viewer", "operator", "cleaner", "editor", "creator", "nobody", "root"])
def test_each_action_is_open_to_those_who_may_make_its_call(client_for, make_batch, everything, role, action):
    may = {"root": set(MATRIX), "operator": set(MATRIX) - {"delete"}, "cleaner": {"delete"}}
    client, batch = client_for(role), make_batch("done", failed=1)
    before = everything()
    answer = do(client, action, [batch])
    if action in may.get(role, set()):
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert everything() == before


def test_who_may_not_view_batches_cannot_search_them(client_for, make_batch):
    make_batch("done", name="secret")
    answer = do(client_for("cleaner"), "delete", filter={"search": "secret"})
    assert answer.status_code == 403
    assert Batch.objects.exists()


# Transactions


def break_second_pause(monkeypatch):
    pause, calls = BatchManager.pause_batch, []

    def call(manager, pk):
        calls.append(pk)
        if len(calls) == 2:
            raise ZeroDivisionError("a fault")
        return pause(manager, pk)

    monkeypatch.setattr(BatchManager, "pause_batch", call)


@pytest.mark.django_db(transaction=True)
def test_each_batch_is_a_transaction_of_its_own(client, make_batch, monkeypatch):
    batches, pause, inside = [make_batch() for _ in range(3)], BatchManager.pause_batch, []

    def call(manager, pk):
        inside.append(connection.in_atomic_block)
        return pause(manager, pk)

    monkeypatch.setattr(BatchManager, "pause_batch", call)
    do(client, "pause", batches)
    client.post(PATH, {"action": "pause", "ids": ids_of(batches)}, headers={"Idempotency-Key": "k"})
    assert inside == [False] * 3 + [True] * 3


@pytest.mark.django_db(transaction=True)
def test_with_a_key_a_fault_undoes_all_of_it_and_the_next_try_does_all_of_it(client, make_batch, monkeypatch):
    batches = [make_batch() for _ in range(3)]
    body, headers = {"action": "pause", "ids": ids_of(batches)}, {"Idempotency-Key": "k"}
    with monkeypatch.context() as patch:
        break_second_pause(patch)
        with pytest.raises(ZeroDivisionError):
            client.post(PATH, body, headers=headers)
    assert Batch.objects.queued().count() == 3
    assert client.post(PATH, body, headers=headers).json()["done"] == 3


@pytest.mark.django_db(transaction=True)
def test_with_a_key_a_refusal_undoes_only_its_own_batch(client, make_batch):
    batches = [make_batch(), make_batch("done"), make_batch()]
    body, headers = {"action": "pause", "ids": ids_of(batches)}, {"Idempotency-Key": "k"}
    answer = client.post(PATH, body, headers=headers)
    assert outcomes(answer) == [("ok", "paused"), ("finished", "done"), ("ok", "paused")]
    assert client.post(PATH, body, headers=headers).content == answer.content


@pytest.mark.django_db(transaction=True)
def test_deleted_batches_are_purged_with_a_key_too(client, make_batch):
    batches = [make_batch() for _ in range(3)]
    body, headers = {"action": "delete", "ids": ids_of(batches)}, {"Idempotency-Key": "k"}
    assert client.post(PATH, body, headers=headers).json()["done"] == 3
    assert not Batch.everything.exists()
