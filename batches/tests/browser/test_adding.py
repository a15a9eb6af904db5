"""Adding a batch in a real browser: by paste and by file; by keyboard and on a phone."""

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from batches.models import Batch, Profile
from batches.web.error_pages import unavailable
from batches.web.server import Busy

from .steps import PHONE, tab_to

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

ADD = reverse("admin:batches_batch_add")
#: Clicks twice, and returns whether the script stopped the second click.
CLICK_TWICE = """button => {
    let isStopped;
    button.click();
    button.form.addEventListener("submit", event => { isStopped = event.defaultPrevented; });
    button.click();
    return isStopped;
}"""


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def expect_preview(page, profiles):
    expect(page.get_by_role("heading", name=f"Preview: {profiles}")).to_be_focused()


def expect_added(page, name):
    expect(page.locator(".messagelist .success")).to_contain_text(f"“{name}” was added")


def read_counts(page):
    names, values = (page.locator(f"#add-preview {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


def test_a_list_is_pasted_previewed_corrected_and_added_by_keyboard_alone(open_page):
    page = open_page(ADD)
    page.locator("#id_name").focus()
    page.keyboard.type("Morning")
    tab_to(page, page.locator("#id_addresses"))
    page.keyboard.insert_text("https://a.example/1\nhttps://a.example/1\nnonsense\nhttps://b.example/2")
    tab_to(page, button(page, "Preview"))
    page.keyboard.press("Enter")
    expect_preview(page, "2 profiles.")
    counts = read_counts(page)
    assert (counts["New"], counts["Duplicates skipped"], counts["Rejected lines"]) == ("2", "1", "1")
    expect(page.get_by_role("row", name="3 nonsense")).to_be_visible()
    assert not Profile.objects.exists()

    tab_to(page, page.locator("#id_addresses"), "Shift+Tab")
    page.keyboard.press("Control+End")
    page.keyboard.insert_text("\nhttps://b.example/3")
    expect(page.locator("#add-status")).to_contain_text("Preview it again.")
    expect(button(page, "Add batch")).to_have_count(0)
    expect(page.get_by_role("row", name="3 nonsense")).to_be_visible()
    tab_to(page, button(page, "Preview again"))
    page.keyboard.press("Enter")
    expect_preview(page, "3 profiles.")
    tab_to(page, button(page, "Add batch"))
    page.keyboard.press("Enter")
    expect_added(page, "Morning")
    assert Batch.objects.get().total_profiles == 3


def test_a_chosen_file_stays_chosen_through_errors_and_preview_on_a_phone(open_page, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url,name\nhttps://a.example/1,One\nnonsense,Two\n")
    page = open_page(ADD, **PHONE)
    page.locator("#id_file").set_input_files(path)
    page.get_by_label("Strict").check()
    button(page, "Preview").tap()
    name = page.locator("#id_name")
    expect(name).to_be_focused()
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#id_name_error")).to_be_visible()
    expect(page.locator(".field-file .errorlist")).to_contain_text("line 3")
    name.fill("By phone")
    page.get_by_label("Strict").uncheck()
    button(page, "Preview").tap()
    expect_preview(page, "1 profile.")
    expect(page.locator(".errorlist, .errornote, [aria-invalid]")).to_have_count(0)
    assert page.locator("#id_file").evaluate("input => input.files[0].name") == "list.csv"
    with page.expect_download() as download:
        button(page, "Download 1 rejected line").tap()
    assert download.value.path().read_text().splitlines()[1] == "3,nonsense,It has no scheme; start it with https://."
    expect(page.locator("#add-title")).to_be_visible()
    assert button(page, "Add batch").evaluate(CLICK_TWICE)
    expect_added(page, "By phone")
    assert Batch.objects.get().name == "By phone"
    page.go_back()
    page.locator("#id_name").fill("Another")
    page.locator("#id_file").set_input_files(path)
    button(page, "Preview").tap()
    button(page, "Add batch").tap()
    expect_added(page, "Another")


def test_a_refused_upload_says_why(open_page, problems):
    problems.expected.append("status of 503")
    page = open_page(ADD)
    bodies = [unavailable("Our page says this.").content, Busy("The server says this.").to_response()[2]]
    page.route("**/add/", lambda route: route.fulfill(status=503, body=bodies.pop(0)))
    page.locator("#id_addresses").fill("https://a.example/1")
    for who in ("Our page", "The server"):
        button(page, "Preview").click()
        expect(page.locator("#add-status")).to_have_text(f"{who} says this.")


def test_a_list_that_is_too_large_and_a_server_that_does_not_answer_lose_nothing(
    open_page, problems, settings, tmp_path
):
    problems.expected += ["status of 403", "ERR_FAILED"]
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10_050
    page = open_page(ADD)
    text, said = page.locator("#id_addresses"), page.locator("#add-status")
    page.locator("#id_name").fill("Kept")
    text.fill("https://a.example/1\n" * 3)
    button(page, "Preview").click()
    expect(page.locator("#id_addresses_error")).to_be_visible()
    expect(text).to_be_focused()
    text.fill("https://a.example/1")
    with (tmp_path / "list.txt").open("wb") as file:
        file.truncate(200_000_001)
    page.locator("#id_file").set_input_files(tmp_path / "list.txt")
    button(page, "Preview").click()
    expect(page.locator("#id_file_error")).to_be_visible()
    page.locator("#id_file").set_input_files([])
    page.route("**/add/", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    button(page, "Preview").click()
    expect(said).to_contain_text("nothing is lost")
    page.unroute("**/add/")
    cookies = page.context.cookies()
    page.context.clear_cookies()
    button(page, "Preview").click()
    expect(said).to_contain_text("403")
    page.context.add_cookies(cookies)
    button(page, "Preview").click()
    expect_preview(page, "1 profile.")
    expect(page.locator(".errorlist")).to_have_count(0)
