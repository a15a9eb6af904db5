"""The examples of the API's description are what the API really answers."""

import io
import os
from pathlib import Path
from uuid import uuid4

import pytest
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from batches.api import schema as api_schema

from .conftest import batch_with
from .recording import Recording

EXAMPLES = Path(api_schema.EXAMPLES)
#: `make schema` sets it: the recording is then kept.
WRITE = "WRITE_EXAMPLES" in os.environ


@pytest.fixture
def recording(client, monkeypatch):
    monkeypatch.setattr(api_schema, "recorded", dict)
    return Recording(client, SchemaGenerator().get_schema(public=True))


def record(recording, client_for, settings):
    call = recording.call
    finished = batch_with("done", name="Monday", profiles=3, failed=1)
    running = batch_with("running", name="Universities", profiles=4, failed=1, priority=5)
    paused = batch_with("paused", name="Museums", profiles=2)
    list_of = "/api/batches/"

    answer = call(
        "post",
        list_of,
        "From a list in JSON",
        {
            "name": "Press",
            "priority": 5,
            "profiles": [
                "https://example.org/feed",
                {"url": "https://example.com/news", "name": "The News"},
                "https://example.org/feed",
                "mailto:press@example.org",
            ],
        },
    )
    one = f"{list_of}{answer['batch']['id']}/"
    file = io.BytesIO(b"https://example.org/feed\nhttps://example.com/news\n")
    file.name = "press.txt"
    call("post", list_of, "From a file", {"name": "Press again", "file": file, "queue": False}, format="multipart")
    call(
        "post", list_of, "Strict", {"name": "Press", "profiles": ["https://example.org/", "no address"], "strict": True}
    )
    call("post", list_of, "Wrong fields", {"name": "", "priority": 99999, "colour": "red", "profiles": []})
    call("get", f"{list_of}?status=running&status=paused&ordering=-created_at", "Some of them")
    call("get", f"{list_of}?status=sleeping", "No such status")
    call("get", one, "A queued batch")
    call("get", f"{list_of}{running.pk}/", "A running batch")
    call("patch", one, "Both", {"name": "Press, daily", "priority": 7})
    call("post", f"{one}move/", "To the end", {"position": 1000})
    call("post", f"{one}move/", "Stale", {"position": 1, "queue_version": 1})
    call("post", f"{one}start/", "Another one is running", {})
    call("post", f"{one}pause/", "Paused", {})
    call("post", f"{list_of}{finished.pk}/pause/", "It is done", {})
    call("post", f"{one}queue/", "Queued again", {})
    call("post", f"{list_of}{running.pk}/queue/", "It is running", {})
    call("post", f"{list_of}{finished.pk}/retry/", "Its failed profile", {})
    call("post", f"{list_of}{paused.pk}/retry/", "Nothing failed", {})
    call("post", f"{list_of}{finished.pk}/repeat/", "Once more", {})
    call("delete", f"{list_of}{running.pk}/", "It is running")
    assert recording.client.post(f"{list_of}{running.pk}/pause/").status_code == 200
    call("post", f"{list_of}{paused.pk}/start/", "Started", {})
    call("delete", one, "Gone")
    call("get", "/api/queue/", "As it is now")
    call("post", "/api/queue/hold/", "With a reason", {"reason": "The network is being repaired."})
    call("post", "/api/queue/release/", "Released", {})

    client = recording.client
    recording.error("No token", APIClient().get(list_of))
    recording.error("Not allowed", client_for("viewer").post("/api/queue/hold/"))
    recording.error("No such batch", client.get(f"{list_of}{uuid4()}/"))
    recording.error("Other than JSON", client.get(list_of, headers={"Accept": "text/csv"}))
    recording.error("A form", client.post(list_of, "name=Press", content_type="application/x-www-form-urlencoded"))
    recording.error("An unknown field", client.post("/api/queue/hold/", {"why": "A fire."}))
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    recording.error("Too large", client.post(list_of, {"name": "Press", "profiles": ["https://example.org/"]}))


@pytest.mark.django_db
@pytest.mark.databases("sqlite")
def test_the_examples_are_what_the_api_answers(recording, client_for, settings):
    record(recording, client_for, settings)
    if WRITE:
        EXAMPLES.write_text(recording.text())
    assert EXAMPLES.read_text() == recording.text(), "The API answers otherwise than its examples say. Run: make schema"


def test_every_call_has_an_example_of_its_answer():
    described = SchemaGenerator().get_schema(public=True)
    operations = {operation["operationId"] for path in described["paths"].values() for operation in path.values()}
    missing = operations - {
        name for name, calls in api_schema.recorded().items() if any(c["status"] < 300 for c in calls)
    }
    assert not missing, f"Record these in test_examples.py: {', '.join(sorted(missing))}"
