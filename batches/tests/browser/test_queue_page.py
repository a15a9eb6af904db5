"""The queue page in a real browser: steering by mouse, by keyboard, without JavaScript and on a phone."""

import re

import pytest
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog

from ..admin.conftest import QUEUE, batch_with
from .steps import (
    CONFLICT,
    PHONE,
    assert_not_reloaded,
    button,
    expect_refusal,
    mark,
    poll_now,
    settle,
    stop_polling,
    tab_to,
)

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def waiting():
    """Three queued batches, named by their positions."""
    return [batch_with(name=f"number {position}") for position in (1, 2, 3)]


def row(page, batch):
    return page.locator(f"#batch-{batch.pk}")


def order(page):
    return page.locator("#queue-waiting .queue-name")


def expect_order(page, *numbers):
    expect(order(page)).to_have_text([f"number {number}" for number in numbers])


def open_menu(page, batch):
    page.locator(f"#more-{batch.pk}").click()


def press_in_menu(page, call, batch):
    open_menu(page, batch)
    button(page, call, batch).click()


def select(page, *batches):
    for batch in batches:
        page.locator(f"#select-{batch.pk}").check()


def test_a_move_is_previewed_cancelled_confirmed_and_undone(open_page, waiting):
    page = open_page(QUEUE)
    mark(page)
    press_in_menu(page, "up", waiting[2])
    page.locator("#move-cancel").click()
    expect(page.locator("#move-effect")).to_have_count(0)
    expect(row(page, waiting[2])).to_be_focused()
    press_in_menu(page, "up", waiting[2])
    expect(page.locator("#move-effect")).to_contain_text("from 3 to 2")
    expect_order(page, 1, 2, 3)
    page.get_by_role("button", name="Move", exact=True).click()
    expect_order(page, 1, 3, 2)
    expect(page.locator("#queue-preview")).to_be_empty()
    expect(page).to_have_url(re.compile(f"{QUEUE}(\\?p=1)?$"))
    page.locator("#message-undo").click()
    expect_order(page, 1, 2, 3)
    assert_not_reloaded(page)


def test_a_menu_stays_open_while_the_page_changes_and_closes_by_escape_or_a_click_elsewhere(open_page, waiting):
    page = open_page(QUEUE)
    stop_polling(page)
    open_menu(page, waiting[2])
    button(page, "to", waiting[2]).fill("1")
    button(page, "to", waiting[2]).focus()
    BatchManager("bob").move_batch(waiting[2].pk, 2)
    poll_now(page)
    expect_order(page, 1, 3, 2)
    expect(button(page, "to", waiting[2])).to_be_focused()
    expect(button(page, "to", waiting[2])).to_have_value("1")
    page.keyboard.press("Escape")
    expect(button(page, "to", waiting[2])).to_be_hidden()
    expect(page.locator(f"#more-{waiting[2].pk}")).to_be_focused()
    open_menu(page, waiting[1])
    open_menu(page, waiting[0])
    expect(page.locator(".queue-menu[open]")).to_have_count(1)
    page.locator("#waiting-title").click()
    expect(page.locator(".queue-menu[open]")).to_have_count(0)


def test_a_refusal_is_shown_in_the_menu_of_its_button(open_page, waiting, problems):
    problems.expected.append(CONFLICT)
    page = open_page(QUEUE)
    stop_polling(page)
    open_menu(page, waiting[1])
    BatchManager("bob").hold_queue("New disk")
    button(page, "start_batch", waiting[1]).click()
    expect_refusal(button(page, "start_batch", waiting[1]), "The queue is held: New disk.")
    expect(page.locator(".live-refusal")).to_be_visible()
    problems.expected.append("status of 500")
    page.route("**/start_batch/**", lambda route: route.fulfill(status=500))
    button(page, "start_batch", waiting[1]).click()
    expect_refusal(button(page, "start_batch", waiting[1]), "(500). The action may or may not have been carried out.")


def test_a_refusal_is_visible_although_its_button_goes_with_the_selection(open_page, waiting, problems):
    problems.expected.append(CONFLICT)
    page = open_page(QUEUE)
    stop_polling(page)
    settle(page)
    select(page, waiting[1])
    BatchManager("bob").delete_batch(waiting[1].pk)
    page.locator("#selected-queue").click()
    expect_order(page, 1, 3)
    expect(page.locator("#selected-queue")).not_to_be_visible()
    expect(page.locator(".live-refusal")).to_be_visible()
    expect(page.locator(".live-refusal")).to_contain_text("The selection is empty")


def test_the_keyboard_stays_at_the_links_between_pages_although_the_last_page_has_no_next_one(
    open_page, waiting, monkeypatch
):
    monkeypatch.setattr("batches.admin.queue_content.SHOWN_WAITING", 1)
    page = open_page(QUEUE)
    for link, number, stays_at in (("next", 2, "next"), ("next", 3, "previous"), ("first", 1, "next")):
        page.locator(f"#page-{link}").press("Enter")
        expect_order(page, number)
        expect(page.locator(f"#page-{stays_at}")).to_be_focused()


def test_a_batch_can_be_dragged_to_its_place(open_page, waiting):
    page = open_page(QUEUE)
    row(page, waiting[2]).locator(".queue-handle").drag_to(row(page, waiting[0]))
    expect(page.locator("#move-effect")).to_contain_text("from 3 to 1")


def test_a_shown_move_remains_valid_when_a_worker_starts_the_head(open_page, waiting):
    page = open_page(QUEUE)
    stop_polling(page)
    open_menu(page, waiting[2])
    button(page, "to", waiting[2]).fill("1")
    button(page, "move", waiting[2]).click()
    expect(page.locator("#move-effect")).to_contain_text("Delays “number 1”, “number 2”.")
    BatchManager().claim_run("a worker")
    poll_now(page)
    expect_order(page, 2, 3)
    expect(page.locator("#move-effect")).to_contain_text("Delays “number 2”.")
    page.locator("#move-confirm").click()
    expect_order(page, 3, 2)


def test_selected_batches_are_paused_and_deleted(open_page, waiting):
    first, _, third = waiting
    done = batch_with("done", name="the done one")
    page = open_page(QUEUE)
    assert row(page, first).bounding_box()["height"] < 45  # one line, with its buttons
    bar = page.get_by_role("group", name="With selected")
    expect(bar).to_be_hidden()
    select(page, first, third, done)
    expect(page.locator("#queue-selected")).to_have_text("3 selected:")
    bar.get_by_text("Pause…").click()
    page.locator("#selected-reason").fill("The feeds move.")
    page.locator("#selected-reason").press("Enter")
    expect_order(page, 2)
    expect(page.locator("#queue-messages")).to_contain_text("“the done one”")
    expect(page.get_by_role("region", name="Paused")).to_contain_text("Paused by superuser: The feeds move.")
    expect(page.locator("#queue :checked")).to_have_count(0)
    expect(bar).to_be_hidden()
    page.get_by_role("checkbox", name="All 2 paused").check()
    expect(page.locator("#queue-selected")).to_have_text("2 selected:")
    page.locator("#selected-delete").click()
    page.get_by_role("button", name="Yes, delete").click()
    expect_order(page, 2)
    assert Batch.objects.count() == 2


def test_the_filter_is_part_of_the_address(open_page, waiting):
    batch_with(name="another")
    page = open_page(QUEUE)
    page.locator("#queue-q").fill("number")
    page.locator("#queue-q").press("Enter")
    expect_order(page, 1, 2, 3)
    expect(page).to_have_url(re.compile(r"\?q=number$"))
    page.go_back()
    expect(order(page)).to_have_count(4)


def test_everything_works_without_javascript(open_page, waiting):
    first, second, _ = waiting
    page = open_page(QUEUE, role="operator", java_script_enabled=False)
    expect(page.get_by_role("switch")).to_be_hidden()
    expect(page.get_by_role("link", name="Refresh")).to_be_visible()
    open_menu(page, first)
    page.get_by_role("spinbutton", name="Move “number 1” to position").fill("2")
    button(page, "move", first).click()
    page.locator("#move-confirm").click()
    expect_order(page, 2, 1, 3)
    page.locator("#message-undo").click()
    expect_order(page, 1, 2, 3)
    press_in_menu(page, "start_batch", second)
    expect_order(page, 1, 3)
    button(page, "pause_batch", second).click()
    page.get_by_label("Reason (optional)").and_(page.locator("#pause-reason")).fill("The feeds move.")
    page.locator("#pause-reason").press("Enter")
    expect(page.get_by_role("region", name="Paused")).to_contain_text("Paused by operator: The feeds move.")
    page.locator("#undo").click()
    expect(page.locator("#queue-running")).to_have_text("number 2")
    page.get_by_role("checkbox", name="Select “number 3”").check()
    page.locator("#selected-pause-more").click()
    page.locator("#selected-pause").click()
    expect_order(page, 1)
    page.get_by_text("Hold queue…").click()
    page.locator("#queue-reason").fill("why")
    page.locator("#queue-hold-button").click()
    expect(page.locator(".queue-held")).to_contain_text("why")


def test_everything_can_be_reached_and_pressed_by_keyboard_alone(open_page, waiting):
    _, second, third = waiting
    page = open_page(QUEUE)
    tab_to(page, page.locator(f"#more-{third.pk}"))
    page.keyboard.press("Enter")
    tab_to(page, button(page, "to", third))
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    expect(page.locator("#move-confirm")).to_be_focused()
    page.keyboard.press("Space")
    expect_order(page, 1, 3, 2)
    expect(row(page, third)).to_be_focused()
    tab_to(page, button(page, "select", second))
    page.keyboard.press("Space")
    expect(button(page, "select", second)).to_be_checked()
    tab_to(page, page.locator("#selected-pause-more"), "Shift+Tab")
    page.keyboard.press("Enter")
    tab_to(page, page.locator("#selected-pause"))
    page.keyboard.press("Enter")
    expect_order(page, 1, 3)


@pytest.mark.parametrize("javascript", [True, False])
def test_enter_on_a_checkbox_presses_no_button(open_page, waiting, javascript):
    BatchManager().hold_queue("so that the first button of the form releases it")
    logs = BatchLog.objects.count()
    page = open_page(QUEUE, java_script_enabled=javascript)
    button(page, "select", waiting[2]).press("Enter")
    press_in_menu(page, "up", waiting[2])
    expect(page.locator("#move-effect")).to_be_visible()
    assert BatchLog.objects.count() == logs


def test_on_a_phone_buttons_are_large_and_a_move_is_confirmed_without_scrolling(open_page, waiting):
    page = open_page(QUEUE, **PHONE)
    page.locator(f"#more-{waiting[1].pk}").tap()
    button(page, "down", waiting[1]).tap()
    expect(page.locator("#move-confirm")).to_be_in_viewport()
    page.locator("#move-cancel").tap()
    button(page, "select", waiting[0]).tap()
    expect(page.locator("#selected-pause-more")).to_be_in_viewport()
    page.locator("#selected-pause-more").tap()
    expect(page.locator("#selected-pause")).to_be_in_viewport(ratio=1)
    boxes = [element.bounding_box() for element in page.locator("#queue .button:visible").all()]
    assert min(box["height"] for box in boxes if box) >= 30
