"""The live queue page: what it shows, its moves and its hold. Its other buttons are in `test_buttons.py`."""

import re
from datetime import timedelta
from html import unescape

import lxml.html
import pytest
from django.urls import reverse
from django.utils import timezone

from batches.admin import queue_content
from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Queue
from batches.reports.forecast import forecast_queue
from batches.tests.support.factories import (
    age_leases,
    age_workers,
    empty_leases,
    make_waiting,
    unchanged,
    waiting_names,
)

from .conftest import (
    BY_SCRIPT,
    LIST,
    QUEUE,
    QUEUE_LIVE,
    TIME,
    batch_with,
    document,
    facts,
    messages_of,
    parts,
    queries_of,
    reread,
    text_of,
)

pytestmark = pytest.mark.django_db


def url(name, *args):
    return reverse(f"admin:batches_batch_queue_{name}", args=args)


def know_the_speed():
    """A worker has a heartbeat, and a finished batch ran at 10 profiles per second."""
    batch = batch_with("done", name="finished", ok=1, pending=0)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=0.1)


def part(client, name, **query):
    """The text of one part of the page."""
    return parts(client.get(QUEUE, query))[f"queue-{name}"]


def run_facts(client):
    return facts(client.get(QUEUE), "queue-run-facts")


# Running


def test_the_running_batch_is_shown_with_its_progress(client):
    batch = batch_with("running", name="Morning feeds", ok=3, failed=2, pending=45)
    empty_leases(batch)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=0.1, stories_found=4)
    assert part(client, "running") == "Morning feeds"
    known = run_facts(client)
    assert known.pop("Started").endswith(" by maker")
    assert re.fullmatch(f"about {TIME}", known.pop("Ends"))
    assert known == {
        "Checked": "5 of 50",
        "Rate": "50/s",
        "Remaining": "1 s",
        "Ok": "3",
        "Failed": "2",
        "New stories": "4",
        "Worker": "alive (a worker)",
    }


def test_a_run_without_a_worker_and_one_without_a_heartbeat_differ(client):
    BatchManager("ada").start_batch(batch_with().pk)
    assert run_facts(client)["Worker"] == "not claimed by a worker yet"
    BatchManager("host:1", "worker").claim_run("host:1")
    age_leases(Batch.objects.running().get())
    known = run_facts(client)
    assert known["Worker"].startswith("no heartbeat since ")
    assert known["Worker"].endswith(" (host:1)")
    assert known["Started"].endswith(" by ada")
    BatchManager().pause_batch(Batch.objects.running().get().pk)
    batch_with()
    BatchManager("host:1", "worker").claim_run("host:1")
    assert run_facts(client)["Started"].endswith(" by worker host:1")


# Waiting


def test_the_waiting_batches_are_in_order_with_their_expected_times(client):
    batch_with(name="second", pending=100)
    batch_with(name="first", pending=1, priority=7)
    assert not re.search("about|takes", part(client, "waiting"))  # the speed is not known yet
    know_the_speed()
    assert re.search(
        rf"2 batches, 101 profiles, all done about {TIME} .*"
        rf"Position 1 first priority 7 1 profile starts about {TIME} – ?, ends about {TIME} .*"
        rf"Position 2 second 100 profiles starts about {TIME} – ?, ends about {TIME}",
        part(client, "waiting"),
    )


def test_the_page_says_once_above_the_waiting_batches_why_they_wait(client):
    make_waiting(2)
    assert "Waiting: no worker heartbeat yet" in part(client, "waiting")
    assert "No worker heartbeat yet. Nothing is checked until a worker runs" in part(client, "banner")
    BatchManager().claim_run("a worker")
    BatchManager().pause_batch(Batch.objects.running().get().pk)
    batch_with(name="3")
    assert part(client, "waiting").count("The first one is next in line for a worker.") == 1

    BatchManager("ada").hold_queue("the network is down")
    assert part(client, "waiting").count("Waiting: the queue is held") == 1

    BatchManager().release_queue()
    BatchManager().start_batch(Batch.objects.get(position=1).pk)
    age_workers(timedelta(hours=1))
    assert re.search(rf"Waiting: “2” is running; no worker heartbeat since {TIME}:\d\d", part(client, "waiting"))


def test_the_waiting_batches_are_paginated_and_every_section_can_be_filtered_by_name(client, monkeypatch):
    monkeypatch.setattr(queue_content, "SHOWN_WAITING", 2)
    make_waiting(12)
    batch_with("paused", name="morning 1")
    batch_with("paused", name="evening")
    know_the_speed()

    def positions(**query):
        rows = part(client, "waiting", **query)
        found = re.findall(r"Position (\d+)", rows)
        assert rows.count("starts about") == len(found)
        return found

    assert positions() == ["1", "2"]
    assert positions(p=6) == ["11", "12"]
    assert positions(q="1") == ["1", "10"]
    assert positions(q="1", p=2) == positions(q="1", p=9) == ["11", "12"]
    settled = part(client, "settled", q="MORN")
    assert "morning 1" in settled
    assert "evening" not in settled


# The other sections, and all of it


def test_paused_failed_and_finished_batches_show_who_changed_them_and_their_results(client, monkeypatch):
    paused = batch_with("paused", name="slow", ok=1, failed=1)
    BatchManager("somebody else").set_priority(paused.pk, 3)
    batch_with("error", name="broken")
    batch_with("done", name="ready", ok=2, pending=0)
    old = batch_with("done", name="old", pending=0)
    Batch.objects.filter(pk=old.pk).update(completed_at=timezone.now() - timedelta(days=1))
    BatchManager("ada").pause_batch(batch_with(name="stopped").pk, "The feeds move.")
    BatchManager("ada").create_batch("a draft", ["https://example.org/"], queue=False)
    texts = part(client, "settled")
    assert re.search(rf"a draft by ada {TIME} 0 of 1 profile checked Add to queue", texts)
    assert re.search(rf"slow by maker {TIME} 2 of 3 profiles checked 1 ok 1 failed Continue", texts)
    assert re.search(
        rf"stopped Paused by ada: The feeds move. by ada {TIME} 0 of 1 profile checked Add to queue", texts
    )
    assert re.search(rf"ready by maker {TIME} 2 of 2 profiles checked 2 ok New run", texts)
    assert "old" not in texts
    assert re.search(r"broken the disk is full by maker ", part(client, "errors"))
    batch_with("running", name="now")
    monkeypatch.setattr(queue_content, "SHOWN", 1)
    batch_with("paused", name="newest")
    assert part(client, "summary") == "“now” is running. 0 waiting , 1 in error , 4 paused , 1 done today ."
    html = text_of(client.get(QUEUE))
    shown = document(client.get(QUEUE))
    for link in shown.xpath("//*[@id='queue-summary']//a/@href"):
        assert shown.get_element_by_id(link.removeprefix("#")) is not None
    assert "Latest 1 of 4." in html
    assert f'{LIST}?status__exact=paused"' in html
    assert "slow" not in html


def test_the_live_part_has_the_contents_of_the_page(client, monkeypatch):
    know_the_speed()
    make_waiting(3)
    batch_with("running", name="now")
    outlook = forecast_queue()  # of one moment
    monkeypatch.setattr(queue_content, "forecast_queue", lambda turns: outlook)
    query = {"q": "2", "move": str(Batch.objects.get(position=2).pk), "from": "2", "to": "1"}

    def elements(address):
        found = document(client.get(address, query)).xpath("//*[@data-part]")
        return {
            part.get("id"): [lxml.html.tostring(child).replace(b" autofocus", b"") for child in part]
            for part in found
            if part.get("id") not in {"queue-messages", "queue-updated"}
        }

    assert elements(QUEUE) == elements(QUEUE_LIVE)


def test_the_overview_and_the_list_link_to_the_queue(client_of):
    for role, is_linked in [("viewer", True), ("staff", False)]:
        assert (f'href="{QUEUE}"' in text_of(client_of(role).get(reverse("admin:index")))) is is_linked
    assert f'href="{QUEUE}"' in text_of(client_of("operator").get(LIST))


def test_users_see_all_sections_but_only_the_buttons_of_their_permissions(client_of):
    make_waiting(2)
    for status in ("running", "paused", "paused", "error", "error", "done", "done"):
        batch_with(status, name=status)
    BatchManager("ada").hold_queue("why")
    BatchManager().move_batch(Batch.objects.get(position=2).pk, 1)
    query = {"move": Batch.objects.get(position=2).pk, "from": 2, "to": 1}
    found = {}
    for role in ("viewer", "editor"):
        response = client_of(role).get(QUEUE, query)
        for text in ("running", "paused", "error", "done", "Last change", "held by ada"):
            assert text in text_of(response)
        page = document(response)
        names = page.get_element_by_id("queue").xpath(".//button/@id | .//input[@type!='hidden']/@id")
        always = {"queue-switch", "queue-q", "queue-search", "queue-nothing"}
        found[role] = {re.sub("-[0-9a-f-]{36}$", "", name) for name in names} - always
        assert (page.xpath("//form[@method='post']/@id") == ["logout-form"]) is (role == "viewer")
    selecting = {"select", "all-queued", "all-paused", "all-error", "all-done"}
    assert found == {"viewer": set(), "editor": selecting | {"selected-delete"}}


# Hold and moves


def test_the_queue_is_held_with_a_reason_and_released(client_of):
    client = client_of("operator")
    response = client.post(url("hold"), {"reason": "the network is down"}, follow=True)
    assert messages_of(response) == [("success", "The queue is held.")]
    banner = rf"The queue is held by operator since {TIME}: the network is down Release queue"
    assert re.search(banner, parts(response)["queue-banner"])
    assert Queue.objects.get().held
    response = client.post(url("release"), follow=True)
    assert "held" not in parts(response)["queue-banner"]
    assert not Queue.objects.get().held
    logs = BatchLog.objects.filter(batch=None).values_list("action", "actor", "message")
    reason = "the network is down"
    assert set(logs) == {("hold_queue", "operator", reason), ("release_queue", "operator", reason)}


def test_a_hold_for_an_outage_says_how_it_ends(client_of):
    BatchManager().hold_queue("This machine seems to be offline.")
    Queue.objects.update(outage_since=timezone.now())
    banner = parts(client_of("viewer").get(QUEUE_LIVE))["queue-banner"]
    assert "This machine seems to be offline. It is released as soon as sites answer again." in banner


def test_a_hold_can_have_an_end(client_of):
    client, until = client_of("operator"), timezone.localtime() + timedelta(hours=1)
    response = client.post(url("hold"), {"reason": "quiet", "until": f"{until:%Y-%m-%dT%H:%M}"}, follow=True)
    banner = rf"held by operator since {TIME} until ([-0-9]+ )?{until:%H:%M}: quiet"
    assert re.search(banner, parts(response)["queue-banner"])
    for text, message in (
        ("nonsense", "The end of the hold is not a valid time. Choose one."),
        ("2026-02-30T06:00", "The end of the hold is not a valid time. Choose one."),
        ("9999-12-31T23:59", "The end of a hold must be in the future, and within a year."),
    ):
        response = client.post(url("hold"), {"until": text}, follow=True)
        assert messages_of(response) == [("warning", message)]
    assert Queue.objects.get().hold_reason == "quiet"


def previewed(batch, to, query=()):
    """The query of a row's button that moves the batch from its position to another one."""
    return {"move": batch.pk, "from": reread(batch).position, "to": to} | dict(query)


def preview(client, batch, to, query=()):
    return part(client, "preview", **previewed(batch, to, query))


def addresses_of_move(client, batch, to):
    """The query that the page continues with once the move is shown, and the address of its button."""
    page = document(client.get(QUEUE, previewed(batch, to)))
    return page.xpath("//@data-address")[0], page.get_element_by_id("move-confirm").get("formaction")


def move(client, batch, to):
    return client.post(addresses_of_move(client, batch, to)[1], follow=True)


def test_a_move_is_made_and_can_be_undone(client):
    first, *_, last = make_waiting(3)
    response = move(client, last, 1)
    assert waiting_names() == ["3", "1", "2"]
    assert messages_of(response) == [("success", "“3” was moved to 1.")]
    assert re.search("Last change: “3” moved from 3 to 1 by superuser, .* Undo", parts(response)["queue-waiting"])
    client.post(unescape(re.search(r'id="undo".*?formaction="(.*?)"', text_of(response))[1]))
    assert waiting_names() == ["1", "2", "3"]
    BatchManager().complete_batch(first.pk)  # only the last thing that happened can be undone
    assert "Undo" not in part(client, "waiting")


def test_a_batch_goes_to_the_top_at_once_and_the_message_has_the_undo(client):
    *_, last = make_waiting(5)
    button = document(client.get(QUEUE)).get_element_by_id(f"top-{last.pk}")
    response = client.post(button.get("formaction"), follow=True)
    assert waiting_names() == ["5", "1", "2", "3", "4"]
    undo = document(response).get_element_by_id("message-undo").get("formaction")
    assert messages_of(client.post(undo, follow=True)) == [("success", "The last change of “5” was undone.")]
    assert waiting_names() == ["1", "2", "3", "4", "5"]
    with unchanged():
        [(level, sentence)] = messages_of(client.post(undo, follow=True))
        assert (level, sentence) == ("warning", "“5” has changed since, and is queued now. Nothing was undone.")


def test_a_pause_asks_for_an_optional_reason(client_of):
    client, batch = client_of("operator"), batch_with("running", name="now")
    asking = document(client.get(QUEUE, {"pause": batch.pk}))
    assert "Pause “now”. Reason (optional)" in asking.get_element_by_id("queue-pause").text_content()
    address = asking.get_element_by_id("pause-confirm").get("formaction")
    response = client.post(address, {"reason": "maintenance"}, follow=True)
    assert messages_of(response) == [("success", "“now” was paused.")]
    assert "Paused by operator: maintenance" in parts(response)["queue-settled"]
    assert batch.logs.latest("pk").message == "maintenance"
    gone = part(client, "pause", pause=batch.pk)
    assert gone == "“now” cannot be paused. It is paused now. Close"
    assert part(client, "pause", pause="x") == ""


def test_the_hold_can_stop_the_running_batch_too(client_of):
    client, batch = client_of("operator"), batch_with("running", name="now")
    assert document(client.get(QUEUE, {"hold": ""})).get_element_by_id("queue-hold").get("open") is not None
    response = client.post(url("hold"), {"reason": "New disk", "stop_running": "yes"}, follow=True)
    assert ": New disk. “now” is stopped until the release." in parts(response)["queue-banner"]
    assert reread(batch).status == "queued"
    client.post(url("release"))
    assert reread(batch).status == "running"


def test_an_empty_queue_says_what_to_do(client_of):
    assert part(client_of("viewer"), "waiting") == (
        "No batches are waiting. A batch that you add waits here until a worker is free."
    )
    assert part(client_of("superuser"), "waiting").endswith("Add a batch")


#: Changes of the order 1 2 3 4 5 that leave a shown move from 4 to 2 valid.
ELSEWHERE = {
    "a worker starts the head": (lambda: BatchManager().claim_run("a worker"), "4 2 3 5"),
    "somebody starts the last": (lambda: BatchManager().start_batch(Batch.objects.get(name="5").pk), "1 4 2 3"),
    "the head is paused": (lambda: BatchManager().pause_batch(Batch.objects.get(name="1").pk), "4 2 3 5"),
    "one is added": (lambda: batch_with(name="6"), "1 4 2 3 5 6"),
    "one is added before all": (lambda: batch_with(name="6", priority=1), "6 1 4 2 3 5"),
    "a passed one is renamed": (lambda: BatchManager().rename_batch(Batch.objects.get(name="2").pk, "x"), "1 4 x 3 5"),
}


@pytest.mark.parametrize("change", ELSEWHERE)
def test_a_shown_move_remains_valid_after_changes_of_other_batches(client, change):
    batch = make_waiting(5)[3]
    shown, address = addresses_of_move(client, batch, 2)
    change, expected = ELSEWHERE[change]
    assert change()
    assert "Delays" in parts(client.get(QUEUE_LIVE + shown))["queue-preview"]
    [(level, sentence)] = messages_of(client.post(address, follow=True))
    assert (level, sentence) == ("success", f"“4” was moved to {reread(batch).position}.")
    assert waiting_names() == expected.split()


#: Changes of the order 1 2 3 4 5 that invalidate a shown move from 4 to 2.
WITHIN = {
    "the batch was moved": lambda: BatchManager().move_batch(Batch.objects.get(name="4").pk, 3),
    "a passed one was moved": lambda: BatchManager().move_batch(Batch.objects.get(name="3").pk, 2),
    "a passed one was paused": lambda: BatchManager().pause_batch(Batch.objects.get(name="3").pk),
    "a passed one was started": lambda: BatchManager().start_batch(Batch.objects.get(name="2").pk),
    "one came between": lambda: BatchManager().move_batch(Batch.objects.get(name="5").pk, 3),
}


@pytest.mark.parametrize("change", WITHIN)
def test_a_shown_move_that_would_pass_other_batches_is_refused_and_changes_nothing(client, change):
    batch = make_waiting(5)[3]
    shown, address = addresses_of_move(client, batch, 2)
    assert WITHIN[change]()
    sentence = "The queue has changed. Check the new order and try again."
    with unchanged():
        assert parts(client.get(QUEUE_LIVE + shown))["queue-preview"] == f"{sentence} Close"
        assert messages_of(client.post(address, follow=True)) == [("warning", sentence)]
        assert client.post(address, headers=BY_SCRIPT).status_code == 409


def test_a_preview_says_what_a_move_delays_and_by_how_much(client, monkeypatch):
    monkeypatch.setattr(queue_content, "SHOWN_WAITING", 2)  # the moved batch is on another page
    *_, batch, last = make_waiting(5)
    Batch.objects.update(total_profiles=1)
    assert "Delays “1”, “2”, “3” and 1 more. The time is not known yet." in preview(client, last, 1)
    know_the_speed()
    for position, profiles in enumerate([300, 300, 600, 1200], start=1):
        Batch.objects.filter(position=position).update(total_profiles=profiles)
    with unchanged():
        assert re.fullmatch(
            rf"“4” moves from 4 to 2; starts about {TIME} instead of {TIME}\. "
            r"Delays “2”, “3” by about 2 min each\. Move Cancel",
            preview(client, batch, 2),
        )
        assert "Brings forward “2” by about 30 s." in preview(client, Batch.objects.get(position=1), 2)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"by": -1}, "The queue has changed. Check the new order and try again."),
        ({"from": ""}, "Enter a position from 1 to 2."),
        ({"to": "x"}, "Enter a position from 1 to 2."),
        ({"to": "7"}, "“2” is already at position 2."),
        ({"move": "x"}, "'x'"),
        ({"move": "paused"}, "“a batch” is no longer waiting. It is paused."),
    ],
)
def test_an_impossible_move_has_a_reason_and_no_button(client, query, sentence):
    _, second = make_waiting(2)
    paused = batch_with("paused")
    if query.get("move") == "paused":
        query = {"move": paused.pk}
    text = preview(client, second, 1, query)
    assert sentence in text
    assert text.endswith("Close")


# Cost


@pytest.mark.slow
def test_the_page_shows_a_hundred_of_ten_thousand_waiting_batches(client):
    know_the_speed()
    batch_with()
    few = [queries_of(lambda address=address: client.get(address)) for address in (QUEUE, QUEUE_LIVE)]
    Batch.objects.queued().delete()
    Batch.objects.bulk_create(
        Batch(name=f"number {number}", position=number, total_profiles=100) for number in range(1, 10_001)
    )
    for address in (QUEUE, QUEUE_LIVE, f"{QUEUE_LIVE}?q=99", f"{QUEUE}?p=100"):
        html = text_of(client.get(address))
        assert 100 <= html.count('class="queue-row') < 110
    assert "</span>10,000</span>" in html
    many = [queries_of(lambda address=address: client.get(address)) for address in (QUEUE, QUEUE_LIVE)]
    assert many == few
