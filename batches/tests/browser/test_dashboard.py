"""The dashboard as an operator uses it: it shows the answers, follows events, and leads on in one click."""

import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile
from batches.tests.support.factories import empty_leases

from ..admin.conftest import batch_with
from .steps import PHONE, assert_not_reloaded, mark, poll_now, tab_to

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


def test_it_answers_without_a_click_follows_events_and_leads_on(open_page, settings):
    settings.BATCHES = {"LEASE_SECONDS": 600}  # the worker is alive however long the browser takes
    batch = batch_with("running", name="the press", ok=3, failed=1, pending=4)
    empty_leases(batch)
    Batch.objects.filter(pk=batch.pk).update(run_seconds=40)
    Profile.objects.filter(last_error="HTTP status 500").update(last_checked_at=timezone.now())
    batch_with(name="x" * 200)
    page = open_page("/admin/", **PHONE)
    mark(page)
    now = page.locator("#dashboard-now")
    expect(now).to_contain_text(re.compile(r"the press\s+4 of 8\s+Ends about \d\d:\d\d"))
    expect(now).to_contain_text(re.compile(r"1 batch\s+1 profile to check\s+All done about \d\d:\d\d"))
    expect(now).to_contain_text("Working")
    expect(page.locator("#dashboard-workers")).to_contain_text(
        re.compile(r"a worker\s+the press\s+\d\S+\s+\d\d:\d\d:\d\d")
    )
    expect(now).to_contain_text("0.1/s")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]

    tab_to(page, page.locator("#dashboard-queue"))
    BatchManager("ada").hold_queue("new disk")
    BatchManager("ada").pause_batch(batch.pk)
    poll_now(page)
    expect(now).to_contain_text("The queue is held by ada")
    expect(now).to_contain_text("Nothing")
    expect(page.locator("#dashboard-queue")).to_be_focused()
    assert_not_reloaded(page)
    page.keyboard.press("Enter")
    expect(page).to_have_title("Queue | Batches")

    page.goto("/admin/")
    page.locator("#dashboard-failures").click()
    expect(page.get_by_role("heading", name="Failures", exact=True)).to_be_visible()
    expect(page.locator("#failing")).to_have_text("1")
    page.goto("/admin/")
    page.get_by_role("region", name="Hosts with the most failures").get_by_role("link", name="example.org").click()
    expect(page.get_by_role("heading", name="Profiles", exact=True)).to_be_visible()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
