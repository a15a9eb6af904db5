"""The list of batches: its columns, its order, its filters and its queries."""

import re
from html import unescape

import pytest

from batches.models import Batch

from .conftest import LIST, batch_with, story, text_of

pytestmark = pytest.mark.django_db


def rows(response):
    """The text of each row's cells, by column."""
    table = re.findall(r"<tr>(.*?)</tr>", text_of(response), re.DOTALL)
    cells = [re.findall(r'class="field-(\w+)[^"]*">(.*?)</t[dh]>', row, re.DOTALL) for row in table]
    return [{name: " ".join(unescape(re.sub("<.*?>", "", text)).split()) for name, text in row} for row in cells if row]


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
    batch = batch_with("paused", ok=3, failed=2, pending=7, stories=[story("a"), story("b")])
    response = client.get(LIST)
    [row] = rows(response)
    counts = [row[name] for name in ("progress_bar", "successful_checks", "failed_checks", "stories_found")]
    assert counts == ["5 of 12", "3", "2", "2"]
    assert '<progress max="12" value="5"' in text_of(response)
    Batch.objects.update(total_profiles=10_000, completed_profiles=6_414, successful_checks=6_412)
    [row] = rows(client.get(LIST))
    assert (row["progress_bar"], row["successful_checks"]) == ("6,414 of 10,000", "6,412")
    Batch.objects.update(total_profiles=0, completed_profiles=0, successful_checks=0, failed_checks=0)
    assert '<progress max="1" value="0"' in text_of(client.get(LIST))  # HTML does not allow a maximum of 0
    Batch.everything.filter(pk=batch.pk).update(deleted_at="2026-01-01T00:00Z")
    assert rows(client.get(LIST)) == []


@pytest.mark.parametrize("query", ["status__exact=paused", "priority=7", "checker=http", "q=slo", "q={pk}", "q={end}"])
def test_the_list_can_be_filtered_and_searched(client, query):
    slow = batch_with("paused", name="slow", priority=7)
    batch_with("done", name="fast")
    Batch.objects.filter(pk=slow.pk).update(checker="http")
    found = rows(client.get(f"{LIST}?{query.format(pk=slow.pk, end=str(slow.pk)[8:])}"))
    assert [row["name"] for row in found] == ["slow"]


def test_the_filters_offer_the_configured_checkers_and_the_priorities_of_batches_that_are_not_done(client, settings):
    settings.BATCHES = {"CHECKERS": {"mine": "batches.checking.checkers.http.HttpChecker"}}
    batch_with("paused", name="waits", priority=7)
    batch_with("done", name="over", priority=3)

    def offered(query=""):
        changelist = client.get(f"{LIST}{query}").context["cl"]
        filters = {spec.title: spec for spec in changelist.filter_specs}
        choices = {title: list(filters[title].choices(changelist))[1:] for title in ("checker", "priority")}
        return {title: [choice["display"] for choice in found] for title, found in choices.items()}

    assert offered() == {"checker": ["feed", "http", "mine"], "priority": ["7"]}
    # The value in the address is offered as well.
    assert offered("?priority=3&checker=former") == {
        "checker": ["feed", "http", "mine", "former"],
        "priority": ["7", "3"],
    }
