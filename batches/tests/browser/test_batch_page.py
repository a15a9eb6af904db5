"""A batch's page in a real browser: followed live, steered by its buttons, readable in whatever way it is looked at.

How it looks again, gives up, and finds its way back is live.js, of which `test_queue_page` knows more.
"""

import os
import re

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import expect

from batches.admin import batch_page
from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.models import Batch, BatchLog, BatchProfile, Profile, StoryResult

from ..admin.conftest import batch_with, reread, story
from .conftest import WebServer
from .test_queue_page import CONFLICT, PHONE, SCRIPT, assert_accessible, assert_not_reloaded, look_now, remember, tab_to

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def page_of(batch, name="change"):
    return reverse(f"admin:batches_batch_{name}", args=[batch.pk])


def record(batch, run, *results):
    rows = batch.profiles.filter(status="pending").order_by("pk").values_list("profile_id", flat=True)
    assert BatchManager().record_results(batch.pk, run.run_token, zip(rows[: len(results)], results, strict=True))


def repeated(**counts):
    """A repeat that runs, with something to show in each part of its page."""
    first = batch_with("done", name="the first", **counts)
    batch = BatchManager("ada").repeat_batch(first.pk)
    run = BatchManager("host:1", "worker").claim_run("host:1")
    rest = batch.total_profiles - 3
    record(
        batch, run, CheckResult(ok=False, error="timed out"), *[CheckResult(ok=True, stories=[story(SCRIPT)])] * rest
    )
    return reread(batch)


def refusal(page, call):
    return page.locator(f"#{call} + .live-refusal")


def test_a_running_batch_is_followed_live(open_page):
    batch = batch_with(name="Morning feeds", pending=4)
    page = open_page(page_of(batch))
    remember(page)
    expect(page.locator("#batch-summary")).to_contain_text("Queued at position 1. Latest: create_batch by maker")
    page.locator("#repeat_batch").focus()

    run = BatchManager("host:1", "worker").claim_run("host:1")
    expect(page.locator("#batch-summary")).to_contain_text("Running. Latest: promote_next_batch by host:1")
    expect(page.locator("#batch-log tbody tr").first).to_contain_text("queued 1 → running")

    record(batch, run, CheckResult(ok=True, stories=[story("Whales!")]), CheckResult(ok=False, error="timed out"))
    expect(page.locator("#batch-facts")).to_contain_text("2 of 4")
    expect(page.locator("#outcomes-described")).to_have_text("Ok: 1, 25.0 %; Failed: 1, 25.0 %; Pending: 2, 50.0 %.")
    expect(page.locator("#chart-described")).to_contain_text("2 checks from")
    expect(page.get_by_role("link", name="timed out")).to_be_visible()
    expect(page.locator("#batch-stories")).to_contain_text("Whales!")
    page.locator("#chart-table-summary").click()

    page.locator("#repeat_batch").focus()
    record(batch, run, CheckResult(ok=True))
    BatchManager("bob", "api").rename_batch(batch.pk, "Evening feeds")
    BatchManager("bob", "api").pause_batch(batch.pk)
    expect(page.locator("#batch-name")).to_have_text("Evening feeds")
    expect(page.locator("#batch-log tbody tr").first).to_contain_text("running → paused")
    expect(page.locator("#batch-log tbody tr").first).to_contain_text("bob")
    expect(page.locator("#chart-described")).to_contain_text("3 checks from")
    expect(page.locator("#chart-table")).to_have_attribute("open", "")
    expect(page.locator("#repeat_batch")).to_be_focused()
    assert_not_reloaded(page)


def test_what_the_buttons_do_is_seen_and_what_they_are_refused_is_told_beside_them(open_page, problems):
    problems.expected.append(CONFLICT)
    batch = batch_with("paused", name="this one", ok=1, failed=1)
    other = batch_with("running", name="the other one")
    page = open_page(page_of(batch), role="operator")
    remember(page)
    page.locator("#start_batch").click()
    expect(refusal(page, "start_batch")).to_have_text(
        "“the other one” is running, and only one batch can run at a time. Pause it first."
    )
    expect(page.locator("#batch-announce")).to_contain_text("“the other one” is running")
    BatchManager().set_priority(batch.pk, 3)
    look_now(page)
    expect(page.locator("#batch-log")).to_contain_text("set_priority")  # a swap later
    expect(refusal(page, "start_batch")).to_be_visible()

    BatchManager().pause_batch(other.pk)
    page.locator("#start_batch").click()
    expect(page.locator("#batch-messages")).to_contain_text("“this one” was started")
    expect(page.locator(".live-refusal")).to_have_count(0)
    expect(page.locator("#batch-summary")).to_contain_text("Running. Latest: start_batch by operator")
    page.locator("#pause_batch").click()
    page.locator("#retry_failed").click()
    expect(page.locator("#batch-summary")).to_contain_text("Latest: retry_failed by operator")
    assert_not_reloaded(page)

    page.locator("#repeat_batch").click()
    page.wait_for_url(lambda url: page_of(batch) not in url)
    expect(page.locator("#batch-messages")).to_contain_text("A repeat of “this one” was queued.")
    expect(page.locator("#batch-facts")).to_contain_text("Repeat of")
    assert reread(batch).repeats.get().status == "queued"


def test_the_server_goes_away_and_comes_back(open_page, database_url, problems):
    batch = batch_with("running", ok=1, pending=1)
    problems.expected += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]
    server = WebServer(database_url, os.environ)
    try:
        server.start()
        page = open_page(page_of(batch), server=server.url)
        remember(page)
        server.kill()
        expect(page.locator("#batch-lost")).to_contain_text("The server does not respond. The page was last updated")
        for part in ("#batch-facts", "[data-details]"):
            expect(page.locator(part)).to_have_css("opacity", "0.5")
        page.locator("#pause_batch").click()
        expect(refusal(page, "pause_batch")).to_have_text(
            "The server does not respond. The action may or may not have been carried out."
        )
        run = BatchManager().claim_run("another") or Batch.objects.get(pk=batch.pk)
        record(batch, run, CheckResult(ok=False, error="timed out"))
        server.start()
        look_now(page)
        expect(page.locator("#batch-facts")).to_contain_text("2 of 2")
        expect(page.locator("#batch-details")).to_contain_text("timed out")
        expect(page.locator("#batch-lost")).to_be_empty()
        expect(page.locator("[data-details]")).to_have_css("opacity", "1")
        assert_not_reloaded(page)
    finally:
        server.kill()


def test_a_session_that_ran_out_leads_to_the_login_and_back(open_page, problems):
    batch = batch_with()
    page = open_page(page_of(batch))
    user = User.objects.get()
    user.set_password("secret")
    user.save()
    Session.objects.all().delete()
    page.locator("#pause_batch").click()
    page.wait_for_url(re.compile(r"/admin/login/\?next="))
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(re.compile(f"{page_of(batch)}$"))
    assert reread(batch).status == "queued"


def test_what_is_dear_comes_after_the_page_and_costs_a_tenth_of_the_time_at_most(open_page, monkeypatch):
    monkeypatch.setattr(batch_page, "MAX_PROFILES_WITH_DETAILS", 0)
    batch = batch_with("running", ok=1, failed=1)
    held = []
    page = open_page("about:blank")
    page.clock.install(time=0)
    page.clock.pause_at(1_000)
    page.route("**/details/", lambda route: held.append(route))
    with page.expect_request("**/details/"):
        page.goto(page_of(batch))
    expect(page.locator("#batch-details")).to_contain_text("take a moment")
    page.clock.run_for(3_000)
    held[0].continue_()
    expect(page.locator("#batch-details")).to_contain_text("HTTP status 500")

    def look():
        with page.expect_response("**/live/") as answer:
            page.clock.run_for(2_000)
        answer.value.finished()
        # Behind what the script does with the answer, which sets the time of its next look.
        page.evaluate("() => fetch('/static/batches/icon.svg').then(answer => answer.text())")

    for _ in range(20):  # nothing has changed
        look()
    Batch.objects.update(stories_found=1)
    with page.expect_request("**/details/"):
        look()
    page.clock.run_for(4_000)
    held[1].continue_()
    expect(page.locator("#batch-details-state")).to_have_text(page.locator("#batch-state").text_content())
    Batch.objects.update(stories_found=2)
    for _ in range(18):
        look()
    assert len(held) == 2
    with page.expect_request("**/details/"):
        page.clock.run_for(6_000)


def test_everything_works_without_javascript(open_page, monkeypatch):
    monkeypatch.setattr(batch_page, "MAX_PROFILES_WITH_DETAILS", 0)
    batch_with("running", name="the other one")
    batch = batch_with(name="this one", pending=2)
    page = open_page(page_of(batch), role="operator", java_script_enabled=False)
    expect(page.get_by_role("switch")).to_be_hidden()
    page.get_by_role("button", name="Start now").click()
    expect(page.locator(".messagelist .warning")).to_contain_text("“the other one” is running")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#batch-summary")).to_contain_text("Paused. Latest: pause_batch by operator")
    page.get_by_role("link", name="Show them").click()
    expect(page.locator("#outcomes-described")).to_have_text("Ok: 0, 0 %; Failed: 0, 0 %; Pending: 2, 100 %.")
    page.get_by_role("link", name="Refresh").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == f"this-one-{str(batch.pk)[:8]}.csv"
    page.get_by_role("button", name="Repeat").click()
    expect(page.locator(".messagelist .success")).to_contain_text("A repeat of “this one” was queued.")


def test_the_keyboard_alone_reaches_the_buttons_and_is_not_lost_when_one_is_gone(open_page):
    batch = batch_with()
    page = open_page(page_of(batch))
    tab_to(page, "pause_batch")
    page.keyboard.press("Enter")
    expect(page.locator("#batch-summary")).to_contain_text("Paused.")
    expect(page.locator("#batch-operations")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#queue_batch")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#batch-summary")).to_contain_text("Queued at position 1.")
    tab_to(page, "outcome-pending")


@pytest.mark.parametrize(("scheme", "options"), [("light", {}), ("dark", {}), ("light", PHONE)])
def test_it_is_readable_in_light_in_the_dark_and_on_a_phone(open_page, problems, scheme, options):
    problems.expected.append(CONFLICT)
    batch = repeated(ok=4, failed=2, pending=0)
    Batch.objects.filter(pk=batch.pk).update(name="x" * 200)
    BatchProfile.objects.filter(batch=batch, status="failed").update(error="y" * 500)
    BatchLog.objects.filter(batch=batch).update(message="z" * 300)
    waiting = batch_with("paused")
    page = open_page(page_of(waiting), color_scheme=scheme, **options)
    page.locator("#start_batch").click()
    expect(refusal(page, "start_batch")).to_be_visible()
    assert_accessible(page)
    page.goto(page_of(batch))
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    page.locator("#chart-table-summary").click()
    page.locator(".batch-edit > summary").click()
    assert_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"
    assert dark is (scheme == "dark")


def test_no_script_in_any_text_is_run(open_page, problems):
    problems.expected.append(CONFLICT)
    batch = repeated(ok=4, failed=2, pending=0)
    Batch.objects.update(name=SCRIPT[:200], error="")
    Batch.objects.exclude(pk=batch.pk).update(error=SCRIPT)
    Profile.objects.update(name=SCRIPT[:200])
    StoryResult.objects.update(url=f"https://example.org/{SCRIPT}")
    BatchProfile.objects.filter(status="failed").update(error=SCRIPT)
    BatchLog.objects.update(actor=SCRIPT[:150], message=SCRIPT)
    page = open_page(page_of(batch))
    page.locator("#repeat_batch").focus()
    BatchManager(SCRIPT).set_priority(batch.pk, 3)
    look_now(page)
    expect(page.locator("#batch-log tbody tr").first).to_contain_text(SCRIPT[:100])
    expect(page.locator("#batch-stories tbody tr").first).to_contain_text(SCRIPT[:100])
    expect(page.get_by_role("link", name=SCRIPT[:30]).first).to_be_visible()
    hatched = page.locator(".plot-bars .mark-failed").first.evaluate("mark => getComputedStyle(mark).fill")
    assert "#batch-hatch" in hatched
    page.goto(page_of(Batch.objects.get(status="done")))
    expect(page.locator("#batch-facts .errornote")).to_contain_text(SCRIPT[:100])
