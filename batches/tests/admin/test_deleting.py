"""Deleting batches, one or many: always through the manager, never those that run."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse

from batches import batch_manager
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, StoryResult

from .conftest import batch_with, messages_of, queries_of, state, story, text_of

LIST = reverse("admin:batches_batch_changelist")

pytestmark = pytest.mark.django_db


def delete(client, batch):
    return client.post(reverse("admin:batches_batch_delete", args=[batch.pk]), {"post": "yes"}, follow=True)


def ask_to_delete(client, *batches):
    return client.post(LIST, {"action": "delete_selected", "_selected_action": [batch.pk for batch in batches]})


def delete_selected(client, *batches):
    """Ask, and confirm what the page shows."""
    question = ask_to_delete(client, *batches)
    if question.status_code != 200:
        return client.post(LIST, {"action": "delete_selected", "confirmed": "yes"})
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', text_of(question)))
    return client.post(LIST, form, follow=True)


ways = pytest.mark.parametrize("way", [delete, delete_selected])


@ways
@pytest.mark.django_db(transaction=True)  # the rows go when the transaction of the deletion has ended
def test_a_batch_is_deleted_with_its_rows_and_the_queue_closes_the_gap(client_of, way):
    batch, other = batch_with("queued", ok=1, stories=[story()]), batch_with("queued")
    response = way(client_of("editor"), batch)
    assert messages_of(response) == [("success", "“a batch” was deleted.")]
    assert not Batch.everything.filter(pk=batch.pk).exists()
    assert not BatchProfile.objects.filter(batch_id=batch.pk).exists()
    assert StoryResult.objects.get().batch is None
    assert Batch.objects.get(pk=other.pk).position == 1


@ways
def test_the_logs_say_who_deleted_it(client_of, way):
    way(client_of("editor"), batch_with("paused"))
    log = BatchLog.objects.latest("pk")
    assert (log.action, log.actor, log.channel) == ("delete_batch", "editor", "admin")
    assert LogEntry.objects.get().is_deletion()


@ways
def test_a_running_batch_is_refused_and_stays(client_of, way):
    batch = batch_with("running")
    response = way(client_of("editor"), batch)
    assert messages_of(response) == [("warning", BatchManager().delete_batch(batch.pk).message)]
    assert Batch.objects.filter(pk=batch.pk).exists()
    assert not LogEntry.objects.exists()


def test_of_several_the_others_go_and_the_running_one_stays(client_of):
    running, paused = batch_with("running"), batch_with("paused")
    response = delete_selected(client_of("editor"), running, paused)
    [(level, sentence)] = messages_of(response)
    assert (level, sentence.startswith("Delete: 1 done, 1 refused.<ul><li>“a batch” is running.")) == ("warning", True)
    assert list(Batch.objects.all()) == [running]


def test_nothing_goes_before_the_confirmation_which_names_each_batch(client_of):
    batch, running = batch_with("paused", pending=3), batch_with("running", name="b")
    client = client_of("editor")
    page = text_of(client.get(reverse("admin:batches_batch_delete", args=[batch.pk])))
    assert "“a batch” (3 profiles)" in page
    assert "Results of profiles: 3" in page
    question = text_of(ask_to_delete(client, running, batch))
    assert "<li>“a batch” (3 profiles)</li>" in question
    assert "<li>“b” stays because it is running.</li>" in question
    assert Batch.objects.count() == 2


def test_the_confirmation_does_not_load_the_rows(client_of):
    client = client_of("editor")
    few, many = batch_with("paused", pending=1), batch_with("paused", ok=9, pending=9, stories=[story()])
    pages = [reverse("admin:batches_batch_delete", args=[batch.pk]) for batch in (few, many)]
    client.get(pages[0])
    assert queries_of(lambda: client.get(pages[1])) == queries_of(lambda: client.get(pages[0]))


def test_a_thousand_batches_go_at_once_in_one_form_field_and_the_rest_is_counted(client_of):
    Batch.objects.bulk_create(Batch(name=f"<{number}>", status="paused") for number in range(1001))
    client, first = client_of("editor"), Batch.objects.first()
    chosen = {"action": "delete_selected", "_selected_action": first.pk, "select_across": "1", "index": "0"}
    question = text_of(client.post(LIST, chosen))
    assert "1,000 batches will be deleted" in question
    assert "1 more are selected and will stay for now." in question
    assert question.count("<li>“&lt;") == 1000
    form = re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', question)
    assert len(form) < 10  # Django takes 1,000
    assert len(dict(form)["selected"].split()) == 1000
    made = batch_with("paused", name="made after the question")
    response = client.post(LIST, dict(form), follow=True)
    assert messages_of(response) == [("success", "Delete: 1,000 done, 0 refused.")]
    assert Batch.objects.count() == 2
    assert Batch.objects.contains(made)


@ways
@pytest.mark.django_db(transaction=True)
def test_the_queue_is_free_while_the_rows_go(client_of, way, monkeypatch):
    in_transaction, purge = [], batch_manager.purge_rows

    def watched(batch):
        in_transaction.append(connection.in_atomic_block)
        purge(batch)

    monkeypatch.setattr(batch_manager, "purge_rows", watched)
    way(client_of("editor"), batch_with("paused"))
    assert in_transaction == [False]


@ways
@pytest.mark.parametrize("role", ["anonymous", "staff", "viewer", "operator", "adder"])
def test_only_who_may_delete_batches_can(client_of, way, role):
    batch = batch_with("paused")
    before = state()
    way(client_of(role), batch)
    assert state() == before
