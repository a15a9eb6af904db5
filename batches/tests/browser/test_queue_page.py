"""The live queue page in a real browser: what moves without a reload, by mouse, by keyboard, on a phone, and when the
server is gone.
"""

import os
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.urls import reverse
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.checking.checkers.base import CheckResult
from batches.models import Batch, BatchLog

from ..admin.conftest import batch_with
from .conftest import WebServer

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

PAGE = reverse("admin:batches_batch_queue")
LIVE = reverse("admin:batches_batch_queue_live")
CONFLICT = "status of 409"
PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
SCRIPT = """<script>alert(1)</script><img src=x onerror=alert(2)>'"></li><svg/onload=alert(3)>"""


def waiting(number):
    """So many queued batches, named by their positions."""
    return [batch_with(name=f"number {position}") for position in range(1, number + 1)]


def busy():
    """Batches in every section; a worker is at work on one, and it is known how fast it goes."""
    for status in ("done", "paused", "error"):
        batch_with(status, name=f"the {status} one", ok=2, failed=1)
    batches = waiting(3)
    running = batch_with("running", name="the running one", ok=3, failed=1, pending=6)
    Batch.objects.filter(pk=running.pk).update(run_seconds=2)
    return batches


def button(page, call, batch):
    return page.locator(f"#{call}-{batch.pk}")


def row(page, batch):
    return page.locator(f"#batch-{batch.pk}")


def order(page):
    return page.locator("#queue-waiting .queue-name")


def expect_order(page, *numbers):
    expect(order(page)).to_have_text([f"number {number}" for number in numbers])


def expect_refusal(page, button, text):
    """Directly beside the button that caused it."""
    note = page.locator(f"#{button.get_attribute('id')} + .live-refusal")
    expect(note).to_contain_text(text)
    expect(page.locator("#queue-announce")).to_contain_text(text)


def stop_live(page):
    page.get_by_role("switch").click()
    expect(page.get_by_role("switch")).not_to_be_checked()


def remember(page):
    page.evaluate("window.remembered = true")


def assert_not_reloaded(page):
    assert page.evaluate("window.remembered === true")


def look_now(page):
    """Without waiting for the next turn, which would come too."""
    page.evaluate("dispatchEvent(new Event('online'))")


# Live


def test_what_happens_elsewhere_is_seen_without_a_reload(open_page):
    page = open_page(PAGE)
    remember(page)
    batch = batch_with(name="Morning feeds", pending=4)
    expect(row(page, batch)).to_contain_text("Waiting: no worker heartbeat yet")
    run = BatchManager("host:1", "worker").claim_run("host:1")
    expect(page.locator("#queue-running")).to_contain_text("Morning feeds")
    rows = batch.profiles.values_list("profile_id", flat=True)[:3]
    BatchManager().record_results(batch.pk, run.run_token, [(pk, CheckResult(ok=True)) for pk in rows])
    expect(page.locator("#queue-run-facts")).to_contain_text("3 of 4")
    expect(page.locator("#queue-run-facts")).to_contain_text("alive")
    expect(page.locator("#queue-summary")).to_contain_text("“Morning feeds” is running.")
    assert_not_reloaded(page)


def test_it_looks_every_two_seconds_while_it_is_visible_and_live(open_page):
    page = open_with_stopped_clock(open_page)
    looks = []
    page.on("request", lambda request: looks.append(request.url) if LIVE in request.url else None)
    with page.expect_response(f"**{LIVE}"):
        page.clock.run_for(2_000)
    show(page, hidden=True)
    page.clock.run_for(60_000)
    with page.expect_response(f"**{LIVE}"):
        look_now(page)
    page.clock.run_for(60_000)
    with page.expect_response(f"**{LIVE}"):
        show(page, hidden=False)
    with page.expect_response(f"**{LIVE}"):
        stop_live(page)
    page.clock.run_for(60_000)
    expect(page.locator("#queue")).to_have_class(re.compile("live-is-stopped"))
    assert len(looks) == 4


def open_with_stopped_clock(open_page):
    page = open_page("about:blank")
    page.clock.install(time=0)
    page.clock.pause_at(1_000)
    page.goto(PAGE)
    return page


def show(page, hidden):
    page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{configurable: true, get: () => {str(hidden).lower()}}})"
    )
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_focus_ticks_and_what_was_typed_outlive_the_swap(open_page):
    first, second, third = waiting(3)
    page = open_page(PAGE)
    page.locator(f"#select-{third.pk}").check()
    page.locator(f"#to-{second.pk}").fill("3")
    button(page, "up", third).focus()
    BatchManager().pause_batch(first.pk)
    look_now(page)
    expect_order(page, 2, 3)
    expect(button(page, "up", third)).to_be_focused()
    expect(page.locator(f"#select-{third.pk}")).to_be_checked()
    expect(page.locator(f"#to-{second.pk}")).to_have_value("3")


def test_when_the_focused_button_is_gone_its_batch_has_the_focus(open_page):
    batch = batch_with()
    page = open_page(PAGE)
    button(page, "pause_batch", batch).click()
    expect(page.locator("#queue-settled")).to_contain_text("a batch")
    expect(row(page, batch)).to_be_focused()


def test_an_answer_from_before_a_click_does_not_bring_back_the_old_state(open_page):
    first, _ = waiting(2)
    page = open_page(PAGE)
    old = page.request.get(LIVE)
    late = []
    page.route(f"**{LIVE}", lambda route: late.append(route), times=1)
    with page.expect_request(f"**{LIVE}"):
        look_now(page)
    button(page, "pause_batch", first).click()
    expect_order(page, 2)
    stop_live(page)
    with page.expect_event("requestfinished", lambda request: LIVE in request.url):
        late[0].fulfill(body=old.text(), content_type="text/html")
    page.evaluate("new Promise(painted => requestAnimationFrame(() => setTimeout(painted)))")
    expect_order(page, 2)


def test_the_server_goes_away_and_comes_back(open_page, database_url, problems):
    batch = batch_with(name="before")
    problems.expected += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]
    server = WebServer(database_url, os.environ)
    try:
        server.start()
        page = open_page(PAGE, server=server.url)
        remember(page)
        server.kill()
        lost = page.locator("#queue-lost")
        expect(lost).to_contain_text("The server does not respond. The page was last updated")
        expect(page.locator("#queue-waiting").locator("..")).to_have_css("opacity", "0.5")
        button(page, "pause_batch", batch).click()
        expect_refusal(page, button(page, "pause_batch", batch), "The server does not respond. The action may")
        Batch.objects.filter(pk=batch.pk).update(name="after")
        server.start()
        look_now(page)
        expect(order(page)).to_have_text("after")
        expect(lost).to_be_empty()
        expect(page.locator("#queue-waiting").locator("..")).to_have_css("opacity", "1")
        assert_not_reloaded(page)
    finally:
        server.kill()


def test_it_tries_again_later_and_later(open_page, problems):
    problems.expected.append("ERR_FAILED")
    page = open_with_stopped_clock(open_page)
    page.route(f"**{LIVE}", lambda route: route.abort())
    tries = []
    page.on("request", lambda request: tries.append(request.url) if LIVE in request.url else None)
    for number, wait in enumerate([2_000, 4_000, 8_000, 16_000, 30_000, 30_000]):
        page.clock.run_for(wait - 1)
        page.evaluate("fetch('/static/batches/icon.svg').then(() => null)")  # a try that came too early came before it
        assert len(tries) == number
        with page.expect_event("requestfailed"):
            page.clock.run_for(1)
        expect(page.locator("#queue-lost")).to_contain_text("The server does not respond.")
    page.unroute(f"**{LIVE}")
    page.clock.run_for(30_000)
    expect(page.locator("#queue-lost")).to_be_empty()


def test_a_session_that_ran_out_leads_to_the_login_and_back(open_page, problems):
    problems.expected.append("status of 404")  # the login page, which is Django's own, names no icon
    batch_with(name="number 1")
    page = open_page(f"{PAGE}?q=number")
    user = User.objects.get()
    user.set_password("secret")
    user.save()
    Session.objects.all().delete()
    look_now(page)
    page.wait_for_url(re.compile(r"/admin/login/\?next="))
    page.get_by_label("Username").fill(user.username)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(re.compile(rf"{PAGE}\?q=number$"))
    expect_order(page, 1)


# Buttons


def test_start_pause_and_queue_by_click(open_page):
    _, second = waiting(2)
    page = open_page(PAGE, role="operator")
    remember(page)
    button(page, "start_batch", second).click()
    expect(page.locator("#queue-running")).to_contain_text("number 2")
    expect(page.locator("#queue-messages")).to_contain_text("“number 2” was started")
    button(page, "pause_batch", second).click()
    expect(page.locator("#queue-running")).to_contain_text("Nothing is running.")
    button(page, "queue_batch", second).click()
    expect_order(page, 1, 2)
    assert_not_reloaded(page)
    actions = BatchLog.objects.filter(batch=second, actor="operator", channel="admin").order_by("pk")
    assert [log.action for log in actions] == ["start_batch", "pause_batch", "queue_batch"]


def test_a_move_is_shown_confirmed_and_undone(open_page):
    *_, last = busy()
    page = open_page(PAGE)
    remember(page)
    button(page, "top", last).click()
    expect(page.locator("#move-effect")).to_contain_text("“number 3” moves from 3 to 1; starts")
    expect(page.locator("#move-effect")).to_contain_text("Delays “number 1”, “number 2” by")
    expect_order(page, 1, 2, 3)
    page.get_by_role("button", name="Move", exact=True).click()
    expect_order(page, 3, 1, 2)
    expect(page.locator("#queue-preview")).to_be_empty()
    expect(page).to_have_url(re.compile(f"{PAGE}(\\?p=1)?$"))
    page.get_by_role("button", name="Undo").click()
    expect_order(page, 1, 2, 3)
    assert_not_reloaded(page)


def test_a_move_can_be_cancelled(open_page):
    _, second = waiting(2)
    page = open_page(PAGE)
    button(page, "up", second).click()
    page.get_by_role("link", name="Cancel").click()
    expect(page.locator("#move-effect")).to_have_count(0)
    expect(row(page, second)).to_be_focused()
    expect_order(page, 1, 2)


def test_a_batch_can_be_dragged_to_its_place(open_page):
    first, _, third = waiting(3)
    page = open_page(PAGE)
    row(page, third).locator(".queue-handle").drag_to(row(page, first))
    expect(page.locator("#move-effect")).to_contain_text("“number 3” moves from 3 to 1")
    page.get_by_role("button", name="Move", exact=True).click()
    expect_order(page, 3, 1, 2)


def test_of_two_operators_who_move_the_same_batch_the_second_is_refused_and_sees_the_fresh_order(open_page, problems):
    problems.expected.append(CONFLICT)
    _, _, third = waiting(3)
    ada, bob = open_page(PAGE, role="operator"), open_page(PAGE, role="superuser")
    stop_live(bob)
    button(bob, "top", third).click()
    confirm = bob.locator("#move-confirm")
    expect(confirm).to_be_focused()

    button(ada, "up", third).click()
    ada.locator("#move-confirm").click()
    expect_order(ada, 1, 3, 2)

    confirm.click()
    expect(bob.locator(".live-refusal")).to_contain_text("The queue has changed")
    expect(bob.locator("#queue-preview")).to_contain_text("The queue has changed")
    expect_order(bob, 1, 3, 2)
    assert Batch.objects.get(position=2) == third


def test_a_move_that_waits_to_be_confirmed_cannot_be_once_the_queue_has_changed(open_page):
    first, second = waiting(2)
    page = open_page(PAGE)
    button(page, "top", second).click()
    expect(page.locator("#move-confirm")).to_be_visible()
    BatchManager().move_batch(first.pk, 2)
    look_now(page)
    expect(page.locator("#queue-preview")).to_contain_text("The queue has changed.")
    expect(page.locator("#move-confirm")).to_have_count(0)
    expect_order(page, 2, 1)


def test_a_refusal_stays_beside_its_button_until_the_next_one_is_pressed(open_page, problems):
    problems.expected.append(CONFLICT)
    first, second = waiting(2)
    page = open_page(PAGE)
    button(page, "start_batch", first).click()
    expect(page.locator("#queue-running")).to_contain_text("number 1")
    start = button(page, "start_batch", second)
    start.click()
    expect_refusal(page, start, "“number 1” is running, and only one batch can run at a time. Pause it first.")
    batch_with(name="number 3")
    look_now(page)
    expect_order(page, 2, 3)  # a swap later
    expect_refusal(page, start, "“number 1” is running")
    button(page, "pause_batch", second).click()
    expect(page.locator(".live-refusal")).to_have_count(0)


def test_several_are_paused_and_those_that_cannot_be_are_told(open_page):
    first, _, third = waiting(3)
    done = batch_with("done", name="the done one")
    page = open_page(PAGE)
    for batch in (first, third, done):
        page.locator(f"#select-{batch.pk}").check()
    page.get_by_role("group", name="With selected").get_by_role("button", name="Pause").click()
    expect_order(page, 2)
    expect(page.locator("#queue-messages")).to_contain_text("Pause: 2 done, 1 refused.")
    expect(page.locator("#queue-messages")).to_contain_text("“the done one” is done")
    expect(page.locator("#queue :checked")).to_have_count(0)
    page.get_by_role("checkbox", name="All 2 paused").check()
    page.get_by_role("group", name="With selected").get_by_role("button", name="Queue").click()
    expect(order(page)).to_have_count(3)


def test_nothing_selected_is_said_beside_the_button(open_page, problems):
    problems.expected.append(CONFLICT)
    page = open_page(PAGE)
    page.locator("#selected-pause").click()
    expect_refusal(page, page.locator("#selected-pause"), "No batch is selected.")


def test_deleting_asks_first(open_page):
    first, _ = waiting(2)
    page = open_page(PAGE)
    page.locator(f"#select-{first.pk}").check()
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("main")).to_contain_text("1 batch will be deleted")
    page.get_by_role("button", name="Yes, delete").click()
    expect_order(page, 2)


def test_the_queue_is_held_with_a_reason_and_released(open_page):
    waiting(1)
    page = open_page(PAGE, role="operator")
    page.get_by_text("Hold queue…").click()
    page.get_by_label("Reason").fill("the network is down")
    page.get_by_label("Reason").press("Enter")
    expect(page.locator(".queue-held")).to_contain_text("held by operator since")
    expect(page.locator(".queue-held")).to_contain_text("the network is down")
    expect(page.locator("#queue-waiting")).to_contain_text("Waiting: the queue is held by operator")
    page.get_by_role("button", name="Release queue").click()
    expect(page.locator(".queue-held")).to_have_count(0)
    expect(page.get_by_label("Reason")).to_have_value("")


def test_the_filter_is_part_of_the_address(open_page):
    waiting(2)
    batch_with(name="another")
    page = open_page(PAGE)
    page.get_by_label("Name contains").fill("number")
    page.get_by_label("Name contains").press("Enter")
    expect_order(page, 1, 2)
    expect(page).to_have_url(re.compile(r"\?q=number$"))
    page.go_back()
    expect(order(page)).to_have_count(3)


# Without JavaScript, without a mouse, without a wide screen


def test_everything_works_without_javascript(open_page):
    first, second, third = waiting(3)
    page = open_page(PAGE, role="operator", java_script_enabled=False)
    expect(page.get_by_role("switch")).to_be_hidden()
    expect(page.get_by_role("link", name="Refresh")).to_be_visible()
    button(page, "top", third).click()
    expect(page.locator("#move-effect")).to_contain_text("“number 3” moves from 3 to 1")
    page.locator("#move-confirm").click()
    expect_order(page, 3, 1, 2)
    page.locator("#undo").click()
    expect_order(page, 1, 2, 3)
    page.locator(f"#to-{first.pk}").fill("2")
    button(page, "move", first).click()
    page.locator("#move-confirm").click()
    expect_order(page, 2, 1, 3)
    button(page, "start_batch", second).click()
    button(page, "start_batch", first).click()
    expect(page.locator(".messagelist .warning")).to_contain_text("“number 2” is running")
    page.locator("#all-queued").check()
    page.locator("#selected-pause").click()
    expect(order(page)).to_have_count(0)
    page.get_by_text("Hold queue…").click()
    page.get_by_label("Reason").fill("why")
    page.locator("#queue-hold-button").click()
    expect(page.locator(".queue-held")).to_contain_text("why")
    page.locator("#queue-release").click()
    expect(page.locator(".queue-held")).to_have_count(0)


def test_everything_can_be_reached_and_pressed_by_the_keyboard_alone(open_page):
    _, second, third = waiting(3)
    page = open_page(PAGE)
    tab_to(page, f"top-{third.pk}")
    page.keyboard.press("Enter")
    expect(page.locator("#move-confirm")).to_be_focused()
    page.keyboard.press("Enter")
    expect_order(page, 3, 1, 2)
    expect(row(page, third)).to_be_focused()

    tab_to(page, f"to-{third.pk}")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    expect(page.locator("#move-confirm")).to_be_focused()
    page.keyboard.press("Space")
    expect_order(page, 1, 3, 2)

    tab_to(page, f"select-{second.pk}")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    expect(page.locator(f"#select-{second.pk}")).to_be_checked()
    tab_to(page, "selected-pause", "Shift+Tab")
    page.keyboard.press("Enter")
    expect_order(page, 1, 3)


@pytest.mark.parametrize("javascript", [True, False])
def test_enter_on_a_checkbox_presses_no_button(open_page, javascript):
    busy()
    BatchManager().hold_queue("so that there is a button above all others")
    last, logs = Batch.objects.get(position=3), BatchLog.objects.count()
    page = open_page(PAGE, java_script_enabled=javascript)
    page.locator(f"#select-{last.pk}").focus()
    page.keyboard.press("Enter")
    button(page, "top", last).click()
    expect(page.locator("#move-effect")).to_contain_text("moves from 3 to 1")
    assert BatchLog.objects.count() == logs


def tab_to(page, element_id, key="Tab"):
    for _ in range(80):
        page.keyboard.press(key)
        if page.evaluate("document.activeElement.id") == element_id:
            return
    pytest.fail(f"{key} never leads to {element_id}")


def test_what_a_button_does_and_for_which_batch_is_in_its_name(open_page):
    batch = batch_with(name="Morning feeds")
    page = open_page(PAGE)
    for name in ("Start now", "Pause", "Top", "Bottom"):
        expect(row(page, batch).get_by_role("button", name=f"{name}: “Morning feeds”")).to_have_count(1)
    expect(row(page, batch).get_by_role("checkbox", name="Select “Morning feeds”")).to_have_count(1)
    expect(row(page, batch).get_by_role("spinbutton", name="Move “Morning feeds” to position")).to_have_count(1)


def test_a_phone_needs_no_scrolling_sideways(open_page):
    _, second, _ = busy()
    Batch.objects.filter(pk=second.pk).update(name="x" * 200)
    Batch.objects.filter(status="error").update(error="y" * 2000)
    BatchManager("ada").hold_queue("z" * 300)
    page = open_page(PAGE, **PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    button(page, "top", second).tap()
    expect(page.locator("#move-confirm")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    sizes = [box["height"] for box in (b.bounding_box() for b in page.locator("#queue .button").all()) if box]
    assert min(sizes) >= 30


@pytest.mark.parametrize(("scheme", "width"), [("light", 1400), ("dark", 1400), ("light", 360)])
def test_axe_finds_nothing_serious(open_page, problems, scheme, width):
    problems.expected.append(CONFLICT)
    *_, last = busy()
    BatchManager("ada").hold_queue("why")
    page = open_page(PAGE, color_scheme=scheme, viewport={"width": width, "height": 900})
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"
    assert dark is (scheme == "dark")
    button(page, "start_batch", last).click()
    expect(page.locator(".live-refusal")).to_be_visible()
    assert_accessible(page)
    button(page, "top", last).click()
    expect(page.locator("#move-confirm")).to_be_focused()
    assert_accessible(page)


def assert_accessible(page):
    # Its preload puts style sheets into the page, which the policy forbids.
    results = Axe().run(page, options={"preload": False})
    serious = [found["id"] for found in results.response["violations"] if found["impact"] in {"serious", "critical"}]
    assert not serious, results.generate_report()


def test_no_script_in_any_text_is_run(open_page, problems):
    problems.expected.append(CONFLICT)
    busy()
    Batch.objects.update(name=SCRIPT[:200])
    Batch.objects.filter(status="error").update(error=SCRIPT)
    BatchLog.objects.update(actor=SCRIPT[:150], message=SCRIPT)
    BatchManager(SCRIPT).hold_queue(SCRIPT)
    first, second = Batch.objects.queued().order_by("position")[:2]
    BatchManager(SCRIPT).move_batch(second.pk, 1)
    page = open_page(PAGE)
    button(page, "start_batch", first).click()
    expect(page.locator(".live-refusal")).to_contain_text(SCRIPT[:100])
    button(page, "top", first).click()
    expect(page.locator("#move-effect")).to_contain_text(SCRIPT[:100])
    page.locator("#move-confirm").click()
    expect(page.locator("#queue-messages")).to_contain_text(SCRIPT[:100])
    page.get_by_label("Name contains").fill(SCRIPT[:25])
    page.get_by_label("Name contains").press("Enter")
    expect(page.locator("#queue-waiting .queue-about")).to_contain_text(f"With “{SCRIPT[:25]}” in the name")
    page.locator("#all-paused").check()
    page.locator("#selected-delete").click()
    expect(page.get_by_role("main")).to_contain_text(SCRIPT[:100])


def test_a_script_that_found_its_way_into_the_page_would_not_run(open_page, problems):
    page = open_page(PAGE)
    problems.expected += ["policy: script-src", "violates the following Content Security Policy", "status of 404"]
    with page.expect_console_message(lambda message: "policy: script-src" in message.text):
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")


def test_who_only_views_sees_it_live(open_page):
    page = open_page(PAGE, role="viewer")
    batch_with(name="number 1")
    look_now(page)
    expect_order(page, 1)
    expect(page.locator("#queue").get_by_role("button")).to_have_text(["Filter"])
