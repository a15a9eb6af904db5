"""The list of batches: its fields, filters, order and pages."""

from datetime import UTC, datetime, timedelta

import pytest

from batches.batch_manager import BatchManager
from batches.models import Batch, public_fields
from batches.tests.support.factories import empty_leases

from .conftest import errors_of

pytestmark = pytest.mark.django_db


def names(answer):
    assert answer.status_code == 200, answer.content
    return [batch["name"] for batch in answer.json()["results"]]


def test_a_batch_has_its_progress_and_is_the_same_in_the_list(client, make_batch):
    batch = make_batch("running", profiles=4, failed=1)
    empty_leases(batch)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=0.5)
    answer = client.get(f"/api/batches/{batch.pk}/").json()
    assert answer.keys() == {*public_fields.BATCH, "progress", "url"}
    assert answer["progress"] == {"percent": 25, "rate": 2.0, "seconds_left": 1.5}
    assert answer["created_at"] == batch.created_at.isoformat().replace("+00:00", "Z")
    assert client.get("/api/batches/").json()["results"] == [client.get(answer["url"]).json()]
    idle = client.get(f"/api/batches/{make_batch(profiles=0).pk}/").json()
    assert idle["progress"] == {"percent": 0, "rate": None, "seconds_left": None}


def test_the_list_is_in_the_order_of_the_queue(client, make_batch):
    for status, name, priority in [
        ("done", "old", 0),
        ("running", "now", 0),
        ("queued", "later", 0),
        ("queued", "next", 5),
        ("paused", "new", 0),
    ]:
        make_batch(status, name=name, priority=priority)
    assert names(client.get("/api/batches/")) == ["now", "next", "later", "new", "old"]


@pytest.fixture
def shelf(make_batch):
    """A few batches that differ in every filter."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        ("running", "Alpha news", 5),
        ("queued", "Beta 100% blogs", 0),
        ("error", "Gamma_news", -1),
        ("done", "Delta", 0),
    ]
    for day, (status, name, priority) in enumerate(rows):
        batch = make_batch(status, name=name, priority=priority, profiles=1)
        Batch.objects.filter(pk=batch.pk).update(created_at=start + timedelta(days=day), completed_at=None)
    Batch.objects.filter(name="Delta").update(completed_at=start + timedelta(days=9), checker="http")


FILTERED = {
    "status=queued": {"Beta 100% blogs"},
    "status=queued&status=done": {"Beta 100% blogs", "Delta"},
    "priority=5": {"Alpha news"},
    "priority=-1": {"Gamma_news"},
    "priority=17": set(),
    "checker=http": {"Delta"},
    "checker=nonsense": set(),
    "name=NEWS": {"Alpha news", "Gamma_news"},
    "name=%25": {"Beta 100% blogs"},
    "name=_": {"Gamma_news"},
    "name='": set(),
    "created_after=2026-01-03T00:00:00Z": {"Gamma_news", "Delta"},
    # A date is the start of its day.
    "created_after=2026-01-03": {"Gamma_news", "Delta"},
    "created_before=2026-01-03": {"Alpha news", "Beta 100% blogs", "Gamma_news"},
    "created_before=2026-01-02": {"Alpha news", "Beta 100% blogs"},
    "created_before=2026-01-01T01:00:00%2B01:00": {"Alpha news"},
    "created_after=2026-01-02T00:00:00Z&created_before=2026-01-03T00:00:00Z": {"Beta 100% blogs", "Gamma_news"},
    "created_before=2026-01-01T00:01:00-23:59": {"Alpha news", "Beta 100% blogs"},
    "completed_after=2026-01-02T00:00:00Z": {"Delta"},
    "completed_before=2026-01-02T00:00:00Z": set(),
    "search=news alpha": {"Alpha news"},
    "search=broke": {"Gamma_news"},
    "search=http": {"Delta"},
    "search=news&status=error": {"Gamma_news"},
}


@pytest.mark.usefixtures("shelf")
def test_the_list_is_filtered(client):
    assert {query: set(names(client.get(f"/api/batches/?{query}"))) for query in FILTERED} == FILTERED


def test_unusual_texts_are_searched(client):
    for text in ("%FF", "%ED%A0%80", "%F0%9F%98%80", "é", "%5C", "[%5D", "%25%25", "a%0Ab", "x+" * 9 + "x" * 182):
        assert names(client.get(f"/api/batches/?name={text}&search={text}")) == [], text


@pytest.fixture
def crowd():
    """Batches in every status, with ties and missing values in every field of an order."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    statuses = ["running", *["queued"] * 4, *["done", "paused", "error"] * 4]
    Batch.objects.bulk_create(
        Batch(
            name="abc"[number % 3],
            status=status,
            position=number if status in {"running", "queued"} else None,
            priority=number % 2,
            created_at=start + timedelta(days=number % 4, microseconds=number % 2),
            started_at=None if number % 3 else start + timedelta(days=number % 2),
            completed_at=start + timedelta(days=number % 5) if status == "done" else None,
        )
        for number, status in enumerate(statuses)
    )


ORDERABLE = ["position", "name", "status", "priority", "total_profiles", "created_at", "started_at", "completed_at"]
ORDERS = [
    *ORDERABLE,
    *(f"-{field}" for field in ORDERABLE),
    "priority,-started_at",
    "-started_at,completed_at,name",
    "priority,started_at,-created_at",
    "name,-name,name",
]


@pytest.mark.usefixtures("crowd")
def test_pages_contain_every_batch_once_in_the_requested_order(client):
    for ordering in ORDERS:
        path = f"/api/batches/?ordering={ordering}"
        whole = client.get(path).json()["results"]
        assert [batch["id"] for batch in whole] == sort_batches(ordering.split(",")), ordering
        assert read_pages(client, f"{path}&page_size=2") == whole, ordering


def sort_batches(terms):
    """The ids in this order; missing values last in both directions, ties by id."""
    batches = {str(batch.pk): batch for batch in Batch.objects.all()}
    ids = sorted(batches)
    for term in reversed(terms):
        values = {pk: getattr(batch, term.removeprefix("-")) for pk, batch in batches.items()}
        with_value = [pk for pk in ids if values[pk] is not None]
        without = [pk for pk in ids if values[pk] is None]
        ids = sorted(with_value, key=values.get, reverse=term.startswith("-")) + without
    return ids


def read_pages(client, address):
    """All results from this page to the last."""
    results = []
    while address:
        answer = client.get(address)
        assert answer.status_code == 200, answer.content
        results += answer.json()["results"]
        address = answer.json()["next"]
    return results


def test_a_new_or_deleted_batch_does_not_repeat_or_hide_another(client, make_batch):
    for number in range(4):
        make_batch("paused", name=str(number), profiles=0)
    first = client.get("/api/batches/?page_size=2").json()
    assert [batch["name"] for batch in first["results"]] == ["3", "2"]
    make_batch("paused", name="new", profiles=0)
    assert BatchManager().delete_batch(first["results"][1]["id"])  # the batch of the cursor
    assert names(client.get(first["next"])) == ["1", "0"]


@pytest.mark.usefixtures("crowd")
def test_a_cursor_of_another_list_or_order_is_refused_by_name(client):
    cursor = client.get("/api/batches/?page_size=1&ordering=name").json()["next"].partition("cursor=")[2].split("&")[0]
    assert client.get(f"/api/batches/?ordering=name&cursor={cursor}").status_code == 200
    for query in ("cursor=", "ordering=-name&cursor=", "ordering=name&cursor=A"):
        assert errors_of(client.get(f"/api/batches/?{query}{cursor}")) == {"cursor"}
    assert errors_of(client.get(f"/api/batches/?ordering=name&cursor={cursor[:-1]}")) == {"cursor"}


@pytest.mark.parametrize("root", ["/api", "/api/v1"])
def test_the_next_page_has_the_form_of_the_request(client, make_batch, root):
    for _ in range(2):
        make_batch(profiles=0)
    following = client.get(f"{root}/batches/?page_size=1").json()["next"]
    assert following.startswith(f"http://testserver{root}/batches/?")
    assert len(client.get(following).json()["results"]) == 1
