"""Making a batch in a real browser: by paste, by file, from the profile list; by keyboard, on a phone, in the dark."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import Batch, Profile

from .test_queue_page import PHONE, assert_accessible

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

ADD = reverse("admin:batches_batch_add")
PROFILES = reverse("admin:batches_profile_changelist")
#: Whether the second click is stopped.
CLICK_TWICE = """button => {
    let isStopped;
    button.click();
    button.form.addEventListener("submit", event => { isStopped = event.defaultPrevented; });
    button.click();
    return isStopped;
}"""
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def press_until_focused(page, locator, key="Tab", limit=80):
    for _ in range(limit):
        if locator.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not reach {locator}")


def counts(page):
    names, values = (page.locator(f"#add-preview {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def assert_fits(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_list_is_pasted_previewed_corrected_and_added_by_keyboard_alone(open_page):
    page = open_page(ADD, color_scheme="dark")
    said = page.locator("#add-status")
    page.locator("#id_name").focus()
    page.keyboard.type("Morning")
    press_until_focused(page, page.locator("#id_addresses"))
    page.keyboard.insert_text(f"https://a.example/1\nhttps://a.example/1\nno {SCRIPT}\nhttps://b.example/2")
    press_until_focused(page, page.get_by_role("button", name="Preview"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Preview: 2 profiles. Nothing is stored yet.")).to_be_focused()
    found = counts(page)
    assert (found["New"], found["Duplicates skipped"], found["Rejected lines"]) == ("2", "1", "1")
    expect(page.get_by_role("row", name="3 no <script>")).to_be_visible()
    assert_accessible(page)
    assert not Profile.objects.exists()

    press_until_focused(page, page.locator("#id_addresses"), "Shift+Tab")
    page.keyboard.press("Control+End")
    page.keyboard.insert_text("\nhttps://b.example/3")
    expect(said).to_have_text("The list has changed since this preview. Preview it again.")
    expect(page.get_by_role("button", name="Add batch")).to_have_count(0)
    expect(page.get_by_role("row", name="3 no <script>")).to_be_visible()
    assert_accessible(page)
    press_until_focused(page, page.get_by_role("button", name="Preview again"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Preview: 3 profiles")).to_be_focused()
    press_until_focused(page, page.get_by_role("button", name="Add batch"))
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist .success")).to_contain_text("“Morning” was added and waits at position 1")
    assert Batch.objects.get().total_profiles == 3


def test_a_chosen_file_stays_chosen_through_errors_and_preview_on_a_phone(open_page, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url,name\nhttps://a.example/1,One\nnonsense,Two\n")
    page = open_page(ADD, **PHONE)
    page.locator("#id_file").set_input_files(path)
    page.get_by_label("Strict").check()
    page.get_by_role("button", name="Preview").tap()
    name = page.locator("#id_name")
    expect(name).to_be_focused()
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#id_name_error")).to_have_text("This field is required.")
    expect(page.locator(".field-file .errorlist")).to_contain_text("1 entry is not valid (line 3")
    assert_accessible(page)
    assert_fits(page)
    name.fill("By phone")
    page.get_by_label("Strict").uncheck()
    page.get_by_role("button", name="Preview").tap()
    expect(page.get_by_role("heading", name="Preview: 1 profile,")).to_be_focused()
    expect(page.locator(".errorlist, .errornote, [aria-invalid]")).to_have_count(0)
    assert page.locator("#id_file").evaluate("input => input.files[0].name") == "list.csv"
    assert_accessible(page)
    assert_fits(page)
    assert page.get_by_role("button", name="Add batch").evaluate(CLICK_TWICE)
    expect(page.locator(".messagelist .success")).to_contain_text("“By phone” was added")
    assert Batch.objects.get().name == "By phone"
    page.go_back()
    page.locator("#id_name").fill("Another")
    page.locator("#id_file").set_input_files(path)
    page.get_by_role("button", name="Preview").tap()
    page.get_by_role("button", name="Add batch").tap()
    expect(page.locator(".messagelist .success")).to_contain_text("“Another” was added")


def test_what_cannot_be_sent_and_a_server_that_does_not_answer_lose_nothing(open_page, problems, settings, tmp_path):
    problems.expected += ["status of 403", "ERR_FAILED"]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_050
    page = open_page(ADD)
    page.locator("#id_name").fill("Kept")
    page.locator("#id_addresses").fill("https://a.example/1\n" * 3)
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#id_addresses_error")).to_have_text(
        "This is too much to paste. Save it as a file, and upload that."
    )
    expect(page.locator("#id_addresses")).to_be_focused()
    page.locator("#id_addresses").fill("https://a.example/1")
    with (tmp_path / "list.txt").open("wb") as file:
        file.truncate(200_000_001)
    page.locator("#id_file").set_input_files(tmp_path / "list.txt")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#id_file_error")).to_have_text("This file is too large to be read. Split it into several.")
    page.locator("#id_file").set_input_files([])
    page.route("**/add/", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#add-status")).to_contain_text("Try again; nothing is lost.")
    page.unroute("**/add/")
    cookies = page.context.cookies()
    page.context.clear_cookies()
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#add-status")).to_contain_text("HTTP status 403")
    page.context.add_cookies(cookies)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("heading", name="Preview: 1 profile,")).to_be_focused()
    expect(page.locator(".errorlist")).to_have_count(0)


def test_without_javascript_the_file_becomes_a_text_and_nothing_is_lost(open_page, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("https://a.example/1\nnonsense\n")
    page = open_page(ADD, java_script_enabled=False)
    page.locator("#id_name").fill("Plain")
    page.locator("#id_file").set_input_files(path)
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#id_addresses")).to_have_value("https://a.example/1\nnonsense\n")
    expect(page.locator("#id_addresses_helptext")).to_contain_text("This is the content of “list.txt”")
    expect(page.get_by_role("heading", name="Preview: 1 profile,")).to_be_in_viewport()
    page.get_by_role("button", name="Add batch").click()
    expect(page.locator(".messagelist .success")).to_contain_text("“Plain” was added")


def test_selected_profiles_are_checked_by_keyboard_and_all_that_match_on_a_phone(open_page):
    BatchManager("maker").create_batch("first", [f"https://a.example/{number}" for number in range(130)])
    Profile.objects.filter(url__endswith="1").update(last_error="broken")
    page = open_page(f"{PROFILES}?check=failed", color_scheme="dark")
    boxes = page.get_by_role("checkbox", name="Select this object for an action")
    for number in (0, 1):
        press_until_focused(page, boxes.nth(number))
        page.keyboard.press("Space")
    press_until_focused(page, page.get_by_label("Action:"), "Shift+Tab")
    page.keyboard.type("Check")
    press_until_focused(page, page.get_by_role("button", name="Go"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="2 profiles will be checked")).to_be_visible()
    assert_accessible(page)
    press_until_focused(page, page.get_by_role("button", name="Check selected"))
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist .success")).to_contain_text("“2 selected profiles” was added")

    page = open_page(f"{PROFILES}?q=a.example", role="checker", **PHONE)
    page.locator("#action-toggle").tap()
    page.get_by_role("button", name="Select all 130 profiles").tap()
    page.get_by_label("Action:").select_option("check_selected")
    page.get_by_role("button", name="Go").tap()
    expect(page.get_by_role("heading", name="130 profiles will be checked")).to_be_visible()
    assert_fits(page)
    assert_accessible(page)
    assert page.get_by_role("button", name="Check all 130 matching profiles").evaluate(CLICK_TWICE)
    expect(page.locator(".messagelist .success")).to_contain_text("“Search: “a.example”” was added")
    assert sorted(Batch.objects.values_list("total_profiles", flat=True)) == [2, 130, 130]
