"""Deleting batches, one or many: always through the manager, never those that run."""

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


def delete_selected(client, *batches, **fields):
    chosen = {"action": "delete_selected", "_selected_action": [batch.pk for batch in batches]}
    return client.post(LIST, chosen | fields, follow=True)


def delete_selected_at_once(client, batch):
    return delete_selected(client, batch, post="yes")


ways = pytest.mark.parametrize("way", [delete, delete_selected_at_once])


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
    response = delete_selected(client_of("editor"), running, paused, post="yes")
    assert [level for level, _ in messages_of(response)] == ["warning", "success"]
    assert list(Batch.objects.all()) == [running]


def test_nothing_goes_before_the_confirmation(client_of):
    batch = batch_with("paused", pending=3)
    client = client_of("editor")
    pages = [client.get(reverse("admin:batches_batch_delete", args=[batch.pk])), delete_selected(client, batch)]
    for page in pages:
        assert "“a batch” (profiles: 3)" in text_of(page)
        assert "Results of profiles: 3" in text_of(page)
    assert Batch.objects.exists()


def test_the_confirmation_says_which_batch_stays(client_of):
    assert "“a batch” stays: it is running" in text_of(delete_selected(client_of("editor"), batch_with("running")))


def test_the_confirmation_does_not_load_the_rows(client_of):
    client = client_of("editor")
    few, many = batch_with("paused", pending=1), batch_with("paused", ok=9, pending=9, stories=[story()])
    pages = [reverse("admin:batches_batch_delete", args=[batch.pk]) for batch in (few, many)]
    client.get(pages[0])
    assert queries_of(lambda: client.get(pages[1])) == queries_of(lambda: client.get(pages[0]))


def test_more_than_the_form_can_carry_is_told_beforehand(client_of, monkeypatch):
    monkeypatch.setattr("batches.admin.batch.MAX_DELETED_AT_ONCE", 1)
    response = delete_selected(client_of("editor"), batch_with("paused"), batch_with("paused"), post="yes")
    assert messages_of(response) == [("warning", "2 batches are selected; at most 1 can be deleted at once.")]
    assert Batch.objects.count() == 2


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
