"""Every page shows texts of strangers as text: in names, errors, titles, links, file names and addresses."""

import re
from itertools import cycle, islice

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import (
    Batch,
    BatchLog,
    BatchProfile,
    Profile,
    ProfileList,
    Queue,
    Redirect,
    StoryResult,
    Subscription,
    Webhook,
    WebhookDelivery,
)

from ..admin.conftest import batch_with, page_of, story
from .pages import every_page, is_scripted, make_rows
from .steps import poll_now

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

#: Each would make an element of the class "injected", or call `alert`.
MARKUP = [
    "<script class=injected>alert(1)</script>",
    "</script><script class=injected>alert(1)</script>",
    "<img class=injected src=x onerror=alert(1)>",
    "<svg class=injected onload=alert(1)>",
    '"><img class=injected src=x onerror=alert(1)>',
    "'><img class=injected src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" class="injected',
    "' onfocus='alert(1)' autofocus class='injected",
    "</textarea></title></option></select><img class=injected src=x onerror=alert(1)>",
    "--><img class=injected src=x onerror=alert(1)><!--",
    "&lt;img class=injected src=x onerror=alert(1)&gt;",
    "{{ 7|add:7 }}{% load static %}{{ injected.secret }}${alert(1)}#{alert(1)}",
    "\uff1cscript class=injected\uff1ealert(1)\uff1c/script\uff1e",
    "\u202e<script class=injected>alert(1)</script>\u2066\u200b\ufeff",
    "\u2028alert(1)//\u2029injected",
    "\\u003cscript class=injected\\u003ealert(1)",
    "%3Cscript class=injected%3Ealert(1)%3C/script%3E",
]
LINKS = [
    "javascript:alert('injected')",
    " javascript:alert('injected')",
    "java\tscript:alert('injected')",
    "\x01javascript:alert('injected')",
    "&#106;avascript:alert('injected')",
    "data:text/html,<script class=injected>alert(1)</script>",
    "//evil.example.org/injected",
    'https://example.org/"onmouseover="alert(1)"class="injected',
    "https://example.org/'><script class=injected>alert(1)</script>",
]
PAYLOADS = MARKUP + LINKS
EACH_LENGTH = [
    pytest.param(PAYLOADS[::3], id="slice"),
    pytest.param(PAYLOADS, id="all", marks=pytest.mark.exhaustive),
]

#: The columns on the pages that strangers write, directly or by their servers, and those that users write.
TEXTS = {
    Batch: ["name", "error"],
    ProfileList: ["name", "checker"],
    Profile: ["url", "name", "last_error", "etag", "last_modified"],
    BatchProfile: ["error"],
    StoryResult: ["story_id", "title", "url"],
    BatchLog: ["actor", "message"],
    Queue: ["held_by", "hold_reason"],
    Redirect: ["url"],
    LogEntry: ["object_repr", "change_message"],
    Subscription: ["address"],
    Webhook: ["name", "url"],
    WebhookDelivery: ["error", "payload"],
    User: ["username", "first_name", "last_name", "email"],
    Group: ["name"],
}
COLUMNS = {f"{model.__name__}.{field}" for model, fields in TEXTS.items() for field in fields}
#: Links begin with another payload in each row, and mostly have no other. Other columns have all payloads in each row.
LINK_FIELDS = {"url"}
#: Tables with more rows have all payloads only in the rows that the pages show, and one payload in the others.
MAX_FULL_ROWS = 15
MARK = re.compile("‹([A-Za-z]+[.][a-z_]+)(?: [0-9]+)?›")

#: JavaScript that returns the elements which a payload made.
FIND_HARM = """root => [
    ...root.querySelectorAll(".injected"),
    ...[...root.querySelectorAll("*")].filter(element => [...element.attributes].some(({name, value}) =>
        name.startsWith("on") || (["href", "src", "action", "formaction", "xlink:href"].includes(name)
            && !/^https?:$/.test(new URL(value, location).protocol)))),
].map(element => element.outerHTML.slice(0, 200))"""
#: JavaScript that returns all text and attributes as the browser has read them, without the escapes.
READ_TEXTS = """root => {
    root.querySelectorAll("br").forEach(line => line.replaceWith("\\n"))
    const values = [...root.querySelectorAll("*")].flatMap(element => [...element.attributes].map(({value}) => value))
    return [root.documentElement.textContent, ...values].join("\\n")
}"""


def find_harm(page):
    return page.evaluate(f"({FIND_HARM})(document)")


@pytest.mark.parametrize("payloads", EACH_LENGTH)
def test_every_page_shows_strangers_texts_as_text(open_page, problems, payloads):
    """Without the policy, which would hide a missing escape. It opens only the pages that scripts change."""
    problems.expected.append("status of 409")
    page = open_page("/admin/password_change/done/", bypass_csp=True)
    rows = make_hostile_rows(payloads)
    pages = every_page()
    fetched = [[name, each.address(rows)] for name, each in pages.items() if not is_scripted(each)]
    found = page.evaluate(FETCH_PAGES, fetched)
    found += (open_and_read(page, name, each, rows) for name, each in pages.items() if is_scripted(each))
    seen = set()
    for name, harm, text in found:
        assert (harm, problems.take_unexpected()) == ([], []), name
        here = find_payloads(text, payloads)
        assert {payload for _, payload in here} == set(payloads), name  # at least in the user's own name
        seen |= here
    assert seen == {(column, payload) for column in COLUMNS for payload in payloads}


def open_and_read(page, name, each, rows):
    each.open(page, rows)
    return name, find_harm(page), page.evaluate(f"({READ_TEXTS})(document)")


def find_payloads(text, payloads):
    """Return each (column, payload) that the text contains in full."""
    longest_first = sorted(payloads, key=len, reverse=True)
    marked = {(mark[1], text[max(0, mark.start() - 150) : mark.start() - 1]) for mark in MARK.finditer(text)}
    endings = {(column, next(filter(before.endswith, longest_first), None)) for column, before in marked}
    return {(column, payload) for column, payload in endings if payload is not None}


def make_hostile_rows(payloads):
    stories = [story(f"story {number}") for number in range(len(payloads))]
    done = batch_with("done", ok=1, failed=len(payloads), pending=0, stories=stories)
    rows = make_rows()
    rows.done = done
    BatchProfile.objects.filter(pk=rows.batchprofile.pk).update(batch=done)
    Webhook.objects.bulk_create(Webhook(url=f"https://example.org/{number}") for number in range(len(payloads)))
    LogEntry.objects.update(user=User.objects.get(is_superuser=True))  # the overview shows the user's own entries
    for model, fields in TEXTS.items():
        for field in fields:
            poison(model, field, payloads, {row.pk for row in vars(rows).values() if isinstance(row, model)})
    return rows


def poison(model, field, payloads, full):
    """Write the payloads into the column: all into the rows with the keys `full`. SQLite ignores maximum lengths."""
    mark, keys = f"{model.__name__}.{field}", list(model._base_manager.values_list("pk", flat=True))
    for number, pk in enumerate(keys):
        texts = [f"{payload} ‹{mark}›" for payload in islice(cycle(payloads), number, number + len(payloads))]
        if field in LINK_FIELDS and pk not in full:
            texts = [f"{payloads[number % len(payloads)]} ‹{mark} {number}›"]
        elif len(keys) > MAX_FULL_ROWS and pk not in full:
            texts = texts[:1]
        model._base_manager.filter(pk=pk).update(**{field: "¦".join(texts)})


def test_updates_and_messages_show_strangers_texts_as_text(open_page):
    batch = batch_with()
    page = open_page(page_of(batch), bypass_csp=True)
    BatchManager(MARKUP[0]).rename_batch(batch.pk, MARKUP[1])
    poll_now(page)
    expect(page.locator("#batch-name")).to_have_text(MARKUP[1])
    expect(page.locator("#batch-log tbody tr").first).to_contain_text(MARKUP[0])
    page.locator("#pause_batch").click()
    expect(page.locator("#batch-messages")).to_contain_text(MARKUP[1])
    assert find_harm(page) == []


#: JavaScript that fetches these pages, and returns the faults and the text of each.
FETCH_PAGES = f"""addresses => Promise.all(addresses.map(async ([name, address]) => {{
    const html = await (await fetch(address)).text()
    const page = new DOMParser().parseFromString(html, "text/html")
    return [name, ({FIND_HARM})(page), ({READ_TEXTS})(page)]
}}))"""
