"""One action on many batches. `queue/test_bulk` has the order and the counts; here is what the API adds."""

import pytest
from django.db import connection

from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.tests.support.factories import assert_consistent, cap_bulk

from .calls import STATES
from .conftest import make_user, refusal_of, token_client

pytestmark = pytest.mark.django_db

PATH = "/api/batches/bulk/"
UNKNOWN = "00000000-0000-0000-0000-000000000000"

# The status afterwards of a queued, running, paused, done and failed batch, or the code of the refusal.
OUTCOMES = {
    "queue": ("queued", "already_running", "queued", "queued", "queued"),
    "pause": ("paused", "paused", "paused", "finished", "finished"),
    "retry": ("already_queued", "already_running", "queued", "queued", "queued"),
    "repeat": STATES,
    "delete": (None, "already_running", None, None, None),
}
REFUSED = {"already_running", "already_queued", "finished"}


def ids_of(batches):
    return [str(batch.pk) for batch in batches]


def send(client, action, batches=None, key=None, **body):
    body = {"action": action} | ({} if batches is None else {"ids": ids_of(batches)}) | body
    return client.post(PATH, body, headers={"Idempotency-Key": key} if key else {})


def outcomes_of(answer):
    assert answer.status_code == 200, answer.json()
    return [(outcome["code"] or "ok", outcome["status"]) for outcome in answer.json()["outcomes"]]


@pytest.fixture
def one_of_each(make_batch):
    """A batch in each of STATES, in their order."""
    batches = [make_batch(state, failed=1) for state in STATES if state != "running"]
    batches.insert(1, make_batch("running", failed=1))
    return batches


@pytest.mark.parametrize("action", OUTCOMES)
def test_each_batch_has_the_outcome_of_a_call_for_it_alone(client, one_of_each, action):
    answer = send(client, action, one_of_each)
    expected = [
        (outcome, state) if outcome in REFUSED else ("ok", outcome)
        for outcome, state in zip(OUTCOMES[action], STATES, strict=True)
    ]
    assert outcomes_of(answer) == expected
    body = answer.json()
    assert [outcome["id"] for outcome in body["outcomes"]] == ids_of(one_of_each)
    refused = sum(code != "ok" for code, _ in expected)
    assert (body["done"], body["refused"], body["left"]) == (5 - refused, refused, 0)
    for outcome, batch in zip(body["outcomes"], one_of_each, strict=True):
        assert outcome["ok"] == (outcome["code"] is None) == (outcome["detail"] == "")
        assert (outcome["made"] is not None) == (action == "repeat")
        assert not outcome["made"] or Batch.objects.get(pk=outcome["made"]).previous == batch
    assert_consistent()


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
def test_a_filter_selects_the_matching_batches_that_the_action_changes(client, one_of_each, make_batch, action, states):
    if action == "retry":
        make_batch("paused", name="a batch without failures")
    make_batch("queued", name="other")
    make_batch("paused", name="other")
    answer = send(client, action, filter={"name": "a batch"}).json()
    changed = {outcome["id"] for outcome in answer["outcomes"]}
    assert changed == {str(batch.pk) for batch, state in zip(one_of_each, STATES, strict=True) if state in states}
    assert answer["refused"] == 0


def test_a_filter_takes_lists_and_numbers(client, make_batch):
    make_batch("queued", priority=5)
    make_batch("paused", priority=5)
    make_batch("paused")
    assert send(client, "delete", filter={"status": ["queued", "paused"], "priority": 5}).json()["done"] == 2
    assert Batch.objects.get().priority == 0


@pytest.mark.parametrize("action", ["queue", "pause", "retry", "delete"])
def test_the_same_request_continues_with_the_batches_that_are_left(client, make_batch, monkeypatch, action):
    cap_bulk(monkeypatch, 2)
    for _ in range(5):
        make_batch("queued" if action == "pause" else "done", failed=1)
    answers = [send(client, action, filter={"search": "batch"}).json() for _ in range(4)]
    assert [(answer["done"], answer["refused"], answer["left"]) for answer in answers] == [
        *((2, 0, 3), (2, 0, 1)),
        *((1, 0, 0), (0, 0, 0)),
    ]


def test_a_filter_that_matches_more_batches_than_can_be_repeated_is_refused(
    client, make_batch, everything, monkeypatch
):
    cap_bulk(monkeypatch, 2)
    for _ in range(3):
        make_batch("done")
    before = everything()
    answer = send(client, "repeat", filter={"search": "batch"})
    assert (answer.status_code, answer.json()["errors"].keys()) == (400, {"filter"})
    assert everything() == before


def test_an_unknown_id_is_an_outcome_and_the_other_batches_are_changed(client, make_batch):
    batch = make_batch()
    unknown = [UNKNOWN, "123", "", "\0", "x" * 10_000, "é", "' OR 1=1"]
    answer = send(client, "pause", ids=[*unknown, str(batch.pk)])
    assert outcomes_of(answer) == [("not_found", None)] * len(unknown) + [("ok", "paused")]
    assert all(len(outcome["id"]) <= 100 for outcome in answer.json()["outcomes"])


def test_an_id_that_is_repeated_counts_once_in_any_spelling(client, make_batch):
    pk = str(make_batch("done").pk)
    answer = send(client, "repeat", ids=[pk, pk.upper(), pk.replace("-", ""), f"{{{pk}}}"])
    assert [outcome["id"] for outcome in answer.json()["outcomes"]] == [pk]
    assert Batch.objects.count() == 2


def test_a_thousand_ids_are_accepted_and_one_more_is_not(client, everything):
    ids = [f"{number:032x}" for number in range(1001)]
    before = everything()
    assert send(client, "pause", ids=ids[:1000]).json()["refused"] == 1000
    answer = send(client, "pause", ids=ids)
    assert (answer.status_code, answer.json()["errors"]) == (400, {"ids": ["Send at most 1,000 ids."]})
    assert everything() == before


IDS = {"ids": [UNKNOWN]}
WRONG = {
    "action": [{}, IDS, *(IDS | {"action": action} for action in ("explode", "start", ["delete"], None))],
    "ids": [
        {"action": "delete"},
        IDS | {"action": "delete", "filter": {"search": "x"}},
        *({"action": "delete", "ids": ids} for ids in ([], None, UNKNOWN, {UNKNOWN: 1}, [UNKNOWN, 5], [[UNKNOWN]])),
    ],
    "filter": [{"action": "delete", "filter": filter} for filter in ({}, None, [], "status=done")],
}
WRONG_FILTERS = {
    "nonsense": ["x"],
    "ordering": ["name"],
    "page": [2],
    "status": ["nonsense", [], ["done", "nonsense"], ["done", ["queued"]], True, None],
    "search": ["", "  ", "\0", ["a", "b"], {"a": 1}, "x" * 201],
    "priority": ["high", 1.5, 10**30],
    "created_after": ["yesterday", ""],
}
WRONG |= {
    f"filter.{name}": [{"action": "delete", "filter": {name: value}} for value in values]
    for name, values in WRONG_FILTERS.items()
}


@pytest.mark.parametrize("field", WRONG)
def test_an_invalid_body_is_refused_by_field(client, make_batch, everything, field):
    make_batch("done")
    before = everything()
    for body in WRONG[field]:
        answer = client.post(PATH, body)
        assert refusal_of(answer) == (400, "invalid"), body
        assert field in answer.json()["errors"], body
    assert everything() == before


def test_a_filter_that_no_database_can_store_is_refused(client):
    text = '{"action": "pause", "filter": {"search": "\\ud800"}}'
    assert client.post(PATH, text, content_type="application/json").status_code == 400


@pytest.mark.parametrize("permission", ["view_batch", "add_batch", "change_batch", "delete_batch", "operate_batch"])
def test_each_action_needs_the_permission_of_its_call(make_batch, everything, permission):
    client, batch = token_client(make_user(permission)), make_batch("done", failed=1)
    before = everything()
    needed = {action: "delete_batch" if action == "delete" else "operate_batch" for action in OUTCOMES}
    for action in (action for action in OUTCOMES if needed[action] != permission):
        assert refusal_of(send(client, action, [batch])) == (403, "permission_denied")
        assert everything() == before
    for action in (action for action in OUTCOMES if needed[action] == permission):
        assert send(client, action, [batch]).status_code == 200


def test_a_filter_needs_the_permission_to_view_batches_too(make_batch):
    make_batch("done", name="secret")
    assert send(token_client(make_user("delete_batch")), "delete", filter={"search": "secret"}).status_code == 403
    assert Batch.objects.exists()


# Transactions


@pytest.mark.django_db(transaction=True)
def test_without_a_key_each_batch_is_a_transaction_and_with_one_all_of_them_are(client, make_batch, monkeypatch):
    batches, pause, atomic = [make_batch() for _ in range(3)], BatchManager.pause_batch, []

    def note_and_pause(manager, pk):
        atomic.append(connection.in_atomic_block)
        return pause(manager, pk)

    monkeypatch.setattr(BatchManager, "pause_batch", note_and_pause)
    send(client, "pause", batches)
    send(client, "pause", batches, key="k")
    assert atomic == [False] * 3 + [True] * 3


@pytest.mark.django_db(transaction=True)
def test_with_a_key_a_fault_undoes_everything_and_the_next_attempt_does_it(client, make_batch, monkeypatch):
    batches, pause, calls = [make_batch() for _ in range(3)], BatchManager.pause_batch, []

    def fail_second(manager, pk):
        calls.append(pk)
        return pause(manager, pk) if len(calls) != 2 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(BatchManager, "pause_batch", fail_second)
        with pytest.raises(ZeroDivisionError):
            send(client, "pause", batches, key="k")
    assert Batch.objects.queued().count() == 3
    assert send(client, "pause", batches, key="k").json()["done"] == 3


@pytest.mark.django_db(transaction=True)
def test_with_a_key_a_refusal_undoes_only_its_own_batch(client, make_batch):
    batches = [make_batch(), make_batch("done"), make_batch()]
    answer = send(client, "pause", batches, key="k")
    assert outcomes_of(answer) == [("ok", "paused"), ("finished", "done"), ("ok", "paused")]
    assert send(client, "pause", batches, key="k").content == answer.content


@pytest.mark.django_db(transaction=True)
def test_with_a_key_deleted_batches_are_purged_too(client, make_batch):
    assert send(client, "delete", [make_batch() for _ in range(3)], key="k").json()["done"] == 3
    assert not Batch.everything.exists()
