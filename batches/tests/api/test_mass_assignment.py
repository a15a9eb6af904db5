"""A body writes what the API's description has for it: no other column of any table, by whatever name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml
from django.core.files.base import ContentFile
from django.db import transaction

from batches.api.filters import MAX_UNKNOWN
from batches.api.serializers import BatchSerializer
from batches.tests.support.tables import but_for_chance, every_column, every_table

from ..browser.pages import make_rows
from .test_matrix import WRITING
from .test_schema import COMMITTED

# What is taken from a body does not depend on the database.
pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]

JSON, FORM = "application/json", "multipart/form-data"


@pytest.fixture(autouse=True)
def nobody_counts(monkeypatch):
    monkeypatch.setattr("rest_framework.throttling.SimpleRateThrottle.allow_request", lambda *_: True)


@pytest.fixture(scope="module")
def described():
    """The names of the fields of each body: (method, path, content type) -> names."""
    schema = yaml.safe_load(COMMITTED.read_text())
    return {
        (method, path, kind): set(schema["components"]["schemas"][name_of(body)].get("properties", ()))
        for path, calls in schema["paths"].items()
        for method, call in calls.items()
        for kind, body in call.get("requestBody", {"content": {}})["content"].items()
    }


def name_of(body):
    return body["schema"]["$ref"].rpartition("/")[2]


def bodies() -> Iterator[tuple[str, str, str, dict]]:
    """Each body that a call takes: method, path, content type, and one that is taken."""
    for (method, _), (_, path, body, _) in WRITING.items():
        if method != "delete":
            yield method, path, JSON, body or {}
            if path == "batches/":
                yield method, path, FORM, upload("https://example.org/")


def upload(text):
    return {"name": "x", "file": ContentFile(text.encode(), "list")}


def test_every_body_that_is_described_is_tried(described):
    tried = {(method, f"/api/v1/{path.format(pk='{id}')}", kind) for method, path, kind, _ in bodies()}
    assert tried == described.keys()


def test_no_column_is_written_that_is_not_described(client, described):
    """Each body with each column of each table, ten at a time, all of which the answer then has to refuse by name."""
    rows = make_rows()
    shown = dict.fromkeys(BatchSerializer.Meta.fields, 5)
    columns, before, refused = shown | dict(every_column()), every_table(), 0
    for method, path, kind, body in bodies():
        foreign = sorted(columns.keys() - described[method, f"/api/v1/{path.format(pk='{id}')}", kind])
        for names in (foreign[start : start + MAX_UNKNOWN] for start in range(0, len(foreign), MAX_UNKNOWN)):
            sent = body | {name: columns[name] for name in names}
            answer = getattr(client, method)(f"/api/v1/{path.format(pk=rows.paused.pk)}", sent, format=named(kind))
            assert answer.status_code == 400, (method, path, names)
            assert answer.json()["errors"] == {name: ["Unknown field."] for name in names}, (method, path)
            refused += len(names)
    assert every_table() == before
    assert refused > 900


def named(kind):
    return "json" if kind == JSON else "multipart"


@pytest.mark.parametrize(
    ("where", "status"), [("an entry", 400), ("a line", 201), ("a table", 201), ("the address", 201)]
)
def test_what_surrounds_the_fields_writes_no_column(client, where, status):
    """Files may have more in them than an address and a name: that is left where it is."""
    make_rows()
    before, columns = but_for_chance(), {name: value for name, value in every_column() if name not in {"url", "name"}}
    with undone():
        assert create(client, where, {}).status_code == 201
        made = but_for_chance()
    assert create(client, where, columns).status_code == status
    assert but_for_chance() == (made if status == 201 else before)


def create(client, where, columns):
    entry = {"url": "https://example.org/new", "name": "new"} | columns
    if where == "an entry":
        return client.post("/api/v1/batches/", {"name": "x", "profiles": [entry]}, format="json")
    if where == "the address":
        return client.post("/api/v1/batches/", upload(entry["url"]), format="multipart", query_params=columns)
    text = json.dumps(entry) if where == "a line" else table(entry)
    return client.post("/api/v1/batches/", upload(text), format="multipart")


def table(entry):
    return "\n".join(",".join(map(str, cells)) for cells in (entry.keys(), entry.values()))


@contextmanager
def undone():
    savepoint = transaction.savepoint()
    yield
    transaction.savepoint_rollback(savepoint)
