"""The list of batches: its columns, its order, its filters and its queries."""

import re
from html import unescape

import pytest
from django.urls import reverse

from batches.admin.batch import BatchAdmin

from .conftest import batch_with, queries_of, story, text_of

pytestmark = pytest.mark.django_db

LIST = reverse("admin:batches_batch_changelist")


def rows(response):
    """The text of each row's cells, by column."""
    table = re.findall(r"<tr>(.*?)</tr>", text_of(response), re.DOTALL)
    cells = [re.findall(r'class="field-(\w+)[^"]*">(.*?)</t[dh]>', row, re.DOTALL) for row in table]
    return [{name: " ".join(unescape(re.sub("<.*?>", "", text)).split()) for name, text in row} for row in cells if row]


def names(response):
    return [row["name"] for row in rows(response)]


def test_the_running_batch_comes_first_then_the_queue_in_its_order_then_the_others_newest_first(client):
    for status, name, priority in [
        ("paused", "old", 0),
        ("done", "new", 0),
        ("queued", "second", 0),
        ("queued", "first", 9),
        ("running", "now", 0),
    ]:
        batch_with(status, name=name, priority=priority)
    listed = rows(client.get(LIST))
    assert [row["name"] for row in listed] == ["now", "first", "second", "new", "old"]
    assert [row["place"] for row in listed] == ["running", "1", "2", "–", "–"]
    assert [row["status_label"] for row in listed] == ["Running", "Queued", "Queued", "Done", "Paused"]


def test_a_row_shows_the_progress_of_its_batch(client):
    batch_with("paused", ok=3, failed=2, pending=7, stories=[story("a"), story("b")])
    response = client.get(LIST)
    [row] = rows(response)
    assert (row["progress_bar"], row["ok"], row["failed"], row["new_stories"]) == ("5 of 12", "3", "2", "2")
    assert '<progress max="12" value="5"' in text_of(response)


def test_large_numbers_have_separators(client):
    batch = batch_with("paused")
    type(batch).objects.update(total_profiles=10_000, completed_profiles=6_412, successful_checks=6_412)
    [row] = rows(client.get(LIST))
    assert (row["progress_bar"], row["ok"]) == ("6,412 of 10,000", "6,412")


def test_a_batch_without_profiles_has_a_progress_bar(client):
    batch_with("paused", pending=0)
    assert '<progress max="1" value="0"' in text_of(client.get(LIST))


@pytest.mark.parametrize(
    ("query", "found"),
    [("status__exact=paused", "slow"), ("priority=7", "slow"), ("checker=http", "fast"), ("q=slo", "slow")],
)
def test_the_list_can_be_filtered_and_searched(client, query, found):
    batch_with("paused", name="slow", priority=7)
    fast = batch_with("done", name="fast")
    type(fast).objects.filter(pk=fast.pk).update(checker="http")
    assert names(client.get(f"{LIST}?{query}")) == [found]


@pytest.mark.parametrize("part", [slice(None), slice(8)])
def test_a_batch_is_found_by_its_id(client, part):
    wanted = batch_with(name="wanted")
    batch_with(name="other")
    assert names(client.get(LIST, {"q": str(wanted.pk)[part]})) == ["wanted"]


def test_a_deleted_batch_is_not_listed(client):
    batch = batch_with("paused")
    type(batch).objects.update(deleted_at="2026-01-01T00:00Z")
    assert rows(client.get(LIST)) == []


def test_the_number_of_queries_does_not_grow_with_the_batches(client):
    batch_with()
    client.get(LIST)
    before = queries_of(lambda: client.get(LIST))
    for _ in range(9):
        batch_with()
    assert queries_of(lambda: client.get(LIST)) == before


def test_the_list_comes_in_pages(client, monkeypatch):
    monkeypatch.setattr(BatchAdmin, "list_per_page", 2)
    for number in range(3):
        batch_with(name=f"number {number}")
    assert names(client.get(LIST)) == ["number 0", "number 1"]
    assert names(client.get(LIST, {"p": 2})) == ["number 2"]
