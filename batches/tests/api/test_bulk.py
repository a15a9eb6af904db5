"""One action on many batches. `queue/test_bulk` tests the order and the counts, this module the API's part."""

from itertools import count
from types import SimpleNamespace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from batches.api import idempotency, views
from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.queue import sql
from batches.tests.support.factories import assert_consistent, cap_bulk
from batches.tests.support.threads import TIMEOUT, in_thread

from .calls import UNKNOWN_ID
from .conftest import errors_of, make_user, nothing_changes, refusal_of, token_client

pytestmark = pytest.mark.django_db

PATH = "/api/batches/bulk/"

ACTIONS = {"queue": "queued", "pause": "paused", "retry": "queued", "repeat": "paused", "delete": None}


def ids_of(batches):
    return [str(batch.pk) for batch in batches]


def send(client, action, batches=None, key=None, **body):
    body = {"action": action} | ({} if batches is None else {"ids": ids_of(batches)}) | body
    return client.post(PATH, body, headers={"Idempotency-Key": key} if key else {})


def outcomes_of(answer):
    assert answer.status_code == 200, answer.json()
    return [(outcome["code"] or "ok", outcome["status"]) for outcome in answer.json()["outcomes"]]


@pytest.mark.parametrize("action", ACTIONS)
def test_each_batch_has_the_outcome_of_a_single_call(client, make_batch, action):
    batches = [make_batch("paused", failed=1), make_batch("running")]
    answer = send(client, action, batches).json()
    done, other = answer["outcomes"]
    repeats = action in {"pause", "repeat"}  # a running batch can be paused and repeated
    assert (answer["done"], answer["refused"], answer["left"]) == ((2, 0, 0) if repeats else (1, 1, 0))
    assert [done["id"], other["id"]] == ids_of(batches)
    assert (done["ok"], done["code"], done["detail"], done["status"]) == (True, None, "", ACTIONS[action])
    assert (done["position"] == 1) == (done["status"] == "queued")
    assert other["ok"] == repeats
    assert other["code"] == (None if repeats else "already_running")
    assert bool(other["detail"]) == (not repeats)
    made = Batch.objects.filter(pk=done["made"]).first()
    assert (made and made.previous) == (batches[0] if action == "repeat" else None)
    assert_consistent()


def test_only_a_bulk_pause_takes_a_reason(client, make_batch):
    batches = [make_batch(), make_batch()]
    assert outcomes_of(send(client, "pause", batches, reason="Repairs.")) == [("ok", "paused")] * 2
    assert [batch.logs.latest("pk").message for batch in batches] == ["Repairs."] * 2
    with nothing_changes():
        assert errors_of(send(client, "queue", batches, reason="Repairs.")) == {"reason"}


def test_a_filter_selects_the_matching_batches_that_the_action_is_offered_for(client, make_batch):
    batch = make_batch("paused", failed=1)
    make_batch("paused", name="a batch without failures")
    make_batch("queued", failed=1)
    make_batch("paused", name="other", failed=1)
    make_batch("paused", failed=1, priority=5)
    answer = send(client, "retry", filter={"name": "a batch", "priority": 0, "status": ["queued", "paused"]}).json()
    assert [outcome["id"] for outcome in answer["outcomes"]] == [str(batch.pk)]
    assert (answer["done"], answer["refused"], answer["left"]) == (1, 0, 0)


@pytest.mark.parametrize("action", ["queue", "delete"])
def test_a_filter_skips_batches_that_no_longer_match_at_their_turn(client, make_batch, monkeypatch, action):
    kept, changed = make_batch("done", name="kept"), make_batch("paused", name="changed")
    select = views.select_batches

    def select_and_change(*arguments):
        selected = select(*arguments)
        assert BatchManager().complete_batch(changed.pk)
        return selected

    monkeypatch.setattr(views, "select_batches", select_and_change)
    answer = send(client, action, filter={"status": "paused"})
    assert outcomes_of(answer) == [("stale_version", "done")]
    assert set(Batch.objects.filter(status="done")) == {kept, changed}


def test_a_request_takes_as_many_batches_as_fit_and_counts_the_others(client, make_batch, monkeypatch):
    cap_bulk(monkeypatch, 2)
    for _ in range(3):
        make_batch("done")
    with nothing_changes():
        assert errors_of(send(client, "repeat", filter={"search": "batch"})) == {"filter"}
    answers = [send(client, "delete", filter={"search": "batch"}).json() for _ in range(3)]
    assert [(answer["done"], answer["left"]) for answer in answers] == [(2, 1), (1, 0), (0, 0)]


def test_an_unknown_id_is_an_outcome_and_the_other_batches_are_changed(client, make_batch):
    batch = make_batch()
    unknown = [UNKNOWN_ID, "123", "", "x" * 10_000, "é", "' OR 1=1"]
    answer = send(client, "pause", ids=[*unknown, str(batch.pk)])
    assert outcomes_of(answer) == [("not_found", None)] * len(unknown) + [("ok", "paused")]
    assert all(len(outcome["id"]) <= 100 for outcome in answer.json()["outcomes"])


def test_an_id_that_is_repeated_counts_once_in_any_spelling(client, make_batch):
    pk = str(make_batch("done").pk)
    answer = send(client, "repeat", ids=[pk, pk.upper(), pk.replace("-", ""), f"{{{pk}}}"])
    assert [outcome["id"] for outcome in answer.json()["outcomes"]] == [pk]
    assert Batch.objects.count() == 2


@pytest.mark.parametrize("permission", ["view_batch", "add_batch", "change_batch", "delete_batch", "operate_batch"])
def test_each_action_needs_the_permission_of_its_call(make_batch, permission):
    client, batch = token_client(make_user(permission)), make_batch("done", failed=1)
    needed = {action: "delete_batch" if action == "delete" else "operate_batch" for action in ACTIONS}
    with nothing_changes():
        for action in (action for action in ACTIONS if needed[action] != permission):
            assert refusal_of(send(client, action, [batch])) == (403, "permission_denied")
    for action in (action for action in ACTIONS if needed[action] == permission):
        assert send(client, action, filter={"search": "batch"}).status_code == 403  # viewing is needed, too
        assert send(client, action, [batch]).status_code == 200


# Transactions


@pytest.fixture
def in_steps_of_two(monkeypatch):
    monkeypatch.setattr(idempotency, "STEP", 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["pause", "repeat", "delete"])
def test_with_a_key_a_few_batches_at_a_time_are_a_transaction(client, make_batch, in_steps_of_two, action):
    batches = [make_batch() for _ in range(5)]
    with CaptureQueriesContext(connection) as captured:
        answer = send(client, action, batches, key="k")
    assert outcomes_of(answer) == [("ok", ACTIONS[action] if action != "repeat" else "queued")] * 5
    assert answer.json()["done"] == 5
    transactions = "".join(query["sql"] for query in captured).split("COMMIT")
    changes = [sqls.count('INSERT INTO "batches_batchlog"') for sqls in transactions]
    assert [number for number in changes if number] == [2, 2, 1]
    assert send(client, action, batches, key="k").content == answer.content


@pytest.mark.databases("sqlite")
@pytest.mark.django_db(transaction=True)
def test_others_can_write_after_each_transaction(client, make_batch, in_steps_of_two, monkeypatch):
    pauses = []
    monkeypatch.setattr(sql, "time", SimpleNamespace(monotonic=count().__next__, sleep=pauses.append))
    for key, expected in (("k", 3), (None, 5)):
        batches = [make_batch() for _ in range(5)]
        pauses.clear()
        send(client, "pause", batches, key=key)
        assert len(pauses) == expected


@pytest.mark.django_db(transaction=True)
def test_without_a_key_each_batch_is_a_transaction(client, make_batch, monkeypatch):
    batches, pause, atomic = [make_batch() for _ in range(3)], BatchManager.pause_batch, []

    def note_and_pause(manager, pk):
        atomic.append(connection.in_atomic_block)
        return pause(manager, pk)

    monkeypatch.setattr(BatchManager, "pause_batch", note_and_pause)
    send(client, "pause", batches)
    assert atomic == [False] * 3


@pytest.mark.django_db(transaction=True)
def test_with_a_key_a_fault_undoes_its_step_and_the_next_attempt_does_exactly_the_rest(
    client, make_batch, monkeypatch, in_steps_of_two
):
    batches, reveal, calls = [make_batch() for _ in range(5)], BatchManager._reveal, []

    def fail_fourth(manager, *arguments, **options):
        calls.append(arguments)
        return reveal(manager, *arguments, **options) if len(calls) != 4 else 1 / 0

    with monkeypatch.context() as patch:
        patch.setattr(BatchManager, "_reveal", fail_fourth)
        with pytest.raises(ZeroDivisionError):
            send(client, "repeat", batches, key="k")
    assert Batch.objects.count() == Batch.everything.count() == 5 + 2
    answer = send(client, "repeat", batches, key="k")
    assert outcomes_of(answer) == [("ok", "queued")] * 5
    assert Batch.objects.count() == 5 + 5
    made = [outcome["made"] for outcome in answer.json()["outcomes"]]
    assert [Batch.objects.get(pk=pk).previous for pk in made] == batches
    assert send(client, "repeat", batches, key="k").content == answer.content
    assert refusal_of(send(client, "pause", batches, key="k")) == (422, "idempotency_key_reused")


@pytest.mark.django_db(transaction=True)
def test_two_requests_with_a_key_share_the_steps_and_get_the_same_answer(client, make_batch, in_steps_of_two):
    batches = [make_batch() for _ in range(6)]
    sent = [in_thread(lambda: send(client, "repeat", batches, key="k")) for _ in range(2)]
    one, two = (answer.result(TIMEOUT) for answer in sent)
    assert one.content == two.content
    assert outcomes_of(one) == [("ok", "queued")] * 6
    assert Batch.everything.count() == 12
    assert_consistent()


@pytest.mark.django_db(transaction=True)
def test_with_a_key_a_refusal_undoes_only_its_own_batch_and_deleted_ones_are_purged(client, make_batch):
    batches = [make_batch(), make_batch("running"), make_batch()]
    answer = send(client, "delete", batches, key="k")
    assert outcomes_of(answer) == [("ok", None), ("already_running", "running"), ("ok", None)]
    assert send(client, "delete", batches, key="k").content == answer.content
    assert list(Batch.everything.all()) == [batches[1]]
