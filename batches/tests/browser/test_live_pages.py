"""The common behaviour of the live pages (live.js): polling, outages, refusals, and updates that disturb nobody."""

import re

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.tests.support.factories import waiting_names

from ..admin.conftest import QUEUE, batch_with, reread
from .steps import (
    assert_not_reloaded,
    button,
    expect_refusal,
    mark,
    open_with_stopped_clock,
    poll,
    poll_now,
    settle,
    stop_polling,
)

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

LIVE = reverse("admin:batches_batch_queue_live")


def watch_polls(page):
    polls = []
    page.on("request", lambda request: polls.append(request.url) if LIVE in request.url else None)
    return polls


def set_hidden(page, hidden):
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden})
            document.dispatchEvent(new Event("visibilitychange"))
        }""",
        hidden,
    )


def test_a_viewers_page_polls_every_two_seconds_while_it_is_visible_and_switched_on(open_page):
    page = open_with_stopped_clock(open_page, role="viewer")
    polls = watch_polls(page)

    def assert_no_poll_for_a_minute():
        polls.clear()
        page.clock.run_for(60_000)
        settle(page)
        assert polls == []

    poll(page, lambda: page.clock.run_for(2_000))
    batch_with(name="number 1")
    poll(page, lambda: page.clock.run_for(2_000))
    expect(page.locator("#queue-waiting")).to_contain_text("number 1")
    expect(page.locator("#queue").get_by_role("button")).to_have_text(["Filter"])
    set_hidden(page, True)
    assert_no_poll_for_a_minute()
    poll(page, lambda: poll_now(page))
    assert_no_poll_for_a_minute()
    poll(page, lambda: set_hidden(page, False))
    poll(page, lambda: page.clock.run_for(2_000))
    poll(page, lambda: stop_polling(page))
    assert_no_poll_for_a_minute()
    expect(page.locator("#queue")).to_have_class(re.compile("live-is-stopped"))


def test_a_page_polls_less_and_less_often_while_the_server_does_not_answer(open_page, problems):
    problems.expected.append("ERR_FAILED")
    last = [batch_with(name=name) for name in ("1", "2")][-1]
    page = open_with_stopped_clock(open_page)
    mark(page)
    page.route(f"**{QUEUE}**", lambda route: route.abort())
    polls = watch_polls(page)
    for wait in (2_000, 4_000, 8_000, 16_000, 30_000, 30_000):
        polls.clear()
        page.clock.run_for(wait - 1)
        settle(page)
        assert polls == []
        poll(page, lambda: page.clock.run_for(1), ends="requestfailed")
        expect(page.locator("#queue-lost")).to_contain_text("The server does not respond.")
    expect(page.locator("#queue-waiting >> ..")).to_have_css("opacity", "0.5")
    poll(page, lambda: button(page, "top", last).click(), ends="requestfailed")
    expect_refusal(button(page, "top", last), "The server does not respond")
    page.unroute(f"**{QUEUE}**")
    poll(page, lambda: page.clock.run_for(30_000))
    expect(page.locator("#queue-lost")).to_be_empty()
    assert_not_reloaded(page)


@pytest.mark.parametrize("follow", [poll_now, lambda page: page.locator("[id^=top]").last.click()])
def test_an_expired_session_changes_nothing_and_leads_to_the_login_and_back(open_page, problems, follow):
    problems.expected.append("status of 404")  # the login page, which is Django's own, names no icon
    batch_with(name="first news")
    batch = batch_with(name="news")
    page = open_page(f"{QUEUE}?q=news")
    user = User.objects.get()
    user.set_password("secret")
    user.save()
    Session.objects.all().delete()
    follow(page)
    page.wait_for_url(re.compile(r"/admin/login/\?next="))
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(re.compile(rf"{QUEUE}\?q=news$"))
    expect(page.locator("#queue-waiting")).to_contain_text("news")
    assert reread(batch).position == 2


def test_the_focused_element_is_the_same_after_updates_around_it(open_page):
    first, second, third = (batch_with(name=f"number {number}") for number in (1, 2, 3))
    page = open_page(QUEUE)
    link = page.get_by_role("link", name="number 2")  # has no id
    link.evaluate("link => { link.focus(); window.focused = link; }")
    is_same = "window.focused === document.activeElement && window.focused.isConnected"
    for change in (
        lambda: BatchManager().move_batch(third.pk, 1),
        lambda: BatchManager().pause_batch(first.pk),
        lambda: batch_with(name="number 4", priority=5),
        lambda: BatchManager().rename_batch(second.pk, "renamed"),
        lambda: BatchManager().move_batch(second.pk, 1),
    ):
        change()
        poll_now(page)
        expect(page.locator("#queue-waiting .queue-name")).to_have_text(waiting_names())
        assert page.evaluate(is_same)
    assert page.evaluate("document.activeElement.textContent") == "renamed"
    BatchManager().pause_batch(second.pk)
    poll_now(page)
    expect(page.locator("#queue-waiting .queue-name")).to_have_text(waiting_names())


def test_a_response_from_before_a_click_does_not_restore_the_old_state(open_page):
    batch = batch_with()
    page = open_with_stopped_clock(open_page, f"{QUEUE}?pause={batch.pk}")
    old = page.request.get(LIVE)
    held = []
    page.route(f"**{LIVE}*", lambda route: held.append(route), times=1)
    with page.expect_request(f"**{LIVE}*"):
        poll_now(page)
    page.locator("#pause-confirm").click()
    expect(page.locator("#queue-settled")).to_contain_text("a batch")
    with page.expect_event("requestfinished", lambda request: request == held[0].request):
        held[0].fulfill(body=old.text(), content_type="text/html")
    settle(page)
    expect(page.locator("#queue-settled")).to_contain_text("a batch")
