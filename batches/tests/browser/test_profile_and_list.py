"""The pages of a profile and of a list in a real browser, in as few clicks as promised."""

import pytest
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import ProfileList
from batches.tests.support.factories import failed, make_list, ok, run_list

from .steps import tab_to

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

PHONE = {"width": 390, "height": 844}


@pytest.fixture
def news():
    """A list that is due, after two runs."""
    found = make_list("News", 2)
    run_list(found, ok("whales"), failed("HTTP status 500"))
    run_list(found, ok(), ok())
    assert BatchManager().change_list(found.pk, schedule="0 6 * * *")
    return found


def test_the_history_of_a_profile_is_two_clicks_from_the_dashboard_by_its_host(open_page, news):
    page = open_page("/admin/")
    page.set_viewport_size(PHONE)
    page.get_by_label("Find the profiles of a host").fill("example.org")
    page.get_by_role("button", name="Find", exact=True).click()
    page.get_by_role("link", name="https://example.org/0").click()
    rows = page.locator(".profile-checks tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.last).to_contain_text("whales")
    expect(page.get_by_role("link", name="News").first).to_be_visible()
    tab_to(page, page.locator("#check-now"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Check 1 selected profile")).to_be_visible()


def test_the_trend_of_a_list_is_one_click_from_the_dashboard(open_page, news):
    page = open_page("/admin/")
    page.set_viewport_size(PHONE)
    page.locator(".dashboard-parts").get_by_role("link", name="News").last.click()
    page.wait_for_url(f"**/profilelist/{ProfileList.objects.get().pk}/**")
    bars = page.locator(".runs-bars").first.locator(".mark-ok, .mark-failed")
    expect(bars).to_have_count(3)
    summary = page.locator("#runs-table-summary")
    tab_to(page, summary)
    page.keyboard.press("Enter")
    expect(page.locator("#runs-table tbody tr")).to_have_count(2)
    page.locator(".runs-bars").first.locator("a").first.click()
    expect(page.locator("#batch-name")).to_have_text("News")
