"""The API documentation: it keeps the strict policy, loads nothing from elsewhere, and works with a token."""

import pytest
from playwright.sync_api import expect

from batches.models import Batch
from batches.tests.support.factories import api_key

from ..admin.conftest import batch_with, user_of
from .test_hostile_texts import MARKUP, PAYLOADS

LIGHT, DARK = "rgb(250, 250, 250)", "rgb(28, 32, 34)"

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]


def test_anybody_can_read_it_and_a_token_lets_them_try_calls(open_page, problems, live_server):
    problems.expected += ["status of 401"]
    batch_with("queued")
    Batch.objects.update(name="¦".join(PAYLOADS))
    key = api_key(user_of("superuser"))
    requests = []
    page = open_page("about:blank", role="anonymous")
    page.on("request", lambda request: requests.append(request.url))
    policy = page.goto("/api/docs/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy

    expect(page.locator(".opblock-tag")).to_have_count(9)
    assert [address for address in requests if not address.startswith((live_server.url, "data:"))] == []

    for scheme, chosen, background in (
        ("light", "auto", LIGHT),
        ("dark", "auto", DARK),
        ("light", "dark", DARK),
        ("dark", "light", LIGHT),
    ):
        page.evaluate("chosen => localStorage.setItem('theme', chosen)", chosen)
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("html")).to_have_css("background-color", background)
    page.reload()
    expect(page.locator("html")).to_have_css("background-color", LIGHT)

    call = page.locator("#operations-queue-queue_retrieve")
    call.locator(".opblock-summary").click()
    call.get_by_role("button", name="Try it out").click()
    call.get_by_role("button", name="Execute").click()
    response = call.locator(".live-responses-table tbody")
    expect(response.locator(".response-col_status").first).to_contain_text("401")

    page.get_by_role("button", name="Authorize").click()
    token_form = page.locator(".auth-container", has_text="In: header")
    token_form.locator("input").fill(f"Token {key}")
    token_form.get_by_role("button", name="Apply credentials").click()
    token_form.get_by_role("button", name="Close").click()
    call.get_by_role("button", name="Execute").click()
    expect(response.locator(".response-col_status").first).to_contain_text("200")
    expect(response.locator(".response-col_description").first).to_contain_text(MARKUP[0])
    expect(page.locator(".injected")).to_have_count(0)
