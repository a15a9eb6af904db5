"""The live queue page: what it shows, what its buttons do, who has which, and what it costs."""

import re
from datetime import timedelta

import lxml.html
import pytest
from django.urls import reverse
from django.utils import timezone

from batches.admin import queue_content
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Queue
from batches.tests.support.factories import cap_bulk

from .conftest import batch_with, messages_of, queries_of, reread, state, text_of

pytestmark = pytest.mark.django_db

PAGE = reverse("admin:batches_batch_queue")
LIVE = reverse("admin:batches_batch_queue_live")
SCRIPT = "<script>alert(1)</script>"
BY_SCRIPT = {"X-Requested-With": "fetch"}
ROLES = ["anonymous", "staff", "viewer", "operator", "adder", "editor", "superuser"]


def url(name, *args):
    return reverse(f"admin:batches_batch_queue_{name}", args=args)


def press(client, call, batch, **fields):
    return client.post(url("operate", call, batch.pk), fields, follow=True)


def move(client, batch, position, version=None, **options):
    version = Queue.objects.get().version if version is None else version
    return client.post(url("move", batch.pk, position, version), follow=True, **options)


def with_selected(client, call, *batches, **fields):
    return client.post(url("selected", call), {"selected": [batch.pk for batch in batches]} | fields, follow=True)


def waiting(number):
    """So many queued batches, named by their positions."""
    return [batch_with(name=str(position)) for position in range(1, number + 1)]


def names_waiting():
    return list(Batch.objects.queued().order_by("position").values_list("name", flat=True))


def ready():
    """A worker was there, and of a finished batch it is known that it went at 10 profiles per second."""
    batch = batch_with("done", name="finished", ok=1, pending=0)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=0.1)


def document(response):
    return lxml.html.fromstring(text_of(response))


def words(element):
    element = lxml.html.fromstring(element) if isinstance(element, str) else element
    return " ".join(" ".join(element.itertext()).split())


def part(response, name):
    """The text of one part of the page."""
    return words(document(response).get_element_by_id(f"queue-{name}"))


def facts(response):
    pairs = document(response).xpath("//*[@id='queue-run-facts']/dl/div")
    return {words(name): words(value) for name, value in pairs}


# What it shows


def test_the_running_batch_is_shown_with_all_that_is_known_of_its_run(client):
    batch = batch_with("running", name="Morning feeds", ok=3, failed=2, pending=45)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=0.1, stories_found=4)
    response = client.get(PAGE)
    assert part(response, "running") == "Morning feeds"
    shown = facts(response)
    assert shown.pop("Started").endswith(" by maker")
    assert shown == {
        "Checked": "5 of 50",
        "Rate": "50/s",
        "Remaining": "1 s",
        "Ok": "3",
        "Failed": "2",
        "New stories": "4",
        "Worker": "alive",
    }


def test_a_run_that_nobody_took_up_and_one_that_fell_silent_are_told_apart(client):
    batch = batch_with()
    BatchManager().start_batch(batch.pk)
    assert facts(client.get(PAGE))["Worker"] == "not claimed by a worker yet"
    BatchManager().claim_run("a worker")
    Batch.objects.running().update(lease_at=timezone.now() - timedelta(hours=1))
    assert facts(client.get(PAGE))["Worker"].startswith("no heartbeat since ")


def test_a_batch_that_a_worker_started_says_so(client):
    batch_with()
    BatchManager("host:1", "worker").claim_run("host:1")
    assert facts(client.get(PAGE))["Started"].endswith(" by worker host:1")


def test_a_batch_that_a_person_started_says_so_when_a_worker_has_taken_it_up(client):
    BatchManager("ada").start_batch(batch_with().pk)
    BatchManager("host:1", "worker").claim_run("host:1")
    assert facts(client.get(PAGE))["Started"].endswith(" by ada")


def test_the_waiting_batches_are_shown_in_their_order_with_their_expected_turns(client):
    ready()
    batch_with(name="second", pending=100)
    batch_with(name="first", pending=1, priority=7)
    shown = part(client.get(PAGE), "waiting")
    assert re.search(
        r"2 batches, 101 profiles, all done about \d\d:\d\d .*"
        r"Position 1 first priority 7 1 profile starts about \d\d:\d\d, ends about \d\d:\d\d .*"
        r"Position 2 second priority 0 100 profiles starts about \d\d:\d\d, ends about \d\d:\d\d",
        shown,
    )


def test_where_nothing_is_known_no_turn_is_shown(client):
    batch_with()
    shown = part(client.get(PAGE), "waiting")
    assert "about" not in shown
    assert "takes" not in shown


def test_an_estimate_of_another_day_has_its_date():
    tomorrow = timezone.localtime() + timedelta(days=1)
    assert queue_content.clock(tomorrow) == f"{tomorrow:%Y-%m-%d %H:%M}"
    assert queue_content.clock(timezone.now()) == f"{timezone.localtime():%H:%M}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "a few seconds"), (43, "about 40 s"), (95, "about 2 min"), (3600, "about 60 min"), (8000, "about 2 h")],
)
def test_an_estimate_is_no_finer_than_it_is_good_for(seconds, text):
    assert queue_content.roughly(seconds) == text


def test_each_waiting_batch_says_why_it_waits(client):
    waiting(2)
    BatchManager().claim_run("a worker")
    BatchManager().pause_batch(Batch.objects.running().get().pk)
    batch_with(name="3")
    shown = part(client.get(PAGE), "waiting")
    assert "Next in line for a worker" in shown
    assert "Waiting for the batches ahead" in shown

    BatchManager("ada").hold_queue("the network is down")
    shown = part(client.get(PAGE), "waiting")
    assert len(re.findall(r"Waiting: the queue is held by ada since \d\d:\d\d: the network is down", shown)) == 2

    BatchManager().release_queue()
    BatchManager().start_batch(Batch.objects.get(position=1).pk)
    assert "Waiting: “2” is running" in part(client.get(PAGE), "waiting")

    Queue.objects.update(worker_seen_at=timezone.now() - timedelta(hours=1))
    assert re.search(r"Waiting: .*no worker heartbeat since [-\d: ]+\d\d:\d\d", part(client.get(PAGE), "waiting"))


def test_an_installation_without_a_worker_is_told_how_to_start_one(client):
    batch_with()
    response = client.get(PAGE)
    assert "Waiting: no worker heartbeat yet" in part(response, "waiting")
    assert "No worker heartbeat yet. Nothing is checked until a worker runs" in part(response, "banner")


def test_what_is_paused_in_error_or_done_today_says_who_did_it_and_what_came_of_it(client):
    paused = batch_with("paused", name="slow", ok=1, failed=1)
    BatchManager("who changes something else").set_priority(paused.pk, 3)
    batch_with("error", name="broken")
    batch_with("done", name="ready", ok=2, pending=0)
    yesterday = batch_with("done", name="old", pending=0)
    Batch.objects.filter(pk=yesterday.pk).update(completed_at=timezone.now() - timedelta(days=1))
    shown = part(client.get(PAGE), "settled")
    assert re.search(r"broken by maker .* the disk is full", shown)
    assert re.search(r"slow by maker \d\d:\d\d 2 of 3 profiles checked 1 ok 1 failed 0 new stories", shown)
    assert re.search(r"ready by maker \d\d:\d\d 2 of 2 profiles checked 2 ok", shown)
    assert "old" not in shown


def test_the_summary_counts_what_is_where(client):
    for status in ("running", "paused", "paused", "error", "done"):
        batch_with(status, name=status)
    batch_with()
    expected = "“running” is running. 1 waiting, 1 in error, 2 paused, 1 done today."
    assert part(client.get(PAGE), "summary").startswith(expected)


def test_sections_that_are_long_lead_to_the_whole_list(client, monkeypatch):
    monkeypatch.setattr(queue_content, "SHOWN", 2)
    for number in range(3):
        batch_with("paused", name=f"number {number}")
    response = client.get(PAGE)
    assert "Latest 2 of 3." in part(response, "settled")
    assert f'{reverse("admin:batches_batch_changelist")}?status__exact=paused"' in text_of(response)
    assert "number 0" not in text_of(response)


def test_the_waiting_batches_come_in_pages_and_can_be_searched_by_name(client, monkeypatch):
    monkeypatch.setattr(queue_content, "SHOWN_WAITING", 2)
    waiting(12)
    positions = re.compile(r"Position (\d+)")
    assert positions.findall(part(client.get(PAGE), "waiting")) == ["1", "2"]
    assert positions.findall(part(client.get(PAGE, {"p": 6}), "waiting")) == ["11", "12"]
    assert positions.findall(part(client.get(PAGE, {"q": "1"}), "waiting")) == ["1", "10"]
    assert positions.findall(part(client.get(PAGE, {"q": "1", "p": 2}), "waiting")) == ["11", "12"]


def test_the_search_goes_through_all_sections(client):
    batch_with("paused", name="morning")
    batch_with("paused", name="evening")
    shown = part(client.get(PAGE, {"q": "EVE"}), "settled")
    assert "evening" in shown
    assert "morning" not in shown


def test_the_live_part_is_what_the_page_shows(client):
    ready()
    waiting(3)
    batch_with("running", name="now")
    query = {"q": "2", "move": str(Batch.objects.get(position=2).pk), "to": "1", "version": Queue.objects.get().version}
    page, live = (parts(client.get(address, query)) for address in (PAGE, LIVE))
    del page["queue-messages"], page["queue-updated"], live["queue-updated"]
    assert page == live


def parts(response):
    found = document(response).xpath("//*[@data-part]")
    children = {element.get("id"): element.iterchildren() for element in found}
    return {
        name: [lxml.html.tostring(child).replace(b" autofocus", b"") for child in elements]
        for name, elements in children.items()
    }


def test_the_live_part_does_not_swallow_messages(client):
    batch = batch_with()
    client.post(url("operate", "pause_batch", batch.pk))
    client.get(LIVE)
    assert messages_of(client.get(PAGE)) == [("success", "“a batch” was paused.")]


def test_the_queue_is_linked_from_the_overview_and_from_the_batch_list(client_of):
    for role, is_linked in [("viewer", True), ("staff", False)]:
        response = client_of(role).get(reverse("admin:index"))
        assert (f'href="{PAGE}"' in text_of(response)) is is_linked
    assert f'href="{PAGE}"' in text_of(client_of("operator").get(reverse("admin:batches_batch_changelist")))


# Its buttons


@pytest.mark.parametrize(
    ("call", "before", "after", "sentence"),
    [
        ("start_batch", "queued", "running", "“a batch” was started. A worker will begin shortly."),
        ("pause_batch", "queued", "paused", "“a batch” was paused."),
        ("pause_batch", "running", "paused", "“a batch” was paused."),
        ("queue_batch", "paused", "queued", "“a batch” was queued."),
        ("queue_batch", "error", "queued", "“a batch” was queued."),
        ("retry_failed", "done", "queued", "“a batch” was queued to check its failed profiles again."),
        ("repeat_batch", "done", "done", "A repeat of “a batch” was queued."),
    ],
)
def test_a_button_does_what_it_says_and_the_log_has_the_persons_name(client_of, call, before, after, sentence):
    batch = batch_with(before, failed=1)
    response = press(client_of("operator"), call, batch)
    assert reread(batch).status == after
    assert messages_of(response) == [("success", sentence)]
    log = BatchLog.objects.latest("pk")
    assert (log.action, log.actor, log.channel) == (call, "operator", "admin")


def test_a_refusal_is_a_warning_and_for_the_script_a_409_with_the_sentence_alone(client):
    batch_with("running", name="first")
    batch = batch_with()
    before = state()
    sentence = "“first” is running, and only one batch can run at a time. Pause it first."
    assert messages_of(press(client, "start_batch", batch)) == [("warning", sentence)]
    response = client.post(url("operate", "start_batch", batch.pk), headers=BY_SCRIPT)
    assert (response.status_code, response.content.decode()) == (409, sentence)
    assert response["Content-Type"].startswith("text/plain")
    assert messages_of(client.get(PAGE)) == []
    assert state() == before


def test_a_button_of_a_batch_that_is_gone_is_refused(client):
    batch = batch_with("paused")
    BatchManager().delete_batch(batch.pk)
    [(level, sentence)] = messages_of(press(client, "queue_batch", batch))
    assert (level, "No batch has the ID" in sentence) == ("warning", True)


def test_the_page_comes_back_with_the_filter_and_the_page_that_it_had(client):
    batch = batch_with()
    response = press(client, "pause_batch", batch, q="a & b", p="3")
    assert response.redirect_chain == [(f"{PAGE}?q=a+%26+b&p=3", 302)]


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        ("running", ["pause_batch"]),
        ("queued", ["start_batch", "pause_batch"]),
        ("paused", ["queue_batch", "retry_failed", "repeat_batch"]),
        ("error", ["queue_batch", "retry_failed", "repeat_batch"]),
        ("done", ["queue_batch", "retry_failed", "repeat_batch"]),
    ],
)
def test_a_batch_has_the_buttons_of_its_status(client, status, calls):
    batch = batch_with(status, failed=1)
    assert re.findall(rf'id="(\w+_\w+)-{batch.pk}"', text_of(client.get(PAGE))) == calls


def test_a_batch_without_failures_has_nothing_to_retry(client):
    batch_with("done", ok=1, pending=0)
    assert 'id="retry_failed-' not in text_of(client.get(PAGE))


def test_the_queue_is_held_with_a_reason_and_released(client_of):
    client = client_of("operator")
    response = client.post(url("hold"), {"reason": "the network is down"}, follow=True)
    assert re.search(
        r"The queue is held by operator since \d\d:\d\d: the network is down Release", part(response, "banner")
    )
    assert Queue.objects.get().held
    response = client.post(url("release"), follow=True)
    assert "held" not in part(response, "banner")
    assert not Queue.objects.get().held
    actors = BatchLog.objects.filter(batch=None).values_list("action", "actor", "message")
    assert set(actors) == {
        ("hold_queue", "operator", "the network is down"),
        ("release_queue", "operator", "the network is down"),
    }


# Moves


def preview(client, batch, to, query=()):
    asked = {"move": batch.pk, "to": to, "version": Queue.objects.get().version} | dict(query)
    return part(client.get(PAGE, asked), "preview")


def test_a_move_is_made_and_can_be_undone(client):
    first, *_, last = waiting(3)
    response = move(client, last, 1)
    assert names_waiting() == ["3", "1", "2"]
    assert messages_of(response) == [("success", "“3” was moved to 1.")]
    assert re.search("Last move: “3” from 3 to 1 by superuser, .* Undo", part(response, "waiting"))
    undo = re.search(r'id="undo".*?formaction="(.*?)"', text_of(response))[1]
    assert undo == url("move", last.pk, 3, Queue.objects.get().version)
    client.post(undo)
    assert names_waiting() == ["1", "2", "3"]
    assert reread(first).position == 1


def test_only_a_move_after_which_nothing_else_happened_can_be_undone(client):
    first, second = waiting(2)
    move(client, second, 1)
    BatchManager().pause_batch(first.pk)
    assert "Undo" not in part(client.get(PAGE), "waiting")


def test_a_move_from_a_stale_page_is_refused_and_changes_nothing(client):
    first, second = waiting(2)
    version = Queue.objects.get().version
    move(client, second, 1)
    response = move(client, first, 1, version)
    assert names_waiting() == ["2", "1"]
    [(level, sentence)] = messages_of(response)
    assert (level, sentence.startswith("The queue has changed")) == ("warning", True)
    assert move(client, first, 1, version, headers=BY_SCRIPT).status_code == 409


def test_before_it_is_confirmed_a_move_says_what_it_delays_and_by_how_much(client):
    ready()
    for name, profiles in [("1", 300), ("2", 600), ("3", 1200)]:
        batch = batch_with(name=name)
        Batch.objects.filter(pk=batch.pk).update(total_profiles=profiles)
    before = state()
    shown = preview(client, Batch.objects.get(position=3), 1)
    assert re.fullmatch(
        r"“3” moves from 3 to 1; starts about \d\d:\d\d instead of \d\d:\d\d\. "
        r"Delays “1”, “2” by about 2 min each\. Move Cancel",
        shown,
    )
    shown = preview(client, Batch.objects.get(position=1), 2)
    assert "Brings forward “2” by about 30 s." in shown
    assert state() == before


def test_of_many_delayed_batches_the_first_are_named(client):
    *_, last = waiting(6)
    shown = preview(client, last, 1)
    assert "Delays “1”, “2”, “3” and 2 more. The time is not known yet." in shown


def test_the_confirmation_carries_the_version_that_was_shown(client):
    _, second = waiting(2)
    version = Queue.objects.get().version
    html = text_of(client.get(PAGE, {"move": second.pk, "to": 1, "version": version}))
    assert f'formaction="{url("move", second.pk, 1, version)}"' in html


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"version": 0}, "The queue has changed."),
        ({"to": "x"}, "Enter a position from 1 to 2."),
        ({"to": "7"}, "“2” is already at position 2."),
        ({"move": "x"}, "No batch has the ID 'x'."),
    ],
)
def test_what_cannot_be_moved_like_that_cannot_be_confirmed(client, query, sentence):
    _, second = waiting(2)
    shown = preview(client, second, 1, query)
    assert sentence in shown
    assert shown.endswith("Close")


def test_a_batch_that_does_not_wait_any_more_cannot_be_moved(client):
    batch = batch_with("paused")
    assert "“a batch” is no longer waiting. It is paused." in preview(client, batch, 1)


# Several at once


def test_those_in_the_wrong_state_are_skipped_and_counted_each_with_its_reason(client):
    batches = [batch_with("running", name="one"), batch_with("done", name="two"), batch_with(name="three")]
    [(level, text)] = messages_of(with_selected(client, "pause_batch", *batches))
    refusal = "“two” is done. Only a batch that is queued, running or paused can be paused."
    assert (level, text) == ("warning", f"Pause: 2 done, 1 refused.<ul><li>{refusal}</li></ul>")
    assert [reread(batch).status for batch in batches] == ["paused", "done", "paused"]


@pytest.mark.parametrize(("call", "after"), [("queue_batch", "queued"), ("retry_failed", "queued")])
def test_several_are_queued_or_retried(client, call, after):
    batches = [batch_with("paused", failed=1), batch_with("error", failed=1)]
    assert messages_of(with_selected(client, call, *batches))[0][0] == "success"
    assert {reread(batch).status for batch in batches} == {after}


def test_queueing_several_does_not_move_those_that_wait_already(client):
    first, _ = waiting(2)
    [(_, text)] = messages_of(with_selected(client, "queue_batch", first, batch_with("paused", name="3")))
    assert words(text) == "Queue: 1 done, 1 refused. “1” is already queued."
    assert names_waiting() == ["1", "2", "3"]


def test_all_of_a_section_means_those_that_match_the_filter_shown_or_not(client, monkeypatch):
    monkeypatch.setattr(queue_content, "SHOWN_WAITING", 1)
    for name in ("morning one", "evening", "morning two"):
        batch_with(name=name)
    paused = batch_with("paused", name="morning three")
    with_selected(client, "pause_batch", all="queued", q="morn")
    assert names_waiting() == ["evening"]
    with_selected(client, "queue_batch", all="paused", q="three")
    assert reread(paused).status == "queued"


def test_nothing_selected_is_said_and_does_nothing(client):
    batch_with()
    before = state()
    assert messages_of(with_selected(client, "pause_batch")) == [("warning", "No batch is selected.")]
    for nonsense in ("x", "\0", "running", "9" * 40):
        with_selected(client, "pause_batch", selected=nonsense, all=nonsense)
    assert state() == before


def test_very_many_are_done_in_several_goes(client, monkeypatch):
    cap_bulk(monkeypatch, 2)
    waiting(3)
    [(level, text)] = messages_of(with_selected(client, "pause_batch", all="queued"))
    assert (level, text) == ("warning", "Pause: 2 done, 0 refused. 1 left unchanged: at most 2 at a time.")
    assert names_waiting() == ["1"]


def test_deleting_asks_first_and_deletes_exactly_what_it_showed(client):
    waiting(2)
    question = with_selected(client, "delete_batch", all="queued")
    assert "2 batches will be deleted" in text_of(question)
    assert Batch.objects.count() == 2
    batch_with(name="3")
    fields = dict(re.findall(r'name="(selected|confirmed)" value="(.*?)"', text_of(question)))
    response = client.post(url("selected", "delete_batch"), fields, follow=True)
    assert names_waiting() == ["3"]
    assert messages_of(response)[0][0] == "success"
    assert BatchLog.objects.filter(action="delete_batch", actor="superuser", channel="admin").count() == 2


# Who may


def buttons(response):
    """What can be pressed or ticked in the part that is about batches, without the ids of these."""
    found = document(response).get_element_by_id("queue").xpath(".//button/@id | .//input[@type!='hidden']/@id")
    return {re.sub("-[0-9a-f-]{36}$", "", name) for name in found} - {
        "queue-switch",
        "queue-q",
        "queue-search",
        "queue-nothing",
    }


def test_who_only_views_sees_all_and_has_no_buttons(client_of):
    waiting(2)
    for status in ("running", "paused", "error", "done"):
        batch_with(status, name=status)
    BatchManager("ada").hold_queue("why")
    BatchManager().move_batch(Batch.objects.get(position=2).pk, 1)
    move = {"move": Batch.objects.get(position=2).pk, "to": 1, "version": Queue.objects.get().version}
    response = client_of("viewer").get(PAGE, move)
    for shown in ("running", "paused", "error", "done", "Last move", "held by ada"):
        assert shown in text_of(response)
    assert buttons(response) == set()
    assert document(response).xpath("//form[@method='post']/@id") == ["logout-form"]


def test_who_may_delete_but_not_operate_has_that_button_alone(client_of):
    batch_with()
    assert buttons(client_of("editor").get(PAGE)) == {"select", "selected-delete", "all-queued"}


@pytest.mark.parametrize("role", ROLES)
def test_only_who_may_view_batches_sees_the_page(client_of, role):
    client = client_of(role)
    expected = {"anonymous": 302, "staff": 403}.get(role, 200)
    assert [client.get(address).status_code for address in (PAGE, LIVE)] == [expected, expected]


def posts(batch):
    yield url("hold"), {"reason": "x"}
    yield url("release"), {}
    yield url("move", batch.pk, 2, Queue.objects.get().version), {}
    for call in ("queue_batch", "pause_batch", "retry_failed", "start_batch", "repeat_batch"):
        yield url("operate", call, batch.pk), {}
    for call in ("queue_batch", "pause_batch", "retry_failed", "delete_batch"):
        yield url("selected", call), {"selected": batch.pk, "all": "queued", "confirmed": "1"}


@pytest.mark.parametrize("role", ["anonymous", "staff", "viewer", "adder"])
def test_nobody_else_changes_anything(client_of, role):
    batch, _ = waiting(2)
    before, logs, client = state(), BatchLog.objects.count(), client_of(role)
    for address, fields in posts(batch):
        assert client.post(address, fields).status_code == (302 if role == "anonymous" else 403)
    assert (state(), BatchLog.objects.count()) == (before, logs)


def test_operating_is_not_deleting(client_of):
    batch = batch_with("paused")
    assert with_selected(client_of("operator"), "delete_batch", batch, confirmed="1").status_code == 403
    editor = client_of("editor")
    assert with_selected(editor, "queue_batch", batch).status_code == 403
    with_selected(editor, "delete_batch", batch, confirmed="1")
    assert not Batch.objects.exists()


def test_a_get_changes_nothing_and_leads_back_to_the_page(client):
    batch, _ = waiting(2)
    before, logs = state(), BatchLog.objects.count()
    for address, fields in posts(batch):
        response = client.get(address, fields)
        assert (response.status_code, response.headers["Location"]) == (302, PAGE)
    assert (state(), BatchLog.objects.count()) == (before, logs)


def test_a_request_from_another_site_is_refused(client_of):
    batch, _ = waiting(2)
    before, client = state(), client_of("superuser", enforce_csrf_checks=True)
    for address, fields in posts(batch):
        assert client.post(address, fields).status_code == 403
    assert state() == before
    token = str(client.get(PAGE).context["csrf_token"])
    client.post(url("operate", "pause_batch", batch.pk), {"csrfmiddlewaretoken": token})
    assert reread(batch).status == "paused"


@pytest.mark.parametrize("call", ["claim_run", "__init__", "handle_error", "set_priority"])
def test_only_what_has_a_button_can_be_called(client, call):
    batch = batch_with("paused")
    before = state()
    assert press(client, call, batch).status_code == 404
    assert with_selected(client, call, batch).status_code == 404
    assert state() == before


# What strangers send


NONSENSE = [
    "\0",
    "%",
    "'",
    '"',
    "x" * 5000,
    "-1",
    "9" * 5000,
    "1e3",
    SCRIPT,
    "\ud800".encode(errors="replace").decode(),
]


@pytest.mark.parametrize("name", ["q", "p", "move", "to", "version"])
def test_no_address_breaks_the_page(client, name):
    batch = batch_with()
    for value in NONSENSE:
        query = {"move": batch.pk, "to": "1", "version": Queue.objects.get().version} | {name: value}
        assert client.get(LIVE, query).status_code == 200, value


def test_the_button_that_does_nothing_does_nothing(client):
    batch = batch_with()
    before, logs = state(), BatchLog.objects.count()
    response = client.post(PAGE, {"selected": batch.pk, "all": "queued", "q": "x"})
    assert (response.status_code, response.headers["Location"]) == (302, f"{PAGE}?q=x")
    assert (state(), BatchLog.objects.count()) == (before, logs)


def test_scripts_in_texts_are_escaped(client):
    for status in ("queued", "queued", "paused", "error", "done", "running"):
        batch_with(status, name=SCRIPT, failed=1)
    Batch.objects.filter(status="error").update(error=SCRIPT)
    BatchManager(SCRIPT).hold_queue(SCRIPT)
    BatchManager(SCRIPT).move_batch(Batch.objects.get(position=2).pk, 1)
    BatchLog.objects.exclude(action="move_batch").update(actor=SCRIPT)
    query = {"q": SCRIPT, "move": Batch.objects.get(position=2).pk, "to": 1, "version": Queue.objects.get().version}
    client.post(url("selected", "retry_failed"), {"all": "queued"})
    for response in (client.get(PAGE), client.get(PAGE, query), client.get(LIVE, query)):
        assert SCRIPT not in text_of(response)
    assert SCRIPT not in text_of(with_selected(client, "delete_batch", all="paused"))


def test_the_pages_need_no_script_within_them(client):
    batch_with("paused")
    inline = re.compile(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)
    for response in (client.get(PAGE), client.get(LIVE), with_selected(client, "delete_batch", all="paused")):
        assert not inline.search(text_of(response))


# What it costs


def test_the_number_of_queries_does_not_grow_with_the_batches(client):
    counts = []
    for _ in range(2):
        for status in ("queued", "paused", "error", "done"):
            batch_with(status)
            batch_with(status, failed=1)
        batch_with("running")
        client.get(LIVE)
        counts.append([queries_of(lambda address=address: client.get(address)) for address in (PAGE, LIVE)])
        BatchManager().pause_batch(Batch.objects.running().get().pk)
    assert counts[0] == counts[1]
    assert max(counts[0]) <= 16


def test_with_ten_thousand_waiting_batches_the_page_shows_a_hundred_at_a_time(client):
    """How long it takes is a benchmark: `python -m benchmarks console`."""
    ready()
    Batch.objects.bulk_create(
        Batch(name=f"number {number}", position=number, total_profiles=100) for number in range(1, 10_001)
    )
    for address in (PAGE, LIVE, f"{LIVE}?q=99", f"{PAGE}?p=100"):
        assert 100 <= text_of(client.get(address)).count('class="queue-row') < 110
