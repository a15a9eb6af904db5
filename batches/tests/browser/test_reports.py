"""From the dashboard to today's failures, hosts, the new stories of a list, and yesterday: by keyboard and phone."""

import pytest
from playwright.sync_api import expect

from batches.models import Batch, Profile
from batches.tests.support.factories import failed, make_list, ok, run_list, story_of, with_stories

from .steps import PHONE, tab_to

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


def follow(page, locator):
    """By the keyboard, to another page."""
    tab_to(page, locator)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_failures_of_today_are_checked_again_and_their_host_opened_by_keyboard(open_page):
    found = make_list("Press", 3)
    run_list(found, ok(), failed("It answers with 500."), failed("It answers with 404."))
    page = open_page("/admin/")
    follow(page, page.locator("#dashboard-failures"))
    expect(page.locator("#failing")).to_have_text("2")
    reason = page.locator("section[aria-labelledby=reasons-title] tr", has_text="404")
    follow(page, reason.get_by_role("button"))
    expect(page.get_by_role("heading", name="1 profile will be checked")).to_be_visible()
    page.locator("#id_name").fill("Again")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    again = Batch.objects.get(name="Again")
    [url] = again.profiles.values_list("profile__url", flat=True)
    assert Profile.objects.get(url=url).last_error == "It answers with 404."

    page.goto("/admin/batches/profile/failures/")
    follow(page, page.locator("#hosts"))
    follow(page, page.locator("#sort-rate"))
    expect(page.locator("th[aria-sort]")).to_have_text("Failure rate")
    row = page.locator("section[aria-labelledby=hosts-title] tbody tr")
    expect(row).to_contain_text("66.7 %")
    follow(page, row.get_by_role("link").nth(1))
    expect(page.locator("#result_list tbody tr")).to_have_count(2)


def test_the_new_stories_of_a_list_and_yesterday_are_two_taps_away_on_a_phone(open_page):
    found = make_list("Press", 2)
    run_list(found, with_stories(story_of(1)), failed())
    run_list(make_list("Others", 2), ok(), with_stories(story_of(2)))
    run_list(found, with_stories(story_of(3)), ok())
    page = open_page("/admin/", **PHONE)
    page.locator("#dashboard-stories").tap()
    page.get_by_role("link", name="Press", exact=True).tap()
    titles = page.locator(".reading-title")
    expect(titles.first).to_contain_text("Story 3")
    expect(titles.first).to_contain_text("Unread")
    with page.expect_navigation():
        page.locator("#reading-mark").tap()
    expect(page.locator(".reading-mark")).to_have_count(0)
    page.get_by_label("Unread only").check()
    with page.expect_navigation():
        page.locator("#reading-filter").tap()
    expect(page.locator("#content-main")).to_contain_text("You have read everything.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.goto("/admin/")
    page.locator("#dashboard-compared").tap()
    expect(page.locator("#sum-failed_checks")).to_have_text("0")
    expect(page.locator("section[aria-labelledby=runs-title] tbody tr")).to_have_count(2)
