"""What operators do to batches: actions of the list, buttons of a batch's page, and who may use them."""

import re

import pytest
from django.urls import reverse

from batches.admin.actions import OPERATOR_ACTIONS
from batches.batch_manager import BatchManager
from batches.models import BatchLog
from batches.tests.support.factories import cap_bulk, waiting_names

from .conftest import batch_with, messages_of, reread, state, text_of

pytestmark = pytest.mark.django_db

LIST = reverse("admin:batches_batch_changelist")
ACTIONS = {
    "queue_batches": "queue_batch",
    "start_batches": "start_batch",
    "pause_batches": "pause_batch",
    "retry_batches": "retry_failed",
    "repeat_batches": "repeat_batch",
}


def act(client, action, *batches, **fields):
    chosen = {"action": action, "_selected_action": [getattr(batch, "pk", batch) for batch in batches]}
    return client.post(LIST, chosen | fields, follow=True)


def press(client, call, batch):
    return client.post(reverse("admin:batches_batch_operate", args=[batch.pk]), {"call": call}, follow=True)


def by_action(client, call, batch):
    return act(client, next(action for action, name in ACTIONS.items() if name == call), batch)


ways = pytest.mark.parametrize("way", [by_action, press])


@ways
@pytest.mark.parametrize(
    ("call", "before", "after", "sentence"),
    [
        ("queue_batch", "paused", "queued", "“a batch” was queued."),
        ("start_batch", "queued", "running", "“a batch” was started. A worker will begin shortly."),
        ("pause_batch", "running", "paused", "“a batch” was paused."),
        ("retry_failed", "done", "queued", "“a batch” was queued to check its failed profiles again."),
    ],
)
def test_an_operator_changes_the_status_and_the_log_names_the_operator(client_of, way, call, before, after, sentence):
    batch = batch_with(before, failed=1)
    response = way(client_of("operator"), call, batch)
    assert reread(batch).status == after
    assert messages_of(response) == [("success", sentence)]
    log = BatchLog.objects.latest("pk")
    assert (log.batch, log.action, log.actor, log.channel) == (batch, call, "operator", "admin")


@ways
def test_a_repeat_is_a_new_batch(client_of, way):
    batch = batch_with("done")
    response = way(client_of("operator"), "repeat_batch", batch)
    assert batch.repeats.get().status == "queued"
    assert messages_of(response) == [("success", "A repeat of “a batch” was queued.")]


def test_the_button_repeat_leads_to_the_new_batch(client_of):
    batch = batch_with("done")
    response = press(client_of("operator"), "repeat_batch", batch)
    new = batch.repeats.get()
    assert response.redirect_chain == [(reverse("admin:batches_batch_change", args=[new.pk]), 302)]


@ways
def test_a_refusal_is_a_warning_with_its_sentence_and_changes_nothing(client_of, way):
    batch = batch_with("running")
    before = state()
    response = way(client_of("operator"), "queue_batch", batch)
    assert messages_of(response) == [("warning", BatchManager().queue_batch(batch.pk).message)]
    assert state() == before


def test_of_several_selected_batches_only_the_first_of_the_queue_is_started(client_of):
    first, second, third = (batch_with(name=name) for name in ("first", "second", "third"))
    response = act(client_of("operator"), "start_batches", third, second, first)
    assert [reread(batch).status for batch in (first, second, third)] == ["running", "queued", "queued"]
    assert messages_of(response) == [
        ("warning", "Start now: 1 done, 0 refused. 2 left unchanged: at most 1 at a time."),
    ]


def test_several_batches_have_one_message_with_the_reason_of_each_refusal(client_of):
    batches = [batch_with("paused", name="one"), batch_with("running", name="two"), batch_with("done", name="three")]
    response = act(client_of("operator"), "queue_batches", *batches)
    refusal = "“two” is running. Only a batch that is queued, paused, done or error can be queued."
    assert messages_of(response) == [("warning", f"Queue: 2 done, 1 refused.<ul><li>{refusal}</li></ul>")]


def test_an_action_takes_the_batches_at_the_tail_up_to_its_cap_and_counts_the_rest(client_of, monkeypatch):
    cap_bulk(monkeypatch, 2)
    first, *_ = [batch_with(name=str(number)) for number in range(1, 6)]
    response = act(client_of("operator"), "pause_batches", first, select_across="1", index="0")
    assert messages_of(response) == [("warning", "Pause: 2 done, 0 refused. 3 left unchanged: at most 2 at a time.")]
    assert waiting_names() == ["1", "2", "3"]
    log = BatchLog.objects.filter(action="pause_batch", actor="operator").order_by("pk")
    assert list(log.values_list("from_position", flat=True)) == [5, 4]


def test_selecting_all_acts_on_what_the_filter_shows_only(client_of):
    paused = batch_with("paused")
    done = batch_with("done")
    chosen = {"action": "queue_batches", "_selected_action": [paused.pk], "select_across": "1"}
    client_of("operator").post(f"{LIST}?status__exact=paused", chosen)
    assert [reread(batch).status for batch in (paused, done)] == ["queued", "done"]


@pytest.mark.parametrize("selected", ["123", "\0", "x" * 10_000])
def test_a_selection_that_is_no_id_is_a_message(client_of, selected):
    response = act(client_of("operator"), "queue_batches", selected)
    assert messages_of(response) == [("warning", "The selection is not a valid batch.")]


@pytest.mark.parametrize("role", ["anonymous", "staff", "viewer", "adder", "editor"])
def test_nobody_else_operates(client_of, role):
    batch = batch_with("paused", failed=1)
    before, client = state(), client_of(role)
    for call in OPERATOR_ACTIONS:
        response = press(client, call, batch)
        assert bool(response.redirect_chain) if role == "anonymous" else response.status_code == 403
        by_action(client, call, batch)
        assert state() == before


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        ("viewer", set()),
        ("operator", set(ACTIONS)),
        ("editor", {"delete_selected"}),
        ("superuser", {*ACTIONS, "delete_selected"}),
    ],
)
def test_the_list_offers_only_the_actions_that_the_person_may_use(client_of, role, actions):
    batch_with()
    html = text_of(client_of(role).get(LIST))
    assert {name for name in [*ACTIONS, "delete_selected"] if f'<option value="{name}"' in html} == actions
    assert ('name="_selected_action"' in html) == bool(actions)


def test_a_get_never_operates(client):
    batch = batch_with()
    before = state()
    url = reverse("admin:batches_batch_operate", args=[batch.pk])
    page = reverse("admin:batches_batch_change", args=[batch.pk])
    assert client.get(url, {"call": "pause_batch"}).headers["Location"] == page  # as after a login
    client.get(LIST, {"action": "pause_batches", "_selected_action": batch.pk})
    assert state() == before


def test_a_request_from_another_site_is_refused(client_of):
    batch = batch_with()
    before, client = state(), client_of("superuser", enforce_csrf_checks=True)
    page = reverse("admin:batches_batch_change", args=[batch.pk])
    assert press(client, "pause_batch", batch).status_code == 403
    assert act(client, "pause_batches", batch).status_code == 403
    assert client.post(page, {"name": "x", "priority": "1"}).status_code == 403
    assert client.post(reverse("admin:batches_batch_delete", args=[batch.pk]), {"post": "yes"}).status_code == 403
    assert client.post(reverse("admin:batches_batch_add"), {"name": "x"}).status_code == 403
    assert state() == before


def test_the_pages_own_button_passes_the_protection(client_of):
    batch = batch_with()
    client = client_of("operator", enforce_csrf_checks=True)
    html = text_of(client.get(reverse("admin:batches_batch_change", args=[batch.pk])))
    pattern = r'<form id="operate" class="batch-operations" method="post" action="(.*?)">(.*?)</form>'
    url, form = re.search(pattern, html, re.DOTALL).groups()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)[1]
    client.post(url, {"call": "pause_batch", "csrfmiddlewaretoken": token})
    assert reread(batch).status == "paused"


@pytest.mark.parametrize("call", ["", "delete_batch", "claim_run", "__init__", "handle_error"])
def test_only_what_is_offered_can_be_called(client, call):
    batch = batch_with("paused")
    before = state()
    assert press(client, call, batch).status_code == 403
    assert state() == before


def test_a_button_of_a_batch_that_is_gone_finds_nothing(client):
    batch = batch_with("paused")
    BatchManager().delete_batch(batch.pk)
    assert press(client, "queue_batch", batch).status_code == 404
