"""The queue page in a real browser: steering by mouse, by keyboard, without JavaScript and on a phone."""

import re

import pytest
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog

from ..admin.conftest import QUEUE, batch_with
from .steps import CONFLICT, PHONE, assert_not_reloaded, button, expect_refusal, mark, poll_now, stop_polling, tab_to

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


def select(page, *batches):
    for batch in batches:
        page.locator(f"#select-{batch.pk}").check()


def test_a_move_is_previewed_cancelled_confirmed_and_undone(open_page, waiting):
    page = open_page(QUEUE)
    mark(page)
    button(page, "up", waiting[2]).click()
    page.locator("#move-cancel").click()
    expect(page.locator("#move-effect")).to_have_count(0)
    expect(row(page, waiting[2])).to_be_focused()
    button(page, "top", waiting[2]).click()
    expect(page.locator("#move-effect")).to_contain_text("from 3 to 1")
    expect_order(page, 1, 2, 3)
    page.get_by_role("button", name="Move", exact=True).click()
    expect_order(page, 3, 1, 2)
    expect(page.locator("#queue-preview")).to_be_empty()
    expect(page).to_have_url(re.compile(f"{QUEUE}(\\?p=1)?$"))
    page.get_by_role("button", name="Undo").click()
    expect_order(page, 1, 2, 3)
    assert_not_reloaded(page)


def test_a_batch_can_be_dragged_to_its_place(open_page, waiting):
    page = open_page(QUEUE)
    row(page, waiting[2]).locator(".queue-handle").drag_to(row(page, waiting[0]))
    expect(page.locator("#move-effect")).to_contain_text("from 3 to 1")


@pytest.mark.parametrize(
    ("act", "place"),
    [(lambda page: page.locator("#move-confirm").click(), ".live-refusal"), (poll_now, "#queue-preview")],
    ids=["refused", "withdrawn"],
)
def test_a_move_from_a_stale_page_is_refused_or_withdrawn_with_the_fresh_order(
    open_page, waiting, problems, act, place
):
    problems.expected.append(CONFLICT)
    page = open_page(QUEUE)
    stop_polling(page)
    button(page, "top", waiting[2]).click()
    expect(page.locator("#move-confirm")).to_be_focused()
    BatchManager("bob").move_batch(waiting[2].pk, 2)
    act(page)
    expect(page.locator(place)).to_contain_text("The queue has changed")
    expect(page.locator("#move-confirm")).to_have_count(0)
    expect_order(page, 1, 3, 2)
    assert Batch.objects.get(position=2) == waiting[2]


def test_a_shown_move_stands_when_a_worker_starts_the_head(open_page, waiting):
    page = open_page(QUEUE)
    stop_polling(page)
    button(page, "top", waiting[2]).click()
    expect(page.locator("#move-effect")).to_contain_text("Delays “number 1”, “number 2”.")
    BatchManager().claim_run("a worker")
    poll_now(page)
    expect_order(page, 2, 3)
    expect(page.locator("#move-effect")).to_contain_text("Delays “number 2”.")
    page.locator("#move-confirm").click()
    expect_order(page, 3, 2)


def test_selected_batches_are_paused_and_deleted(open_page, waiting, problems):
    problems.expected.append(CONFLICT)
    first, _, third = waiting
    done = batch_with("done", name="the done one")
    page = open_page(QUEUE)
    pause = page.get_by_role("group", name="With selected").get_by_role("button", name="Pause")
    pause.click()
    expect_refusal(pause, "selected")
    select(page, first, third, done)
    pause.click()
    expect_order(page, 2)
    expect(page.locator("#queue-messages")).to_contain_text("“the done one”")
    expect(page.locator("#queue :checked")).to_have_count(0)
    page.get_by_role("checkbox", name="All 2 paused").check()
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
    page.get_by_role("spinbutton", name="Move “number 1” to position").fill("2")
    button(page, "move", first).click()
    page.locator("#move-confirm").click()
    expect_order(page, 2, 1, 3)
    page.locator("#undo").click()
    expect_order(page, 1, 2, 3)
    button(page, "start_batch", second).click()
    expect_order(page, 1, 3)
    page.get_by_role("checkbox", name="Select “number 3”").check()
    page.locator("#selected-pause").click()
    expect_order(page, 1)
    page.get_by_text("Hold queue…").click()
    page.get_by_label("Reason").fill("why")
    page.locator("#queue-hold-button").click()
    expect(page.locator(".queue-held")).to_contain_text("why")


def test_everything_can_be_reached_and_pressed_by_keyboard_alone(open_page, waiting):
    _, second, third = waiting
    page = open_page(QUEUE)
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
    tab_to(page, page.locator("#selected-pause"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect_order(page, 1, 3)


@pytest.mark.parametrize("javascript", [True, False])
def test_enter_on_a_checkbox_presses_no_button(open_page, waiting, javascript):
    BatchManager().hold_queue("so that the first button of the form releases it")
    logs = BatchLog.objects.count()
    page = open_page(QUEUE, java_script_enabled=javascript)
    button(page, "select", waiting[2]).press("Enter")
    button(page, "top", waiting[2]).click()
    expect(page.locator("#move-effect")).to_be_visible()
    assert BatchLog.objects.count() == logs


def test_on_a_phone_buttons_are_large_and_a_move_is_confirmed_without_scrolling(open_page, waiting):
    page = open_page(QUEUE, **PHONE)
    button(page, "top", waiting[1]).tap()
    expect(page.locator("#move-confirm")).to_be_in_viewport()
    boxes = [element.bounding_box() for element in page.locator("#queue .button").all()]
    assert min(box["height"] for box in boxes if box) >= 30
