"""A batch's page in a real browser: followed live, and steered by its buttons. More of live.js: `test_live_pages`."""

import pytest
from playwright.sync_api import expect

from batches.admin import batch_page
from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.models import Batch
from batches.tests.support.factories import failed, ok, record_one

from ..admin.conftest import batch_with, page_of, reread, story
from .steps import (
    CONFLICT,
    TOUCHING,
    assert_not_reloaded,
    expect_refusal,
    mark,
    open_with_stopped_clock,
    poll,
    poll_now,
    tab_to,
)

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


def poll_with_details(page):
    """Have the page poll when it may load the expensive parts again, and wait until it has shown them."""
    poll(page, lambda: page.clock.fast_forward(5_000), of="/details/")


def test_a_running_batch_is_followed_live(open_page):
    batch = batch_with(name="Morning feeds", pending=4)
    page = open_with_stopped_clock(open_page, page_of(batch))
    mark(page)
    expect(page.locator("#batch-summary")).to_contain_text("Queued at position 1.")

    run = BatchManager("host:1", "worker").claim_run("host:1")
    poll_with_details(page)  # its turns: `test_live_pages`
    expect(page.locator("#batch-summary")).to_contain_text("Running.")
    expect(page.locator("#batch-log tbody tr").first).to_contain_text("queued 1 → running")
    record_one(run, CheckResult(ok=True, stories=[story("Whales!")]))
    record_one(run, failed())
    poll_with_details(page)
    expect(page.locator("#batch-facts")).to_contain_text("2 of 4")
    expect(page.locator("#chart-described")).to_contain_text("2 checks")
    expect(page.locator("#batch-stories")).to_contain_text("Whales!")
    hatched = page.locator(".plot-bars .mark-failed").first.evaluate("mark => getComputedStyle(mark).fill")
    assert "#batch-hatch" in hatched  # the policy lets the pattern through

    page.locator("#chart-table-summary").click()
    page.locator("#repeat_batch").focus()
    record_one(run, ok())
    BatchManager("bob", "api").rename_batch(batch.pk, "Evening feeds")
    BatchManager("bob", "api").pause_batch(batch.pk)
    poll_with_details(page)
    expect(page.locator("#batch-name")).to_have_text("Evening feeds")
    expect(page.locator("#batch-log tbody tr").first).to_contain_text("bob")
    expect(page.locator("#chart-described")).to_contain_text("3 checks")
    expect(page.locator("#chart-table")).to_have_attribute("open", "")
    expect(page.locator("#repeat_batch")).to_be_focused()
    assert_not_reloaded(page)


def test_buttons_act_without_a_reload_and_show_refusals_beside_them(open_page, problems):
    problems.expected.append(CONFLICT)
    batch = batch_with("paused", name="this one", ok=1, failed=1)
    BatchManager().hold_queue("repairs")
    page = open_page(page_of(batch), role="operator")
    mark(page)
    start = page.locator("#start_batch")
    start.click()
    expect_refusal(start, "The queue is held: repairs.")
    BatchManager().set_priority(batch.pk, 3)
    poll_now(page)
    expect(page.locator("#batch-log")).to_contain_text("Priority changed")  # the page was updated
    expect_refusal(start, "The queue is held: repairs.")

    BatchManager().release_queue()
    start.click()
    expect(page.locator("#batch-messages")).to_contain_text("“this one”")
    expect(page.locator(".live-refusal")).to_have_count(0)
    expect(page.locator("#batch-summary")).to_contain_text("Running.")
    page.locator("#pause_batch").click()
    expect(page.locator("#message-undo")).to_be_visible()
    for call in ("queue_batch", "pause_batch"):
        assert getattr(BatchManager("bob"), call)(batch.pk)
    page.locator("#message-undo").click()  # goes with its message: the refusal is at the top
    expect(page.locator("#batch-lost + .live-refusal")).to_contain_text("has changed")
    assert page.evaluate(TOUCHING) == []
    page.locator("#retry_failed").click()
    expect(page.locator("#batch-summary")).to_contain_text("Queued again by operator: retrying 1 failed profile")
    assert_not_reloaded(page)

    page.locator("#repeat_batch").click()
    page.wait_for_url(lambda url: page_of(batch) not in url)
    expect(page.locator("#batch-messages")).to_contain_text("“this one”")
    assert reread(batch).repeats.get().status == "queued"


def test_expensive_parts_load_after_the_page_and_take_a_tenth_of_the_servers_time_at_most(open_page, monkeypatch):
    monkeypatch.setattr(batch_page, "MAX_PROFILES_WITH_DETAILS", 0)
    batch = batch_with("running", ok=1, failed=1)
    held = []
    page = open_with_stopped_clock(open_page, "about:blank")
    page.route("**/details/", lambda route: held.append(route))
    with page.expect_request("**/details/"):
        page.goto(page_of(batch))
    page.clock.run_for(500)
    held[0].continue_()
    expect(page.locator("#batch-details")).to_contain_text("HTTP status 500")
    for _ in range(3):  # nothing has changed
        poll(page, lambda: page.clock.run_for(2_000))
    Batch.objects.update(stories_found=1)
    with page.expect_request("**/details/"):
        poll(page, lambda: page.clock.run_for(2_000))
    page.clock.run_for(1_000)
    held[1].continue_()
    expect(page.locator("#batch-details-state")).to_have_text(page.locator("#batch-state").text_content())
    Batch.objects.update(stories_found=2)
    for _ in range(4):
        poll(page, lambda: page.clock.run_for(2_000))
    assert len(held) == 2  # the last one took 1 s by the page's clock: none for 10 s
    with page.expect_request("**/details/"):
        page.clock.run_for(4_000)


def test_the_keyboard_reaches_the_buttons_and_keeps_its_place_when_one_disappears(open_page):
    page = open_page(page_of(batch_with()))
    tab_to(page, page.locator("#pause_batch"))
    page.keyboard.press("Enter")
    expect(page.locator("#batch-summary")).to_contain_text("Paused.")
    expect(page.locator("#batch-operations")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#queue_batch")).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#batch-summary")).to_contain_text("Queued at position 1.")
    tab_to(page, page.locator("#outcome-pending"))


def test_the_open_form_is_above_the_charts(open_page):
    page = open_page(page_of(batch_with()))
    page.locator(".batch-edit > summary").click()
    buttons, charts = (page.locator(name).bounding_box() for name in (".submit-row", "#outcomes-title"))
    assert buttons["y"] + buttons["height"] < charts["y"]
