"""The tasks of an operator, within a number of clicks from the first page."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import Batch
from batches.tests.support.factories import waiting_names

from ..admin.conftest import batch_with
from .steps import button

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True), pytest.mark.slow]

INDEX = reverse("admin:index")


@pytest.fixture
def console(open_page):
    """The first page, which counts the clicks on it and on the pages after it."""
    page = open_page("about:blank")
    clicks = []
    page.expose_function("countClick", lambda: clicks.append(1))
    page.add_init_script("addEventListener('click', event => event.isTrusted && event.detail && countClick(), true)")
    page.goto(INDEX)
    page.clicks = clicks
    return page


def go_to_the_queue(page):
    page.locator("#dashboard-queue").click()


def assert_clicks(page, count):
    assert len(page.clicks) == count


def test_who_paused_a_batch_and_why_takes_one(console):
    BatchManager("bob", "admin").pause_batch(batch_with(name="News").pk, "The feeds move.")
    go_to_the_queue(console)
    expect(console.get_by_role("region", name="Paused")).to_contain_text("Paused by bob: The feeds move.")
    assert_clicks(console, 1)


def test_todays_failures_as_csv_take_two(console):
    batch_with("done", name="News", ok=1, failed=2, pending=0)
    console.locator("#dashboard-failures").click()
    with console.expect_download() as download:
        console.locator("#export").click()
    assert download.value.suggested_filename == "profiles.csv"
    assert len(download.value.path().read_text().splitlines()) == 3
    assert_clicks(console, 2)


def test_the_fifth_to_the_top_takes_two_and_its_undo_one(console):
    batches = [batch_with(name=f"number {number}") for number in range(1, 6)]
    before = waiting_names()
    go_to_the_queue(console)
    button(console, "top", batches[4]).click()
    expect(console.locator("#queue-waiting .queue-name").first).to_have_text("number 5")
    assert_clicks(console, 2)
    console.locator("#message-undo").click()
    expect(console.locator("#queue-waiting .queue-name")).to_have_text(before)
    assert_clicks(console, 3)


def test_to_stop_everything_for_maintenance_takes_two_and_to_continue_one(console):
    running, _ = batch_with("running", name="News"), batch_with(name="next")
    console.reload()
    console.locator("#dashboard-hold").click()
    console.get_by_role("button", name="Hold and stop the running batch").click()
    expect(console.locator(".queue-held")).to_contain_text("“News” is stopped until the release.")
    assert_clicks(console, 2)
    console.locator("#queue-release").click()
    expect(console.locator("#queue-running")).to_have_text("News")
    assert_clicks(console, 3)
    assert Batch.objects.running().get() == running


def test_to_add_five_thousand_addresses_with_rubbish_among_them_takes_three(console):
    console.locator("#module_batches_batch, .model-batch").get_by_role("link", name="Add").first.click()
    console.get_by_label("Name").fill("Many")
    addresses = [f"https://example.org/{number}" if number % 100 else "rubbish <>" for number in range(5_050)]
    console.locator("#id_addresses").evaluate("(area, text) => { area.value = text; }", "\n".join(addresses))
    console.get_by_role("button", name="Preview").click()
    expect(console.locator("#add-preview")).to_contain_text("51")
    console.get_by_role("button", name="Add batch").click()
    expect(console.locator(".messagelist")).to_contain_text("Many")
    assert_clicks(console, 3)
    assert Batch.objects.get().total_profiles == 4_999


def test_to_delete_twenty_old_batches_takes_three(console):
    for number in range(20):
        batch_with("done", name=f"old {number}", pending=0)
    Batch.objects.update(completed_at=timezone.now() - timedelta(days=100))
    batch_with("done", name="recent", pending=0)
    console.locator(".model-batch").get_by_role("link", name="Batches", exact=True).first.click()
    console.get_by_role("link", name="Delete old batches…").click()
    expect(console.locator("#content")).to_contain_text("20 batches will be deleted")
    console.get_by_role("button", name="Yes, delete").click()
    expect(console.locator(".messagelist")).to_contain_text("20 done")
    assert_clicks(console, 3)
    assert Batch.objects.get().name == "recent"
