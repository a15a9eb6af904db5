"""Actions on many batches, from the list and from the queue page. `queue/test_bulk` tests the executor."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.models import UUIDField
from django.urls import reverse
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, StoryResult
from batches.queue import contents
from batches.tests.support.factories import cap_bulk, unchanged, waiting_names

from .conftest import (
    LIST,
    MODELS,
    NOTHING_LEFT,
    act,
    act_in_queue,
    address,
    batch_with,
    document,
    hidden_fields,
    messages_of,
    page_of,
    reread,
    send,
    story,
    text_of,
)
from .test_roles import ACTIONS

pytestmark = pytest.mark.django_db


ways = pytest.mark.parametrize(("way", "call"), [(act, "pause_batches"), (act_in_queue, "pause_batch")])


@ways
def test_one_message_counts_the_batches_and_gives_the_reason_of_each_refusal(client, way, call):
    batches = [batch_with("running", name="one"), batch_with("done", name="<two>"), batch_with(name="three")]
    response = way(client, call, *batches)
    refusal = "“&lt;two&gt;” is done. Only a batch that is queued, running or paused can be paused."
    assert messages_of(response) == [("warning", f"Pause: 2 done, 1 refused.<ul><li>{refusal}</li></ul>")]
    assert [reread(batch).status for batch in batches] == ["paused", "done", "paused"]


@ways
def test_an_action_takes_batches_from_the_tail_up_to_its_cap_and_counts_the_rest(client, way, call, monkeypatch):
    cap_bulk(monkeypatch, 2)
    batches = [batch_with(name=str(number)) for number in range(1, 6)]
    response = way(client, call, *batches)
    assert messages_of(response) == [("warning", "Pause: 2 done, 0 refused. 3 left unchanged: at most 2 at a time.")]
    assert waiting_names() == ["1", "2", "3"]
    log = BatchLog.objects.filter(action="pause_batch", actor="superuser", channel="admin").order_by("pk")
    assert list(log.values_list("from_position", flat=True)) == [5, 4]


@ways
def test_the_message_of_a_bulk_action_can_undo_it_once(client, way, call):
    batches = [batch_with(name=str(number)) for number in range(1, 6)]
    BatchManager("superuser", "admin").pause_batch(batches[4].pk)  # before
    undo = document(way(client, call, *batches[1:4])).get_element_by_id("message-undo").get("formaction")
    BatchManager("ada", "admin").pause_batch(batches[0].pk)  # by somebody else
    assert BatchManager().undo_change(batches[0].pk)
    assert messages_of(client.post(undo, follow=True)) == [("success", "Undo: 3 done, 0 refused.")]
    assert waiting_names() == ["1", "2", "3", "4"]
    with unchanged():
        assert "3 refused" in messages_of(client.post(undo, follow=True))[0][1]
        for nonsense in ("after=x&last=x&action=pause_batch", f"after=0&last={'9' * 40}&action=\0", "", "after=-1"):
            answer = client.post(f"{undo.partition('?')[0]}?{nonsense}", follow=True)
            assert messages_of(answer) == [("warning", "There is nothing left to undo.")]


def test_actions_that_lose_results_have_no_undo(client):
    batches = [batch_with("done", ok=1), batch_with("done", ok=1)]
    response = act(client, "queue_batches", *batches)
    assert messages_of(response) == [("success", "Queue or recheck all: 2 done, 0 refused.")]
    assert "message-undo" not in text_of(response)


@pytest.mark.parametrize(("way", "call"), [(act, "queue_batches"), (act_in_queue, "queue_batch")])
def test_queueing_several_does_not_move_batches_that_already_wait(client, way, call):
    first, _ = batch_with(name="1"), batch_with(name="2")
    way(client, call, first, batch_with("paused", name="3"))
    assert waiting_names() == ["1", "2", "3"]


def test_more_repeats_than_one_action_takes_are_refused(client, monkeypatch):
    cap_bulk(monkeypatch, 1)
    batches = [batch_with("done"), batch_with("done")]
    [(level, sentence)] = messages_of(act(client, "repeat_batches", *batches))
    assert (level, sentence.startswith("More than 1 batches are selected")) == ("warning", True)
    assert Batch.objects.count() == 2


def test_selecting_all_means_the_batches_that_match_the_filter_of_the_list(client):
    paused, done = batch_with("paused"), batch_with("done")
    chosen = {"action": "queue_batches", "_selected_action": [paused.pk], "select_across": "1"}
    client.post(f"{LIST}?status__exact=paused", chosen)
    assert [reread(batch).status for batch in (paused, done)] == ["queued", "done"]


def test_all_of_a_section_means_the_batches_that_match_the_filter_visible_or_not(client, monkeypatch):
    monkeypatch.setattr("batches.admin.queue_content.SHOWN_WAITING", 1)
    for name in ("morning one", "evening", "morning two"):
        batch_with(name=name)
    paused = batch_with("paused", name="morning three")
    act_in_queue(client, "pause_batch", all="queued", q="morn")
    assert waiting_names() == ["evening"]
    act_in_queue(client, "queue_batch", all="paused", q="three")
    assert reread(paused).status == "queued"


def test_an_empty_or_invalid_selection_is_a_message_and_does_nothing(client):
    batch_with()
    with unchanged():
        assert messages_of(act_in_queue(client, "pause_batch")) == NOTHING_LEFT
        for nonsense in ("x", "\0", "running", "9" * 40):
            act_in_queue(client, "pause_batch", selected=nonsense, all=nonsense)
        for nonsense in ("123", "\0", "x" * 10_000):
            response = act(client, "queue_batches", nonsense)
            assert messages_of(response) == [
                ("warning", "The selection contains an invalid ID. Select the rows again.")
            ]


@pytest.mark.parametrize(("model", "action"), [key for key, roles in ACTIONS.items() if key[0] in MODELS and roles])
def test_an_action_on_rows_that_are_gone_says_so(client, model, action):
    gone, url = uuid4() if isinstance(model._meta.pk, UUIDField) else 7, address(model, "changelist")
    for across in "01":
        assert messages_of(act(client, action, gone, url=url, select_across=across)) == NOTHING_LEFT


# Deleting


def delete_alone(client, batch):
    return client.post(page_of(batch, "delete"), {"post": "yes"}, follow=True)


def delete_in_list(client, *batches):
    return send(client, act(client, "delete_selected", *batches))


def delete_in_queue(client, *batches):
    return send(client, act_in_queue(client, "delete_batch", *batches))


deletions = pytest.mark.parametrize("delete", [delete_alone, delete_in_list, delete_in_queue])


@deletions
@pytest.mark.django_db(transaction=True)  # the rows go when the transaction of the deletion has ended
def test_a_batch_is_deleted_with_its_rows_and_the_logs_name_the_user(client_of, delete, monkeypatch):
    in_transaction, purge = [], contents.purge_rows

    def watch(*arguments):
        in_transaction.append(connection.in_atomic_block)
        purge(*arguments)

    monkeypatch.setattr(contents, "purge_rows", watch)
    batch, other = batch_with("queued", ok=1, stories=[story()]), batch_with("queued")
    response = delete(client_of("editor"), batch)
    assert messages_of(response) == [("success", "“a batch” was deleted.")]
    assert not Batch.everything.filter(pk=batch.pk).exists()
    assert not BatchProfile.objects.filter(batch_id=batch.pk).exists()
    assert StoryResult.objects.get().batch is None
    assert reread(other).position == 1
    log = BatchLog.objects.latest("pk")
    assert (log.action, log.actor, log.channel) == ("delete_batch", "editor", "admin")
    assert LogEntry.objects.get().is_deletion()
    assert in_transaction == [False]  # the queue is free while the rows go


@deletions
def test_a_running_batch_is_not_deleted(client_of, delete):
    batch = batch_with("running")
    [(level, sentence)] = messages_of(delete(client_of("editor"), batch))
    assert (level, sentence.startswith("“a batch” is running.")) == ("warning", True)
    assert Batch.objects.contains(batch)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("ask", "left"),
    [
        (lambda client, batch, _: client.get(page_of(batch, "delete")), ["a batch", "other"]),
        (lambda client, *batches: act(client, "delete_selected", *batches), ["a batch"]),
        (lambda client, *batches: act_in_queue(client, "delete_batch", *batches), ["a batch"]),
    ],
    ids=["alone", "list", "queue"],
)
def test_a_confirmed_deletion_skips_batches_that_have_changed_since_the_question(client_of, ask, left):
    batch, other, client = batch_with("done"), batch_with("done", name="other"), client_of("editor")
    question = ask(client, batch, other)
    assert BatchManager().queue_batch(batch.pk)
    assert BatchManager().complete_batch(batch.pk)
    [(level, sentence)] = messages_of(send(client, question))
    assert (level, "“a batch” has changed since it was selected" in sentence) == ("warning", True)
    assert sorted(Batch.objects.values_list("name", flat=True)) == left


@pytest.mark.parametrize("ask", [act_in_queue, act])
def test_a_confirmed_deletion_of_batches_that_somebody_has_deleted_skips_them(client, ask):
    batches = [batch_with("paused") for _ in range(3)]
    question = ask(client, "delete_batch" if ask is act_in_queue else "delete_selected", *batches)
    assert BatchManager().delete_batches([batches[0].pk, batches[2].pk])
    assert messages_of(send(client, question)) == [("success", "“a batch” was deleted.")]
    batch_with("paused")
    assert messages_of(send(client, question)) == NOTHING_LEFT


def test_the_confirmation_names_each_batch_and_deletes_nothing(client_of):
    batch, running = batch_with("paused", pending=3), batch_with("running", name="b")
    client = client_of("editor")
    page = text_of(client.get(page_of(batch, "delete")))
    assert "“a batch” (3 profiles)" in page
    assert "Results of profiles: 3" in page
    chosen = [running, batch]
    for question in (act(client, "delete_selected", *chosen), act_in_queue(client, "delete_batch", *chosen)):
        assert "<li>“a batch” (3 profiles)</li>" in text_of(question)
        assert "<li>“b” will not be deleted because it is running.</li>" in text_of(question)
    assert Batch.objects.count() == 2
    [(_, sentence)] = messages_of(delete_in_list(client, *chosen))
    assert sentence.startswith("Delete: 1 done, 1 refused.<ul><li>“b” is running.")


@pytest.mark.parametrize("cap", [30, pytest.param(1000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("in_list", [True, False])
def test_many_batches_are_deleted_at_once_and_exactly_those_that_the_page_showed(client, in_list, cap, monkeypatch):
    cap_bulk(monkeypatch, cap)
    Batch.objects.bulk_create(Batch(name=f"<{number}>", status="paused") for number in range(cap + 1))
    chosen = {"action": "delete_selected", "_selected_action": Batch.objects.first().pk, "select_across": "1"}
    question = client.post(LIST, chosen) if in_list else act_in_queue(client, "delete_batch", all="paused")
    html = text_of(question)
    assert f"{cap:,} batches will be deleted" in html
    assert "1 more is selected and will be kept for now." in html
    assert html.count("<li>“&lt;") == cap
    assert len(re.findall("<input ", html)) < 20  # Django accepts 1,000 fields
    assert len(hidden_fields(html)["selected"].split()) == cap
    late = batch_with("paused", name="late")
    assert messages_of(send(client, question)) == [("success", f"Delete: {cap:,} done, 0 refused.")]
    assert Batch.objects.count() == 2
    assert Batch.objects.contains(late)


# Old batches

OLD = reverse("admin:batches_batch_old")


def ended(name, days):
    batch = batch_with("done", name=name)
    Batch.objects.filter(pk=batch.pk).update(completed_at=timezone.now() - timedelta(days=days))
    return batch


def test_the_batches_that_ended_long_ago_are_shown_and_then_deleted(client):
    old, *_ = (ended(name, days) for name, days in (("old", 31), ("older", 400), ("recent", 1)))
    batch_with(name="waiting")
    assert f'href="{OLD}"' in text_of(client.get(LIST))
    page = text_of(question := client.get(OLD, {"days": 30}))
    assert "“old”" in page
    assert "“older”" in page
    assert "“recent”" not in page
    assert BatchManager().queue_batch(old.pk)  # in between
    assert "1 done, 1 refused" in messages_of(send(client, question))[0][1]
    assert sorted(Batch.objects.values_list("name", flat=True)) == ["old", "recent", "waiting"]


@pytest.mark.parametrize(("days", "shown"), [("", "90"), ("0", "90"), ("-5", "1"), ("x", "90"), ("9" * 30, "36500")])
def test_any_number_of_days_is_understood_and_nothing_to_delete_has_no_button(client, days, shown):
    page = document(client.get(OLD, {"days": days}))
    assert page.get_element_by_id("days").get("value") == shown
    assert page.xpath("//input[@type='submit']") == []
    assert "No batch ended more than" in page.text_content()
