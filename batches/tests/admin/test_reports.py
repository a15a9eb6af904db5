"""Pages over all batches: what fails today, which hosts fail most, and their exports."""

import csv
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Batch, Host, Profile
from batches.reports.failures import start_of_day
from batches.tests.support.factories import failed, make_list, ok, record_one, run_list, start_run

from .conftest import (
    SCRIPT,
    act,
    address,
    batch_with,
    client_with,
    document,
    listed,
    send,
    text_of,
    words,
)

pytestmark = pytest.mark.django_db

FAILURES, HOSTS = reverse("admin:batches_profile_failures"), address(Host, "changelist")
PROFILES = address(Profile, "changelist")
EXPORT = reverse("admin:batches_profile_export", args=["csv"])


def fail(url, error="It answers with 500.", days_ago=0, **values):
    """A profile that failed its last check, today or this many days ago."""
    now = timezone.now()
    checked_at = max(now - timedelta(minutes=1), start_of_day()) if days_ago == 0 else start_of_day(days_ago)
    failure = {"last_error": error, "last_checked_at": checked_at, "failures": 1, "failing_since": checked_at}
    return Profile.objects.create(url=url, **failure | values)


def table(response, section):
    """The cells of the rows of a section, and the addresses of their first links."""
    rows = document(response).xpath(f"//section[@aria-labelledby='{section}-title']//tbody/tr")
    return [[words(cell) for cell in row.xpath("td")] for row in rows]


def test_failures_of_today_are_grouped_by_reason_and_by_host_with_their_profiles(client):
    fail("https://a.example/1", "Gone.")
    fail("https://a.example/2", "Slow.")
    fail("https://b.example/", "Gone.", failing_since=start_of_day(3))
    fail("https://c.example/", "Gone.", days_ago=1)
    page = client.get(FAILURES)
    assert words(document(page).get_element_by_id("failing")) == "3"
    assert [row[:2] for row in table(page, "reasons")] == [["2", "Gone."], ["1", "Slow."]]
    assert [row[:2] for row in table(page, "hosts")] == [["2", "a.example"], ["1", "b.example"]]
    assert [row[:2] for row in table(page, "profiles")] == [
        ["https://a.example/1", "Gone."],
        ["https://a.example/2", "Slow."],
        ["https://b.example/", "Gone."],
    ]
    yesterday = client.get(FAILURES, {"period": "yesterday"})
    assert [row[1] for row in table(yesterday, "hosts")] == ["c.example"]
    assert client.get(FAILURES, {"period": "never"}).context["period"] == "today"


def test_each_link_of_the_page_leads_to_the_profiles_that_it_counts(client):
    one = fail("https://a.example/1", "It's <gone> & more.")
    two = fail("https://a.example/2", "Slow.")
    fail("https://a.example/3", "Slow.", days_ago=1)
    Profile.objects.create(url="https://a.example/4", last_checked_at=timezone.now())
    page = document(client.get(FAILURES))

    def linked(xpath):
        return set(client.get(page.xpath(xpath)[0]).context["cl"].queryset)

    assert linked("//*[@id='list-all']/@href") == {one, two}
    assert linked("//section[@aria-labelledby='reasons-title']//a[contains(., 'gone')]/@href") == {one}
    assert linked("//section[@aria-labelledby='hosts-title']//a/@href") == {one, two}
    exported = client.get(page.get_element_by_id("export").get("href")).getvalue().decode()
    assert [row["last_error"] for row in csv.DictReader(exported.splitlines())] == ["It's <gone> & more.", "Slow."]


@pytest.mark.parametrize(("row", "expected"), [(None, 2), ("Slow.", 1), ("b.example", 1)])
def test_failing_profiles_are_checked_again_in_a_new_batch(client, row, expected):
    fail("https://a.example/", "Gone.")
    fail("https://b.example/", "Slow.")
    fail("https://c.example/", "Slow.", days_ago=2)
    page = document(client.get(FAILURES))
    form = page.get_element_by_id("check")
    url = page.xpath(f"//tr[contains(., '{row}')]//button/@formaction")[0] if row else form.action
    send(client, client.post(url, dict(form.form_values()), follow=True), name="again")
    assert Batch.objects.get().total_profiles == expected


def test_only_permitted_actions_are_offered(client_of):
    fail("https://a.example/")
    batch_with("paused", failed=1)
    html = text_of(client_of("viewer").get(FAILURES))
    assert "Check again" not in html.split('id="content-main"')[1]
    assert HOSTS not in html.split('id="content-main"')[1]
    only_hosts = client_with("view_host")
    html = text_of(only_hosts.get(HOSTS)).split('id="content-main"')[1]
    assert "a.example" in html
    assert PROFILES not in html
    only_profiles = client_with("view_profile")
    assert table(only_profiles.get(FAILURES), "batches") == []
    assert only_profiles.get(HOSTS).status_code == 403


def test_the_batches_with_failures_are_linked_to_their_failed_profiles(client):
    batch = batch_with("done", name="the batch", ok=1, failed=2, pending=0)
    page = client.get(FAILURES)
    assert [row[:3] for row in table(page, "batches")] == [["2", "3", "the batch"]]
    link = document(page).xpath("//section[@aria-labelledby='batches-title']//a/@href")[0]
    assert {row.batch for row in client.get(link).context["cl"].queryset} == {batch}


def test_an_export_of_profiles_has_what_the_list_shows(client):
    assert BatchManager().create_list("it", ["https://example.org/", "https://example.com/"])
    fail("https://b.example/", "=1+1", name="Ann")
    whole = client.get(EXPORT).getvalue().decode()
    expected = list(Profile.objects.order_by("pk").values_list("url", flat=True))
    assert [row["url"] for row in csv.DictReader(whole.splitlines())] == expected
    [row] = csv.DictReader(client.get(EXPORT, {"q": "ann"}).getvalue().decode().splitlines())
    assert (row["url"], row["name"], row["last_error"], row["failures"]) == ("https://b.example/", "Ann", "'=1+1", "1")
    html = text_of(client.get(PROFILES, {"host": "b.example"}))
    assert f'href="{EXPORT}?host=b.example"' in html
    assert client.get(EXPORT, {"check": "nonsense"}).status_code == 302
    assert client.get(reverse("admin:batches_profile_export", args=["xml"])).status_code == 404


def test_hosts_are_shown_with_the_figures_of_their_profiles(client):
    fail("https://a.example/1", "Gone.", last_duration=4)
    Profile.objects.create(url="https://a.example/2", last_checked_at=timezone.now(), last_duration=0.5)
    fail("https://b.example/", SCRIPT)
    Host.objects.create(name="b.example", not_before=timezone.now() + timedelta(hours=1), last_status=429)
    [first, second] = table(client.get(HOSTS), "hosts")
    assert first[:5] == ["a.example", "2", "1", "50.0 %", "2.25 s"]
    assert first[5].endswith("Gone.")
    assert first[6] == "–"
    assert second[:5] == ["b.example", "1", "1", "100 %", "–"]
    assert second[5].endswith(SCRIPT)
    assert second[6].endswith("(HTTP 429)")
    [pause] = table(client.get(HOSTS), "pauses")
    assert (pause[0], pause[-1]) == ("b.example", "429")


def test_empty_pages_explain_themselves(client):
    assert "No profile fails." in text_of(client.get(FAILURES))
    assert "failures at any time" in text_of(client.get(FAILURES))
    assert "No host has failing profiles." in text_of(client.get(HOSTS))
    assert "No failing host has “&lt;x” in its name." in text_of(client.get(HOSTS, {"q": "<x"}))


def test_a_host_is_one_click_from_the_list_of_its_failing_profiles(client):
    one = fail("https://a.example:8080/1")
    fail("https://a.example/2")
    fail("https://b.example/")
    page = client.get(HOSTS, {"q": " A.ex"})
    assert [row[0] for row in table(page, "hosts")] == ["a.example", "a.example:8080"]
    link = document(page).xpath("//td[@class='report-failing']/a[contains(@href, '8080')]/@href")[0]
    assert list(client.get(link).context["cl"].queryset) == [one]
    assert listed(client, Profile, host="a.example:8080") == [one]
    assert act(client, "check_selected", one, url=PROFILES).status_code == 200


TODAY = reverse("admin:batches_batch_today")


def run_before(found, *results, days_ago):
    """A run that was done this many days ago."""
    run = run_list(found, *results)
    moment = start_of_day(days_ago) + timedelta(hours=6)
    Batch.objects.filter(pk=run.pk).update(created_at=moment, completed_at=moment)
    return run


def test_todays_runs_are_beside_the_runs_before_today(client):
    worse, better, new = (make_list(name, 3) for name in ("worse", "better", "new"))
    run_before(worse, ok(), ok(), ok(), days_ago=3)
    before = run_before(worse, ok(), ok(), failed(), days_ago=1)
    run_before(better, failed(), failed(), failed(), days_ago=1)
    run_list(worse, ok(), ok(), ok())  # an earlier one of today
    latest = run_list(worse, ok(), failed(), failed())
    run_list(better, ok("a", "b"), ok("c"), ok())
    run_list(new, ok(), ok(), failed())
    page = client.get(TODAY)
    rows = table(page, "runs")
    assert [row[0] for row in rows] == ["worse", "new", "better"]
    assert rows[0][2:5] == ["3 ±0", "2 +1", "0 ±0"]
    assert rows[1][2:5] == ["3", "1", "0"]
    assert rows[1][-1] == "–"
    assert rows[2][2:5] == ["3 ±0", "0 −3", "3 +3"]
    links = document(page).xpath("//section[@aria-labelledby='runs-title']//tbody/tr[1]//a/@href")
    assert links[0] == address(Batch, "change", latest.pk)
    assert links[-1] == address(Batch, "change", before.pk)
    sums = {figure.field: (figure.now, figure.before) for figure in page.context["sums"]}
    assert sums["failed_checks"] == (2, 4)
    assert sums["completed_profiles"] == (6, 6)
    assert "1 run without an earlier run is left out." in text_of(page)


def test_an_old_run_that_is_checked_again_today_is_beside_the_run_before_it(client):
    found = make_list("it", 2)
    run_before(found, ok(), ok(), days_ago=2)
    old = run_before(found, ok(), failed(), days_ago=1)
    run_list(found, ok(), ok())
    assert BatchManager().retry_failed(old.pk)
    record_one(start_run(old), failed())
    assert BatchManager().complete_batch(old.pk)
    [row] = table(client.get(TODAY), "runs")
    assert row[3] == "1 +1"


def test_a_run_after_one_that_ended_in_error_is_beside_the_last_run_that_was_done(client):
    found = make_list("it", 2)
    run_before(found, ok(), ok(), days_ago=2)
    run_list(found, ok(), error="It broke.")
    run_list(found, ok(), failed())
    [row] = table(client.get(TODAY), "runs")
    assert row[3] == "1 +1"


def test_newly_failing_profiles_are_linked_where_the_run_is_compared_with_the_same_one(client):
    found = make_list("it", 2)
    run_before(found, ok(), ok(), days_ago=1)
    run_list(found, ok(), failed())
    link = document(client.get(TODAY)).xpath("//a[@title='Newly failing profiles']/@href")[0]
    [row] = client.get(link).context["cl"].result_list
    assert (row.status, row.profile.url) == ("failed", "https://example.org/1")


@pytest.mark.parametrize("broken", [0, 2])
def test_a_batch_without_a_list_is_compared_with_the_last_done_one_that_it_repeats(client, broken):
    batch, manager = batch_with("done", name="by hand", ok=1, failed=1, pending=0), BatchManager()
    moment = start_of_day(2)
    Batch.objects.filter(pk=batch.pk).update(completed_at=moment)
    repeat = manager.repeat_batch(batch.pk)
    for _ in range(broken):
        assert manager.handle_error(repeat.pk, "It broke.")
        repeat = manager.repeat_batch(repeat.pk)
    assert manager.complete_batch(repeat.pk)
    [row] = table(client.get(TODAY), "runs")
    assert row[3] == "0 −1"


def test_a_day_without_runs_says_so(client):
    batch_with("done", ok=1, pending=0)
    Batch.objects.update(completed_at=start_of_day(1))
    assert "No batch was done today." in text_of(client.get(TODAY))
