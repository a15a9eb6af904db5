"""The examples of the API's description are what the API really answers, and of the shapes that it describes."""

import io
import os
from uuid import uuid4

import jsonschema
import pytest
from django.db import OperationalError
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from batches.api import views
from batches.api.schema import EXAMPLES, JSON, SHARED, recorded
from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult, Story
from batches.models import Batch
from batches.tests.support.factories import failed, ok, record_one, start_run

from .conftest import batch_with
from .recording import Recording

#: `make schema` sets it: the recording is then kept.
WRITE = "WRITE_EXAMPLES" in os.environ

LIST = "/api/v1/batches/"


@pytest.fixture(scope="module")
def described():
    return SchemaGenerator().get_schema(public=True)


@pytest.fixture
def recording(client, described):
    return Recording(client, described)


@pytest.mark.django_db
@pytest.mark.databases("sqlite")
def test_the_examples_are_what_the_api_answers(recording, client_for, settings, monkeypatch):
    record_creating(recording)
    record_results(recording)
    record_actions(recording)
    record_errors(recording, client_for, settings, monkeypatch)
    if WRITE:
        EXAMPLES.write_text(recording.text())
        recorded.cache_clear()
    assert EXAMPLES.read_text() == recording.text(), "The API answers otherwise than its examples say. Run: make schema"


def record_creating(recording):
    call = recording.call
    press = {
        "name": "Press",
        "priority": 5,
        "profiles": [
            "https://example.org/feed",
            {"url": "https://example.com/news", "name": "The News"},
            "https://example.org/feed",
            "mailto:press@example.org",
        ],
    }
    call("post", LIST, "From a list", press, headers={"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"})
    file = io.BytesIO(b"https://example.org/feed\nhttps://example.com/news\n")
    file.name = "press.txt"
    call("post", LIST, "From a file", {"name": "Magazines", "file": file, "queue": False}, format="multipart")
    call("post", LIST, "Strict", {"name": "Press", "profiles": ["https://example.org/", "no address"], "strict": True})
    call("post", LIST, "Wrong fields", {"name": "", "priority": 99999, "colour": "red", "profiles": []})
    again = press | {"name": "Something else"}
    call("post", LIST, "A used key", again, headers={"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"})


def record_results(recording):
    call = recording.call
    monday = checked_batch()
    one = f"{LIST}{monday.pk}/"
    call("get", f"{one}profiles/?status=failed", "The failed ones")
    call("get", f"{one}profiles/?status=asleep", "No such status")
    call("get", f"{one}stories/?page_size=1", "The first page")
    call("get", f"{one}logs/", "From beginning to end")
    call("get", f"{one}export/csv/", "As CSV")
    call("get", f"{one}export/pdf/", "No such kind")
    call("get", f"{one}stories/export/jsonl/", "As JSON Lines")
    call("get", f"{one}comparison/", "Nothing to compare")
    call("post", f"{one}repeat/", "Once more", {})
    tuesday = BatchManager().repeat_batch(monday.pk)
    check(tuesday, ok("3", "2"), ok())
    call("get", f"{LIST}{tuesday.pk}/comparison/", "A day later")
    call("get", "/api/v1/profiles/?host=news.example.org", "Those of a host")
    call("get", "/api/v1/stories/?search=bridge", "With a word")


def checked_batch():
    batch = BatchManager().create_batch("Monday", ["https://news.example.org/feed", "https://example.net/"])
    news = [
        Story("1", "The old bridge", "https://news.example.org/1"),
        Story("2", "Rain", "https://news.example.org/2"),
    ]
    check(batch, CheckResult(ok=True, http_status=200, duration=0.1, stories=news), failed("answered 404 Not Found"))
    return batch


def check(batch, *results):
    run = start_run(batch)
    for result in results:
        record_one(run, result)
    assert BatchManager().complete_batch(batch.pk)
    time_passes()


def time_passes():
    """What was checked took a while, as it always does but in a test."""
    Batch.objects.filter(completed_profiles__gt=0).update(run_seconds=1.5)


def record_actions(recording):
    call = recording.call
    finished = batch_with("done", name="Theatres", profiles=3, failed=1)
    running = batch_with("running", name="Universities", profiles=4, failed=1, priority=5)
    paused = batch_with("paused", name="Museums", profiles=2)
    waiting = batch_with("queued", name="Towns", profiles=2, priority=5)
    time_passes()
    one = f"{LIST}{waiting.pk}/"
    call("get", f"{LIST}?status=running&status=paused&ordering=-created_at&page_size=2", "Some of them")
    call("get", f"{LIST}?status=sleeping", "No such status")
    call("get", one, "A queued batch")
    call("get", f"{LIST}{running.pk}/", "A running batch")
    call("patch", one, "Both", {"name": "Towns, daily", "priority": 7})
    call("post", f"{one}move/", "To the end", {"position": 1000})
    call("post", f"{one}move/", "The queue has changed", {"position": 1, "queue_version": 1})
    call("post", f"{one}start/", "Another one is running", {})
    call("post", f"{one}pause/", "Paused", {})
    call("post", f"{LIST}{finished.pk}/pause/", "It is done", {})
    call("post", f"{one}queue/", "Queued again", {})
    call("post", f"{LIST}{running.pk}/queue/", "It is running", {})
    call("post", f"{LIST}{finished.pk}/retry/", "Its failed profile", {})
    call("post", f"{LIST}{paused.pk}/retry/", "Nothing failed", {})
    call("delete", f"{LIST}{running.pk}/", "It is running")
    ids = [str(waiting.pk), str(finished.pk), str(uuid4())]
    call("post", f"{LIST}bulk/", "By id", {"action": "pause", "ids": ids})
    call("post", f"{LIST}bulk/", "By filter", {"action": "queue", "filter": {"status": ["paused"], "name": "towns"}})
    call("post", f"{LIST}bulk/", "Neither", {"action": "queue"})
    call("get", "/api/v1/queue/", "As it is now")
    call("post", "/api/v1/queue/hold/", "With a reason", {"reason": "The network is being repaired."})
    call("post", "/api/v1/queue/release/", "Released", {})
    assert BatchManager().pause_batch(running.pk)
    call("post", f"{LIST}{paused.pk}/start/", "Started", {})
    call("delete", one, "Gone")


def record_errors(recording, client_for, settings, monkeypatch):
    client = recording.client
    recording.error("No token", APIClient().get(LIST))
    recording.error("Not allowed", client_for("viewer").post("/api/v1/queue/hold/"))
    recording.error("No such batch", client.get(f"{LIST}{uuid4()}/"))
    recording.error("Other than JSON", client.get(LIST, headers={"Accept": "text/html"}))
    recording.error("Not the one that is wanted", client.get("/api/v1/queue/", headers={"If-Match": '"another"'}))
    recording.error("A web form", client.post(LIST, "name=Press", content_type="application/x-www-form-urlencoded"))
    recording.error("An unknown field", client.post("/api/v1/queue/hold/", {"why": "A fire."}))
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    recording.error("Too large", client.post(LIST, {"name": "Press", "profiles": ["https://example.org/"]}))
    monkeypatch.setattr(views, "forecast_queue", be_away)
    recording.error("The database is away", client.get("/api/v1/queue/"))


def be_away():
    raise OperationalError("the connection is closed")


def test_every_call_has_an_example_of_its_answer_and_of_its_request(described):
    calls = {operation["operationId"]: operation for operation in operations(described)}
    missing = [name for name in calls if not any(example["status"] < 300 for example in recorded().get(name, []))]
    assert not missing, f"Record these in test_examples.py, and run `make schema`: {', '.join(missing)}"
    for operation in calls.values():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert content["examples"], operation["operationId"]


def test_every_call_that_can_be_refused_has_an_example_of_it(described):
    refused = {name for name, examples in recorded().items() if any(example["status"] == 409 for example in examples)}
    assert {
        operation["operationId"] for operation in operations(described) if "409" in operation["responses"]
    } == refused


def test_every_error_has_an_example(described):
    without = {"NotModified", "Refused", "KeyReused", "Throttled"}  # no body, or one that a call shows
    for name, response in described["components"]["responses"].items():
        assert name in without or response["content"][JSON]["examples"], name
    assert {example["status"] for example in recorded()["batches_create"]} >= {201, 400, 422}
    assert SHARED in recorded()


def test_every_example_is_of_the_shape_that_it_is_an_example_of(described):
    count = 0
    for where, schema, value in examples(described):
        problems = list(validator(described, schema).iter_errors(value))
        assert not problems, f"{where}: {problems[0].message}"
        count += 1
    assert count > 60


def operations(described):
    for path in described["paths"].values():
        yield from path.values()


def examples(described):
    """(where, schema, value) of each."""
    for operation in operations(described):
        for place in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in place.get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    yield f"{operation['operationId']}: {name}", content["schema"], example["value"]
    for name, response in described["components"]["responses"].items():
        for content in response.get("content", {}).values():
            for example in content.get("examples", {}).values():
                yield name, content["schema"], example["value"]


def validator(described, schema):
    """Strict: an answer has no field that is not described."""
    components = {
        name: component | ({"additionalProperties": False} if "properties" in component else {})
        for name, component in described["components"]["schemas"].items()
    }
    return jsonschema.Draft202012Validator(
        {"components": {"schemas": components}, **schema}, format_checker=jsonschema.FormatChecker()
    )
