"""The dashboard on the index page: now, today, the latest runs and the lists that are due."""

import re
from datetime import timedelta

import pytest
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone

from batches import __version__
from batches.admin import dashboard, queue_content
from batches.batch_manager import BatchManager
from batches.conf import command_line
from batches.models import Batch, Lease, Profile, Worker
from batches.queue.workers import end_worker, note_worker
from batches.reports.days import Day, sum_up_day
from batches.reports.failures import Period
from batches.reports.forecast import forecast_queue

from ..support.factories import empty_leases, make_batch, make_list
from .conftest import (
    QUEUE,
    SCRIPT,
    TIME,
    batch_with,
    client_with,
    document,
    listed,
    parts,
    story,
    text_of,
    user_of,
    user_with,
    words,
)

pytestmark = pytest.mark.django_db

INDEX = reverse("admin:index")
LIVE = reverse("admin:batches_batch_dashboard_live")
WORKERS = "//section[@aria-labelledby='workers-title']"


def tiles(response):
    """Each tile of the page: its texts by its label."""
    pairs = [[words(part) for part in tile] for tile in document(response).xpath("//dl[contains(@class, 'tiles')]/div")]
    return {label: texts for label, *texts in pairs}


def run_of(name, *, seconds=10, **outcomes):
    """A running batch with half of its profiles checked in this many seconds."""
    batch = batch_with("running", name=name, **outcomes)
    empty_leases(batch)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=seconds)
    return batch


def test_it_says_what_runs_and_when_it_is_done(client, stopped_clock, monkeypatch):
    run_of("the press", ok=3, failed=2, pending=5, stories=[story()])
    make_batch("next", profiles=10)
    shown = tiles(client.get(INDEX))
    name, progress, end, outcomes = shown["Running"]
    assert (name, progress, outcomes) == ("the press", "5 of 10", "2 failed, 1 new story")
    assert end.startswith("Ends about ")
    assert end.endswith(", in about 10 s")
    number, profiles, end, hold = shown["Queue"]
    assert (number, profiles, hold) == ("1 batch", "10 profiles to check", "Hold the queue…")
    assert end.startswith("All done about ")
    assert shown["Worker"] == ["Working"]
    assert shown["Speed"] == ["0.5/s", "profiles, this run"]
    outlook = forecast_queue()  # of one moment
    monkeypatch.setattr(dashboard, "forecast_queue", lambda turns: outlook)
    page, fetched = parts(client.get(INDEX)), parts(client.get(LIVE))
    assert (
        fetched.keys()
        == page.keys()
        == {f"dashboard-{name}" for name in ("updated", "now", "today", "runs", "workers", "lists")}
    )
    assert fetched["dashboard-now"] == page["dashboard-now"]


def test_an_idle_worker_is_shown_with_the_speed_of_the_latest_batches(client):
    batch_with("done", ok=30, pending=0)
    Batch.objects.update(run_seconds=2)
    BatchManager().claim_run("the idle one")
    shown = tiles(client.get(INDEX))
    assert shown["Running"] == ["Nothing"]
    assert shown["Queue"] == ["0 batches", "Nothing is waiting", "Hold the queue…"]
    assert shown["Worker"] == ["Idle"]
    assert shown["Speed"] == ["15/s", "profiles, in the latest batches"]


def test_each_worker_is_shown_with_what_it_does_and_those_that_have_died_last(client, monkeypatch):
    run = run_of("the press", ok=3, failed=1, pending=4)
    Lease.objects.filter(worker="a worker").update(successful_checks=3, failed_checks=1, run_seconds=8)
    for name in ("idle 2", "dead", "ended", "idle 1"):
        note_worker(name)
    end_worker("ended")
    Worker.objects.filter(name="dead").update(seen_at=timezone.now() - timedelta(hours=1), version="0.9")
    table = [[words(cell) for cell in row] for row in document(client.get(INDEX)).xpath(f"{WORKERS}//tbody/tr")]
    now = rf"{TIME}:\d\d"
    for row, expected in zip(
        table,
        [
            ["a worker", "the press", "0.5/s", re.escape(__version__), now],
            ["idle 1", "idle", "", re.escape(__version__), now],
            ["idle 2", "idle", "", re.escape(__version__), now],
            ["dead", "", "", r"0\.9", f"no heartbeat since {now}"],
        ],
        strict=True,
    ):
        assert re.fullmatch(" / ".join(expected), " / ".join(row)), row
    links = document(client.get(QUEUE)).xpath(f"{WORKERS}//a/@href")
    assert links == [reverse("admin:batches_batch_change", args=[run.pk])]
    monkeypatch.setattr(queue_content, "SHOWN_WORKERS", 3)
    assert words(document(client.get(INDEX)).xpath(WORKERS)[0]).endswith("… and 1 more.")


def test_it_warns_of_missing_heartbeats_a_hold_and_errors(client):
    run_of("the press", ok=1)
    batch_with("error")
    BatchManager("ada").hold_queue("the disk is full")
    long_ago = timezone.now() - timedelta(hours=1)
    Lease.objects.update(lease_at=long_ago)
    Worker.objects.update(seen_at=long_ago)
    page = client.get(INDEX)
    assert "The queue is held by ada since" in text_of(page)
    assert "the disk is full" in text_of(page)
    assert "1 batch stopped with an error." in parts(page)["dashboard-now"]
    shown = tiles(page)
    assert shown["Worker"][0].startswith("No worker heartbeat since ")
    assert shown["Worker"][1] == f"Nothing is checked until a worker runs: {command_line('batchworker')}"
    assert shown["Running"][2] == "Its end is not known"


def test_a_day_has_the_batches_that_were_done_on_it_in_the_time_zone(settings, stopped_clock):
    settings.TIME_ZONE = "Asia/Kathmandu"  # UTC+05:45
    timezone.get_default_timezone.cache_clear()
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    moments = [midnight, midnight - timedelta(seconds=1), midnight - timedelta(days=1), midnight - timedelta(days=1.1)]
    for failed, moment in enumerate(moments, start=1):
        batch = batch_with("done", ok=1, failed=failed, stories=[story()])
        Batch.objects.filter(pk=batch.pk).update(completed_at=moment)
    assert sum_up_day() == Day(batches=1, checked=2, failed=1, stories=1)
    assert sum_up_day(Period.YESTERDAY) == Day(batches=2, checked=7, failed=5, stories=2)


def test_today_is_beside_yesterday_with_what_the_running_batch_has_so_far(client):
    old = batch_with("done", ok=1, failed=3)
    Batch.objects.filter(pk=old.pk).update(completed_at=timezone.now() - timedelta(days=1))
    rested = batch_with("done", ok=2, failed=1)
    Batch.objects.filter(pk=rested.pk).update(completed_profiles=4, skipped_profiles=1)
    run_of("now", ok=1, failed=1, stories=[story()])
    page = client.get(INDEX)
    shown = tiles(page)
    assert shown["Batches done"] == ["1", "compare with yesterday : 1"]
    assert shown["Profiles checked"] == ["6", "yesterday 4"]  # 2 of them now
    checked = document(page).xpath("//section[@aria-labelledby='dashboard-runs-title']//tbody//td[3]")
    assert [words(cell) for cell in checked] == ["4", "4"]
    assert shown["Failed"] == ["2", "yesterday 3"]
    assert shown["New stories"] == ["1", "yesterday 0"]


def test_the_latest_runs_and_the_lists_that_are_due_lead_to_their_pages(client):
    done = batch_with("done", name="done", ok=1000)
    found = make_list("the press")
    assert BatchManager().change_list(found.pk, schedule="0 6 * * *", time_zone="UTC")
    page = text_of(client.get(INDEX))
    assert f'href="{reverse("admin:batches_batch_change", args=[done.pk])}"' in page
    assert "1,000" in page
    assert f'href="{reverse("admin:batches_profilelist_change", args=[found.pk])}"' in page
    assert "At 06:00 every day (UTC)" in page


def test_an_empty_installation_says_what_to_do(client):
    page = words(document(client.get(INDEX)))
    assert "No batch is done yet." in page
    assert "Add a batch" in page
    assert "No list has a schedule." in page
    assert tiles(client.get(INDEX))["Speed"] == ["Not known yet", ""]


def test_the_hosts_with_the_most_failing_profiles_lead_to_them(client):
    for host, failing in (("few.example", 1), ("most.example", 3), ("ok.example", 0)):
        for number in range(3):
            error = "It answers with 404." if number < failing else ""
            memory = {"failures": 1, "failing_since": timezone.now(), "last_error": error} if error else {}
            Profile.objects.create(url=f"https://{host}/{number}", last_checked_at=timezone.now(), **memory)
    [section] = document(client.get(INDEX)).xpath("//section[@aria-labelledby='dashboard-hosts-title']")
    text = (
        rf"Hosts with the most failures Host Failing profiles most\.example 3 few\.example 1 All 2 \(counted {TIME} \)"
    )
    assert re.fullmatch(text, words(section))
    assert len(listed(client, Profile, host="most.example", check="failed")) == 3
    address = f"{reverse('admin:batches_profile_changelist')}?host=most.example&check=failed"
    assert section.xpath(".//td/a/@href")[0] == address


def test_so_many_failing_profiles_that_counting_takes_long_are_only_linked(client, monkeypatch):
    monkeypatch.setattr(dashboard, "MOST_FAILING", 1)
    memory = {"failures": 1, "failing_since": timezone.now(), "last_error": "It answers with 404."}
    Profile.objects.bulk_create(Profile(url=f"https://host/{number}", **memory) for number in range(2))
    page = document(client.get(INDEX))
    [section] = page.xpath("//section[@aria-labelledby='dashboard-hosts-title']")
    assert words(section) == "Hosts with the most failures More than 1 profiles fail"
    assert section.xpath(".//a/@href") == [reverse("admin:batches_host_changelist")]


@pytest.mark.parametrize(
    ("permissions", "has_queue", "has_lists", "has_hosts"),
    [
        ([], False, False, False),
        (["view_batch"], True, False, False),
        (["view_profilelist"], False, True, False),
        (["view_host"], False, False, False),
        (["view_host", "view_profile"], False, False, True),
        (["change_batch", "change_profilelist"], True, True, False),
    ],
)
def test_it_shows_what_the_permissions_allow(permissions, has_queue, has_lists, has_hosts):
    batch_with("done", name="secret batch", failed=1)
    found = make_list("secret list")
    BatchManager().change_list(found.pk, schedule="0 6 * * *", time_zone="UTC")
    page = text_of(client_with(*permissions).get(INDEX))
    assert [name in page for name in ("secret batch", "Latest runs", "batches/live.js")] == [has_queue] * 3
    assert [name in page for name in ("secret list", "Lists due next")] == [has_lists] * 2
    assert [name in page for name in ("example.org", "Hosts with the most failures")] == [has_hosts] * 2


def test_a_project_can_put_it_on_its_own_page():
    request = RequestFactory().get("/")
    request.user = user_of("superuser")
    template = Template("{% load batches_display %}<main>{% batches_dashboard %}</main>")
    batch_with(name=SCRIPT)
    page = template.render(Context({"request": request}))
    assert 'data-live="/admin/batches/batch/dashboard/live/"' in page
    request.user = user_with([])
    assert template.render(Context({"request": request})).split() == ["<main>", "</main>"]
