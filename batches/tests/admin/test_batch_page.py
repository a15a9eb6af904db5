"""A batch's own page: what it shows, and the two fields that can be changed there."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, StoryResult

from .conftest import batch_with, messages_of, queries_of, reread, state, story, text_of

pytestmark = pytest.mark.django_db


def page_of(batch):
    return reverse("admin:batches_batch_change", args=[batch.pk])


def calls_offered(response):
    return re.findall(r'name="call" value="(\w+)"', text_of(response))


def values_shown(client, batch):
    """The form's fields as a browser sends them back, with the values that they were shown with."""
    inputs = re.findall(r"<input [^>]*>", text_of(client.get(page_of(batch))))
    fields = [dict(re.findall(r'(\w+)="([^"]*)"', text)) for text in inputs]
    return {field["name"]: field["value"] for field in fields if "name" in field and field["name"].endswith(FIELDS)}


FIELDS = ("name", "priority")


def test_the_page_tells_how_far_the_batch_is(client):
    batch = batch_with("running", ok=3, failed=2, pending=7)
    Batch.objects.update(run_seconds=0.1)
    html = text_of(client.get(page_of(batch)))
    for shown in ("Running", "5 of 12", "50/s", "about 0 s", str(batch.pk), "Last heartbeat"):
        assert shown in html


def test_the_page_shows_the_error_and_the_batch_that_it_repeats(client):
    first = batch_with("error")
    repeat = BatchManager().repeat_batch(first.pk)
    assert "the disk is full" in text_of(client.get(page_of(first)))
    assert f'href="{page_of(first)}"' in text_of(client.get(page_of(repeat)))


def test_failures_are_counted_by_reason(client):
    batch = batch_with("paused", failed=3)
    row = batch.profiles.first()
    BatchProfile.objects.filter(pk=row.pk).update(error="timed out")
    html = text_of(client.get(page_of(batch)))
    table = html.split("Failures by reason")[1].split("</table>")[0]
    assert re.findall(r"<td>(\d+)</td><td><a [^>]*>(.*?)</a>", table) == [("2", "HTTP status 500"), ("1", "timed out")]


def test_the_log_is_shown_newest_first(client):
    batch = batch_with("paused")
    BatchManager("ada", "api").queue_batch(batch.pk)
    html = text_of(client.get(page_of(batch)))
    cells = [re.findall("<td>(.*?)</td>", row, re.DOTALL)[1:5] for row in html.split('id="batch-log"')[1].split("<tr>")]
    assert [row for row in cells if row] == [
        ["ada", "api", "queue_batch", "paused → queued 1"],
        ["maker", "code", "create_batch", "– → paused"],
    ]


def test_each_part_is_limited_and_leads_to_the_full_list(client):
    batch = batch_with("paused", ok=1, failed=1, stories=[story(f"story {number}") for number in range(25)])
    for _ in range(25):
        BatchManager().set_priority(batch.pk, reread(batch).priority + 1)
    response = client.get(page_of(batch))
    assert len(response.context["stories"]) == len(response.context["logs"]) == 20
    html = text_of(response)
    assert "story 24" in html
    assert "story 4<" not in html
    for name in ("batchlog", "storyresult", "batchprofile"):
        assert f"{reverse(f'admin:batches_{name}_changelist')}?batch={batch.pk}" in html


def test_the_number_of_queries_does_not_grow_with_what_is_shown(client):
    batch = batch_with("paused", ok=1, stories=[story("one")])
    client.get(page_of(batch))
    before = queries_of(lambda: client.get(page_of(batch)))
    many = batch_with("paused", ok=5, failed=5, stories=[story(f"story {number}") for number in range(9)])
    BatchManager().set_priority(many.pk, 3)
    assert queries_of(lambda: client.get(page_of(many))) == before


@pytest.mark.parametrize(
    ("status", "failed", "calls"),
    [
        ("queued", 0, ["start_batch", "pause_batch", "repeat_batch"]),
        ("running", 1, ["pause_batch", "repeat_batch"]),
        ("paused", 0, ["queue_batch", "start_batch", "repeat_batch"]),
        ("paused", 1, ["queue_batch", "start_batch", "retry_failed", "repeat_batch"]),
        ("done", 0, ["queue_batch", "repeat_batch"]),
        ("error", 1, ["queue_batch", "retry_failed", "repeat_batch"]),
    ],
)
def test_the_buttons_are_those_that_would_do_something(client_of, status, failed, calls):
    assert calls_offered(client_of("operator").get(page_of(batch_with(status, failed=failed)))) == calls


@pytest.mark.parametrize("role", ["viewer", "adder", "editor"])
def test_who_may_not_operate_sees_no_buttons(client_of, role):
    assert calls_offered(client_of(role).get(page_of(batch_with()))) == []


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_may_not_change_it_sees_no_form(client_of, role):
    html = text_of(client_of(role).get(page_of(batch_with())))
    assert 'name="priority"' not in html
    assert 'class="readonly"' not in html  # the summary says it already
    assert "Save" not in html
    assert "Delete" not in html


def test_the_name_can_be_changed(client_of):
    batch = batch_with()
    client_of("editor").post(page_of(batch), {"name": " a  new name", "priority": "0", "initial-priority": "0"})
    assert (reread(batch).name, reread(batch).position) == ("a new name", 1)


def test_the_priority_is_changed_by_the_manager(client_of):
    batch_with()
    batch = batch_with()
    client = client_of("editor")
    client.post(page_of(batch), values_shown(client, batch) | {"priority": "5"})
    assert (reread(batch).priority, reread(batch).position) == (5, 1)
    log = BatchLog.objects.latest("pk")
    assert (log.action, log.actor, log.channel) == ("set_priority", "editor", "admin")


def test_the_queue_is_locked_before_the_batch(client):
    batch = batch_with()
    fields = values_shown(client, batch) | {"name": "new", "priority": "5"}
    with CaptureQueriesContext(connection) as captured:
        client.post(page_of(batch), fields)
    statements = [query["sql"] for query in captured]
    renaming = next(index for index, sql in enumerate(statements) if '"name" = ' in sql)
    assert any('FROM "batches_queue"' in sql for sql in statements[:renaming])


@pytest.mark.parametrize("fields", [{"name": ""}, {"name": "a\0"}, {"priority": "32768"}, {"priority": ""}])
def test_what_cannot_be_stored_is_an_error_in_the_form(client, fields):
    batch = batch_with()
    before = state()
    response = client.post(page_of(batch), values_shown(client, batch) | fields)
    assert len(response.context["errors"]) == 1
    assert state() == before


def test_a_stale_form_overwrites_nothing_but_what_was_edited_in_it(client):
    batch = batch_with("queued", pending=3)
    stale = values_shown(client, batch)
    assert set(stale) == {"name", "initial-name", "priority", "initial-priority"}
    BatchManager().set_priority(batch.pk, 9)
    BatchManager().start_batch(batch.pk)
    Batch.objects.update(completed_profiles=2, successful_checks=2)
    client.post(page_of(batch), stale | {"name": "renamed"})
    after = reread(batch)
    assert (after.name, after.priority, after.status, after.completed_profiles) == ("renamed", 9, "running", 2)


def test_the_form_takes_no_other_field(client):
    batch = batch_with()
    fields = {"status": "done", "position": "7", "total_profiles": "99", "error": "x", "checker": "http"}
    client.post(page_of(batch), values_shown(client, batch) | fields)
    after = reread(batch)
    assert (after.status, after.position, after.total_profiles) == ("queued", 1, 1)
    assert (after.error, after.checker) == ("", "feed")


def test_a_forged_save_as_new_inserts_nothing(client):
    batch = batch_with()
    response = client.post(page_of(batch), {"name": "copy", "priority": "0", "_saveasnew": "1"})
    assert response.status_code == 403
    assert Batch.objects.count() == 1


@pytest.mark.parametrize("role", ["staff", "viewer", "operator", "adder"])
def test_only_who_may_change_batches_can(client_of, role):
    batch = batch_with()
    before = state()
    response = client_of(role).post(page_of(batch), {"name": "new", "priority": "3"})
    assert response.status_code == 403
    assert state() == before


def test_looking_changes_nothing(client):
    batch = batch_with("paused", ok=1, failed=1, stories=[story()])
    before, logs = state(), BatchLog.objects.count()
    for url in (page_of(batch), reverse("admin:batches_batch_delete", args=[batch.pk]), f"{page_of(batch)}?name=x"):
        client.get(url)
    assert (state(), BatchLog.objects.count()) == (before, logs)
    assert StoryResult.objects.count() == 1


def test_a_batch_that_is_gone_is_a_message_and_not_an_error(client):
    batch = batch_with("paused")
    BatchManager().delete_batch(batch.pk)
    response = client.get(page_of(batch), follow=True)
    [(level, sentence)] = messages_of(response)
    assert (level, "doesn’t exist" in sentence) == ("warning", True)
