"""`Idempotency-Key`: the change is made once, whatever happens, and every repetition gets the same response."""

import json
from datetime import timedelta
from threading import Event
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.client import encode_multipart
from django.utils import timezone
from rest_framework.test import APIClient

from batches.api import idempotency, request_fields, serializers
from batches.api.base import Renderer
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, Profile, ProfileList
from batches.models.api import StoredResponse
from batches.queue import contents
from batches.tests.support.threads import Gate, in_thread, run_in_threads

from .calls import POSTS, SUBSCRIBE_TO_QUEUE, UNKNOWN_ID
from .conftest import errors_of, make_root, make_user, nothing_changes, refusal_of, token_client

pytestmark = pytest.mark.django_db

WAIT = 60
KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
NEW = {"name": "new", "profiles": ["https://example.org/new"]}


def post(client, path, body=None, key=KEY, **options):
    return client.post(path, body, headers={"Idempotency-Key": key}, **options)


def form(boundary="x", content=b"https://example.org/", filename="list.txt", **fields):
    file = SimpleUploadedFile(filename, content)
    body = encode_multipart(boundary, {"name": "news", "file": file} | fields)
    return {"body": body, "content_type": f"multipart/form-data; boundary={boundary}"}


def is_replayed(answer):
    return answer.headers.get("Idempotent-Replayed") == "true"


def without_secrets(answer):
    """The content of a response, with null for secrets that are shown once: the addresses of a feed."""
    data = answer.json()
    return Renderer().render(data | {name: None for name in idempotency.NEVER_STORED if name in data})


@pytest.mark.parametrize("call", POSTS, ids=str)
def test_a_repeated_post_changes_nothing_and_gets_the_same_answer(client, make_batch, a_list, call):
    batch = make_batch("done" if call.route in {"batch-queue", "batch-retry"} else "queued", failed=1)
    bodies_of_these = {
        "batch-bulk": {"action": "repeat", "ids": [str(batch.pk)]},
        "profiles-check": {"ids": [Profile.objects.earliest("pk").pk]},
    }
    body = bodies_of_these.get(call.route)
    first = call.send(client, batch, body, headers={"Idempotency-Key": KEY})
    assert first.status_code < 300
    assert not is_replayed(first)
    with nothing_changes():
        again = call.send(client, batch, body, headers={"Idempotency-Key": KEY})
    assert is_replayed(again)
    assert (again.status_code, again.content) == (first.status_code, without_secrets(first))
    assert again.headers.get("Location") == first.headers.get("Location")


def test_a_key_has_up_to_255_visible_characters(client):
    with nothing_changes():
        for key in ("", " ", "a b", "é", "a\tb", "x" * 256, "\0"):
            assert errors_of(post(client, "/api/batches/", NEW, key)) == {"Idempotency-Key"}, key
    for key in ("x" * 254 + "a", "x" * 254 + "b", '"!~"'):
        assert not is_replayed(post(client, "/api/batches/", NEW, key)), key


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ({}, {"body": NEW | {"priority": 0}}),
        ({}, {"path": "/api/queue/hold/", "body": None}),
        (form(), form(content=b"https://example.org/\n" * 100_000)),
        (form(), form(filename="other.txt")),
        (form(), form(name="other")),
    ],
    ids=range(5),
)
def test_a_key_belongs_to_one_request(client, first, other):
    sent = {"path": "/api/batches/", "body": NEW}
    assert post(client, **sent | first).status_code == 201
    with nothing_changes():
        answer = post(client, **sent | other)
    assert refusal_of(answer) == (422, "idempotency_key_reused")
    assert answer.json().keys() == {"code", "detail"}


def test_white_space_the_order_of_fields_and_the_boundary_of_a_form_do_not_matter(client):
    for text in (json.dumps(NEW), json.dumps(dict(reversed(NEW.items())), indent=2)):
        answer = post(client, "/api/batches/", text, content_type="application/json")
        assert answer.status_code == 201
    assert is_replayed(answer)
    first, again = (post(client, "/api/batches/", key="form", **form(boundary)) for boundary in ("one", "another"))
    assert is_replayed(again)
    assert again.content == first.content
    assert Batch.objects.get(name="news").total_profiles == 1


def test_a_stored_answer_has_the_first_hundred_rejected_entries(client):
    lines = "https://example.org/\n" + f"{'é ' * 500}\n" * 3_000
    first, again = (post(client, "/api/batches/", **form(content=lines.encode())) for _ in range(2))
    assert (is_replayed(again), again.status_code) == (True, 201)
    assert len(first.json()["rejected"]) == 3_000
    assert again.json() == first.json() | {"rejected": first.json()["rejected"][:100]}
    assert len(StoredResponse.objects.get().body) < 64_000


def test_a_key_belongs_to_its_user_who_needs_the_permission_for_the_stored_answer(client):
    user = make_user("add_batch")
    mine, theirs = post(client, "/api/batches/", NEW), post(token_client(user), "/api/batches/", NEW)
    assert not is_replayed(theirs)
    assert mine.json()["batch"]["id"] != theirs.json()["batch"]["id"]
    user.user_permissions.clear()
    assert post(token_client(user), "/api/batches/", NEW).status_code == 403


def test_a_refusal_is_stored_even_if_the_rows_could_not_be_prepared(client, make_batch, a_list):
    batch = make_batch("done")
    ProfileList.objects.update(editor=uuid4(), edit_until=timezone.now() + timedelta(hours=1))
    calls = {
        f"batches/{batch.pk}/pause/": (409, "finished"),
        f"batches/{UNKNOWN_ID}/pause/": (404, "not_found"),
        f"lists/{a_list.pk}/add/": (409, "being_edited"),
        f"batches/{UNKNOWN_ID}/repeat/": (404, "not_found"),
    }

    def answers(kind):
        bodies = {path: {"profiles": NEW["profiles"]} if "lists" in path else None for path in calls}
        return [post(client, f"/api/{path}", body, key=f"{kind}-{path}") for path, body in bodies.items()]

    refused = answers("first")
    assert [refusal_of(answer) for answer in refused] == list(calls.values())
    assert BatchManager().queue_batch(batch.pk)
    ProfileList.objects.update(editor=None, edit_until=None)
    again = answers("first")
    assert [(is_replayed(it), it.content) for it in again] == [(True, it.content) for it in refused]
    assert [answer.status_code for answer in answers("another")] == [200, 404, 200, 404]


@pytest.mark.parametrize(
    ("path", "text", "corrected"),
    [
        ("batches/", '{"name": "new"}', NEW),
        ("batches/", '{"name": "new", "profiles": ["nonsense"]}', NEW),
        ("batches/", "{", NEW),
        ("queue/hold/", '{"until": "2020-01-01T00:00:00Z"}', {}),
        ("queue/subscriptions/", '{"address": "nonsense", "topics": ["held"]}', SUBSCRIBE_TO_QUEUE),
    ],
)
def test_an_invalid_request_can_be_corrected_under_the_same_key(client, path, text, corrected):
    assert post(client, f"/api/{path}", text, content_type="application/json").status_code == 400
    assert not StoredResponse.objects.exists()
    answer = post(client, f"/api/{path}", corrected)
    assert (answer.status_code < 300, is_replayed(answer)) == (True, False)


# Expiry


def age(hours):
    StoredResponse.objects.update(created_at=timezone.now() - timedelta(hours=hours))


def test_an_answer_is_kept_for_24_hours(client):
    post(client, "/api/batches/", NEW)
    age(23.9)
    assert is_replayed(post(client, "/api/batches/", NEW))
    age(24.1)
    later = post(client, "/api/batches/", NEW | {"name": "later"})
    assert (later.status_code, is_replayed(later)) == (201, False)
    assert StoredResponse.objects.count() == 1


# Faults


def fail(*args, **kwargs):
    raise ZeroDivisionError("a fault")


FAULTS = {
    "before the change": (BatchManager, "preparing_batch"),
    "after the change": (serializers.BatchSerializer, "to_representation"),
    "after the answer": (idempotency, "_store"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("owner", "name"), FAULTS.values(), ids=FAULTS.keys())
def test_after_a_fault_the_next_attempt_makes_the_change(client, monkeypatch, owner, name):
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(ZeroDivisionError):
            post(client, "/api/batches/", NEW)
    for rows in (Batch.everything, BatchProfile.objects, BatchLog.objects, StoredResponse.objects):
        assert not rows.exists()
    assert post(client, "/api/batches/", NEW).status_code == 201
    assert is_replayed(post(client, "/api/batches/", NEW))
    assert Batch.objects.count() == 1


# Concurrent requests


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hours", [0, 25], ids=["new", "expired"])
def test_one_of_several_concurrent_requests_makes_the_change(hours):
    client = token_client(make_root())
    if hours:
        post(client, "/api/batches/", NEW)
        age(hours)
    before = Batch.objects.count()
    answers = run_in_threads([lambda: post(client, "/api/batches/", NEW)] * 4)
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.content for answer in answers}) == 1
    assert sorted(map(is_replayed, answers)) == [False, True, True, True]
    assert Batch.objects.count() == BatchLog.objects.filter(action="create_batch").count() == before + 1
    assert StoredResponse.objects.count() == 1


@pytest.fixture
def overlapping(monkeypatch):
    """Holds the first request between its change and its commit, until the second one has sent the same key."""
    gate, second, claim = Gate(monkeypatch, idempotency, "_store"), Event(), idempotency._claim_key

    def notice_second(*args):
        if gate.arrived.is_set():
            second.set()
        return claim(*args)

    monkeypatch.setattr(idempotency, "_claim_key", notice_second)

    def both(first, other):
        one, two = gate.stop(first), in_thread(other)
        if connection.vendor == "postgresql":  # on SQLite it waits before its claim, at BEGIN IMMEDIATE
            assert second.wait(WAIT)
        assert not two.done()
        gate.open()
        return one, two

    return both


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("body", "status"), [(NEW, 201), (NEW | {"name": "other"}, 422)], ids=["same", "other"])
def test_a_second_request_waits_for_the_first_and_gets_its_answer(overlapping, vendor, body, status):
    client = token_client(make_root())
    one, two = overlapping(*[lambda sent=sent: post(client, "/api/batches/", sent) for sent in (NEW, body)])
    assert (one.result(WAIT).status_code, two.result(WAIT).status_code) == (201, status)
    assert is_replayed(two.result()) == (one.result().content == two.result().content) == (status == 201)
    assert Batch.objects.get().name == "new"
    # The second one stored its rows before it met the key. It removes them.
    assert Batch.everything.count() == BatchProfile.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_second_request_makes_the_change_if_the_first_fails(overlapping, monkeypatch, vendor):
    # Django's client would raise the exception in either thread.
    client = token_client(make_root(), APIClient(raise_request_exception=False))
    store, stored = idempotency._store, []

    def fail_once(*args):
        store(*args)
        stored.append(args)
        if len(stored) == 1:
            raise ZeroDivisionError("a fault")

    monkeypatch.setattr(idempotency, "_store", fail_once)
    one, two = overlapping(*[lambda: post(client, "/api/batches/", NEW)] * 2)
    assert (one.result(WAIT).status_code, two.result(WAIT).status_code) == (500, 201)
    assert not is_replayed(two.result())
    assert Batch.objects.count() == StoredResponse.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("kind", "steps"), [("create", 4), ("repeat", 1), ("bulk", 1)])
def test_lists_are_read_and_rows_are_stored_before_the_transaction_of_the_key(
    client, make_batch, monkeypatch, kind, steps
):
    source, in_transaction = make_batch("done"), []
    request, status = {
        "create": ({"path": "/api/batches/"} | form(), 201),
        "repeat": ({"path": f"/api/batches/{source.pk}/repeat/"}, 201),
        "bulk": ({"path": "/api/batches/bulk/", "body": {"action": "repeat", "ids": ["x", str(source.pk)]}}, 200),
    }[kind]

    def watch(module, name):
        step = getattr(module, name)

        def note(*arguments, **options):
            in_transaction.append(connection.in_atomic_block)
            return step(*arguments, **options)

        monkeypatch.setattr(module, name, note)

    watch(contents, "store_chunks")
    watch(request_fields, "read_profiles")
    first, again = post(client, **request), post(client, **request)
    assert (first.status_code, is_replayed(again), again.content) == (status, True, first.content)
    assert in_transaction == [False] * steps  # the repetition stores nothing
    assert Batch.everything.count() == 2
