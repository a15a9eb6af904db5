"""Buttons and actions: which ones each status has, what they do, and how a refusal is shown."""

import re

import pytest
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.models import BatchLog
from batches.queue.undo import UNDOABLE
from batches.tests.support.factories import unchanged

from .conftest import (
    BY_SCRIPT,
    QUEUE,
    QUEUE_LIVE,
    act,
    act_in_queue,
    batch_with,
    document,
    messages_of,
    page_of,
    press,
    press_in_queue,
    reread,
    text_of,
    words,
)

pytestmark = pytest.mark.django_db

LIST_ACTIONS = {
    "queue_batch": "queue_batches",
    "start_batch": "start_batches",
    "pause_batch": "pause_batches",
    "retry_failed": "retry_batches",
    "repeat_batch": "repeat_batches",
}


def act_in_list(client, call, batch):
    return act(client, LIST_ACTIONS[call], batch)


ways = pytest.mark.parametrize("way", [press, press_in_queue, act_in_list])
buttons = pytest.mark.parametrize("way", [press, press_in_queue])


@pytest.mark.parametrize(
    ("status", "failed", "on_page", "in_queue"),
    [
        ("queued", 0, ["start_batch", "pause_batch", "repeat_batch"], ["start_batch", "pause_batch"]),
        ("running", 1, ["pause_batch", "repeat_batch"], ["pause_batch"]),
        ("paused", 0, ["queue_batch", "start_batch", "repeat_batch"], ["queue_batch", "repeat_batch"]),
        (
            "paused",
            1,
            ["queue_batch", "start_batch", "retry_failed", "repeat_batch"],
            ["queue_batch", "retry_failed", "repeat_batch"],
        ),
        ("done", 0, ["repeat_batch", "queue_batch"], ["repeat_batch", "queue_batch"]),
        ("error", 1, ["queue_batch", "retry_failed", "repeat_batch"], ["queue_batch", "retry_failed", "repeat_batch"]),
    ],
)
def test_a_batch_has_the_buttons_of_its_status_if_the_user_may_operate(client_of, status, failed, on_page, in_queue):
    batch = batch_with(status, failed=failed)
    for role, is_operator in [("operator", True), ("viewer", False)]:
        client = client_of(role)
        page, live = (text_of(client.get(page_of(batch, name))) for name in ("change", "live"))
        for html in (page, live):
            assert re.findall(r'<button[^>]*name="call" value="(\w+)"', html) == (on_page if is_operator else [])
        assert ('id="operate"' in page) is is_operator
        for address in (QUEUE, QUEUE_LIVE):
            html = text_of(client.get(address))
            assert re.findall(rf'id="(\w+_\w+)-{batch.pk}"', html) == (in_queue if is_operator else [])


@pytest.mark.parametrize(
    ("status", "counts", "labels"),
    [
        ("paused", {"pending": 2}, ["Add to queue", "Start now", "New run"]),
        ("paused", {"ok": 2, "pending": 1}, ["Continue", "Start now", "New run"]),
        ("error", {"failed": 1, "pending": 1}, ["Continue", "Recheck 1 failed", "New run"]),
        ("done", {"ok": 2, "pending": 0}, ["New run", "Recheck all"]),
        ("done", {"failed": 2, "pending": 0}, ["Recheck 2 failed", "New run", "Recheck all"]),
    ],
)
def test_the_names_of_buttons_say_what_they_do_with_the_batch(client_of, status, counts, labels):
    batch = batch_with(status, **counts)
    shown = document(client_of("operator").get(page_of(batch)))
    assert [words(button) for button in shown.xpath("//*[@id='batch-operations']/button")] == labels


@ways
@pytest.mark.parametrize(
    ("call", "before", "after", "sentence"),
    [
        ("queue_batch", "paused", "queued", "“a batch” was queued."),
        ("queue_batch", "error", "queued", "“a batch” was queued."),
        ("start_batch", "queued", "running", "“a batch” was started. A worker will begin shortly."),
        ("pause_batch", "queued", "paused", "“a batch” was paused."),
        ("pause_batch", "running", "paused", "“a batch” was paused."),
        ("retry_failed", "done", "queued", "“a batch” was queued to recheck its failed profiles."),
        ("repeat_batch", "done", "done", "A new run of “a batch” was queued."),
    ],
)
def test_an_action_does_what_it_says_and_the_log_names_the_user(client_of, way, call, before, after, sentence):
    batch = batch_with(before, failed=1)
    response = way(client_of("operator"), call, batch)
    assert reread(batch).status == after
    assert messages_of(response) == [("success", sentence)]
    assert bool(document(response).xpath("//button[@id='message-undo']")) == (call in UNDOABLE)
    log = BatchLog.objects.latest("pk")
    assert (log.action, log.actor, log.channel) == (call, "operator", "admin")
    assert log.batch == (batch.repeats.get() if call == "repeat_batch" else batch)


def address_of_button(client, page, batch, call):
    """Where the page sends the button."""
    [button] = document(client.get(page)).xpath(f"//button[@id='{call}' or @id='{call}-{batch.pk}']")
    return button.get("formaction")


PAGES = pytest.mark.parametrize("page", [page_of, lambda batch: QUEUE], ids=["batch", "queue"])


@PAGES
def test_while_another_batch_runs_the_button_interrupts_it(client_of, page):
    client, first, batch = client_of("operator"), batch_with("running", name="<first>", ok=1), batch_with()
    [button] = document(client.get(page(batch))).xpath(f"//button[@id='start_batch' or @id='start_batch-{batch.pk}']")
    assert (words(button), button.get("title")) == ("Run now", "Interrupts “<first>”, which continues afterwards")
    response = client.post(button.get("formaction"), {"call": "start_batch"}, follow=True)
    assert messages_of(response) == [("success", "“a batch” was started. A worker will begin shortly.")]
    assert (reread(batch).status, reread(first).position, reread(first).completed_profiles) == ("running", 1, 1)
    assert BatchLog.objects.filter(actor="operator", channel="admin").count() == 2


@PAGES
def test_run_now_interrupts_no_other_batch_than_the_one_that_was_shown(client, page):
    first, batch = batch_with("running", name="first"), batch_with()
    stale = address_of_button(client, page(batch), batch, "start_batch")
    BatchManager().complete_batch(first.pk)
    batch_with("running", name="second")
    with unchanged():
        for address in (stale, stale.replace("version=", "version=x")):
            response = client.post(address, {"call": "start_batch"}, follow=True)
            assert messages_of(response) == [("warning", "The queue has changed. Check the new order and try again.")]


@ways
def test_a_refusal_is_a_warning_and_changes_nothing(client_of, way):
    batch_with("running", name="first")
    batch = batch_with()
    with unchanged():
        response = way(client_of("operator"), "start_batch", batch)
        assert messages_of(response) == [("warning", BatchManager().start_batch(batch.pk).message)]


@buttons
def test_a_script_gets_a_refusal_as_text_and_no_message_afterwards(client_of, way):
    batch_with("running", name="first")
    batch, client = batch_with(), client_of("operator")
    with unchanged():
        response = way(client, "start_batch", batch, headers=BY_SCRIPT)
        assert (response.status_code, response["Content-Type"]) == (409, "text/plain; charset=utf-8")
        assert response.content.decode() == BatchManager().start_batch(batch.pk).message
        assert messages_of(client.get(QUEUE)) == []


def test_the_live_part_leaves_messages_for_the_page(client):
    client.post(page_of(batch_with(), "operate"), {"call": "pause_batch"}, headers=BY_SCRIPT)
    client.get(QUEUE_LIVE)
    assert messages_of(client.get(QUEUE)) == [("success", "“a batch” was paused.")]


def test_the_button_repeat_leads_to_the_new_batch(client_of):
    batch, client = batch_with("done"), client_of("operator")
    response = press(client, "repeat_batch", batch)
    first = batch.repeats.get()
    assert response.redirect_chain == [(page_of(first), 302)]
    response = press(client, "repeat_batch", batch, headers=BY_SCRIPT)
    assert (response.status_code, response["Location"]) == (201, page_of(batch.repeats.exclude(pk=first.pk).get()))


@PAGES
def test_a_button_that_was_shown_for_another_status_changes_nothing(client, page):
    batch = batch_with("paused", ok=1, failed=1)
    stale = address_of_button(client, page(batch), batch, "queue_batch")
    assert BatchManager().complete_batch(batch.pk)
    with unchanged():
        response = client.post(stale, {"call": "queue_batch"}, follow=True)
        assert messages_of(response) == [
            ("warning", "“a batch” is done now, and was paused before. Check it and try again.")
        ]
    fresh = address_of_button(client, page(batch), batch, "queue_batch")
    assert messages_of(client.post(fresh, {"call": "queue_batch"}, follow=True)) == [
        ("success", "“a batch” was queued.")
    ]
    assert reread(batch).completed_profiles == 0


@PAGES
def test_repeat_sent_twice_makes_one_batch_and_pressed_again_another(client, page):
    batch = batch_with("done", ok=1)
    button = address_of_button(client, page(batch), batch, "repeat_batch")
    for _ in range(2):
        response = client.post(button, {"call": "repeat_batch"}, follow=True)
        assert messages_of(response) == [("success", "A new run of “a batch” was queued.")]
    assert batch.repeats.count() == 1
    client.post(address_of_button(client, page(batch), batch, "repeat_batch"), {"call": "repeat_batch"})
    assert batch.repeats.count() == 2


@pytest.mark.parametrize("call", ["", "delete_batch", "claim_run", "__init__", "handle_error", "set_priority"])
def test_only_actions_with_a_button_can_be_called(client, call):
    batch = batch_with("paused")
    with unchanged():
        assert press(client, call, batch).status_code == 404
        if call and call != "delete_batch":
            assert press_in_queue(client, call, batch).status_code == 404
            assert act_in_queue(client, call, batch).status_code == 404


def test_a_button_of_a_deleted_batch_is_not_found_or_refused(client):
    batch = batch_with("paused")
    BatchManager().delete_batch(batch.pk)
    assert press(client, "queue_batch", batch).status_code == 404
    refusal = BatchManager().queue_batch(batch.pk).message
    assert messages_of(press_in_queue(client, "queue_batch", batch)) == [("warning", refusal)]


def test_a_get_of_a_button_leads_to_its_page(client):
    """As after a login, which leads back to the address. That it changes nothing is in `test_roles.py`."""
    batch = batch_with()
    assert client.get(page_of(batch, "operate"))["Location"] == page_of(batch)
    for name, args in {"hold": [], "move": [batch.pk], "operate": ["x", batch.pk], "selected": ["x"]}.items():
        assert client.get(reverse(f"admin:batches_batch_queue_{name}", args=args))["Location"] == QUEUE


@pytest.mark.parametrize(("query", "ending"), [({}, ""), ({"q": "a & b", "p": "3"}, "?q=a+%26+b&p=3")])
def test_the_queue_page_comes_back_with_its_filter_and_page_number(client, query, ending):
    url = reverse("admin:batches_batch_queue_operate", args=["pause_batch", batch_with().pk])
    assert client.post(url, query)["Location"] == QUEUE + ending
    # Enter on a checkbox presses this button.
    assert client.post(QUEUE, query | {"selected": "x", "all": "queued"})["Location"] == QUEUE + ending
