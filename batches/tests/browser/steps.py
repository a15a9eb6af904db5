"""Steps that several tests take on a page."""

import pytest
from playwright.sync_api import expect

from ..admin.conftest import QUEUE

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
#: Chromium's message in the console for a refused action.
CONFLICT = "status of 409"

#: A message that touches what is below it.
TOUCHING = """[...document.querySelectorAll(".errornote, .live-refusal, .live-note, .messagelist li")].filter(note => {
    const below = (note.nextElementSibling ?? note.parentElement.nextElementSibling)?.getBoundingClientRect();
    return note.checkVisibility() && below?.height && Math.abs(below.top - note.getBoundingClientRect().bottom) < 4;
}).map(note => note.outerHTML.slice(0, 100))"""


def button(page, call, batch):
    """Find a control of a batch in the queue."""
    return page.locator(f"#{call}-{batch.pk}")


def tab_to(page, locator, key="Tab"):
    for _ in range(80):
        page.keyboard.press(key)
        if locator.evaluate("element => element === document.activeElement"):
            return
    pytest.fail(f"{key} never reaches {locator}")


def poll_now(page):
    """Have the page poll without waiting for its next turn."""
    page.evaluate("dispatchEvent(new Event('online'))")


def open_impatient(open_page, address):
    """The page polls again as soon as it has shown the last response."""
    page = open_page("about:blank")
    page.add_init_script(
        """addEventListener("DOMContentLoaded", () => {
            const poll = () => setTimeout(() => dispatchEvent(new Event("online")), 100)
            document.querySelector("[data-live]")?.addEventListener("refreshed", poll)
            poll()
        })"""
    )
    page.goto(address)
    return page


def open_with_stopped_clock(open_page, address=QUEUE, role="superuser"):
    """The page's timers run only when the test says so, and its requests have no time limit."""
    page = open_page("about:blank", role=role)
    page.add_init_script("AbortSignal.timeout = () => undefined")
    page.clock.install(time=0)
    page.clock.pause_at(1_000)
    page.goto(address)
    return page


def poll(page, action, ends="requestfinished", of="/live/"):
    """Do what makes the page poll, and wait until it has handled the response and set its next timer."""
    with page.expect_event(ends, lambda request: of in request.url):
        action()
    settle(page)


def settle(page):
    """Wait until the page has handled earlier responses."""
    page.evaluate("fetch('/static/batches/icon.svg').then(response => response.text())")


def stop_polling(page):
    page.get_by_role("switch").click()
    expect(page.get_by_role("switch")).not_to_be_checked()


def mark(page):
    """Leave a mark that a reload would remove."""
    page.evaluate("window.isMarked = true")


def assert_not_reloaded(page):
    assert page.evaluate("window.isMarked === true")


def expect_refusal(button, text):
    """Expect the message directly beside the button that caused it."""
    expect(button.page.locator(f"#{button.get_attribute('id')} + .live-refusal")).to_contain_text(text)
    expect(button.page.locator("[id$=-announce]")).to_contain_text(text)
