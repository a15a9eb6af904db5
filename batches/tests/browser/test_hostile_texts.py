"""Every page shows what a stranger wrote as text: in names, errors, titles, links, file names and addresses."""

import json
import re
from itertools import cycle, islice, product
from urllib.parse import quote, urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.urls import reverse
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.limits import MAX_NAME
from batches.models import Batch, BatchLog, BatchProfile, Profile, Queue, StoryResult, Webhook, WebhookDelivery
from batches.tests.support.urlconf import every_address

from ..admin.conftest import batch_with, story
from .pages import PAGES, make_rows
from .steps import QUEUE, page_of, poll_now

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

LOGIN = reverse("admin:login")
NOWHERE = ("/nothing/", "/admin/nothing/")
#: What a page may show again of its address.
PARAMETERS = ("q", "host", "batch", "error", "status__exact", "checker", "e", "o", "next", "_changelist_filters")

#: Each would make an element of the class "injected", or call `alert`.
MARKUP = [
    "<script class=injected>alert(1)</script>",
    "</script><script class=injected>alert(1)</script>",
    "<ScRiPt class=injected>alert(1)</sCrIpT >",
    "<script class=injected src=//evil.example.org/x.js></script>",
    "<img class=injected src=x onerror=alert(1)>",
    "<img class=injected src=x onerror=alert(1)//",
    "<img/class=injected/src=x/onerror=alert(1)>",
    "<svg class=injected onload=alert(1)>",
    "<svg><script class=injected>alert&#40;1)</script></svg>",
    "<svg><a class=injected xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
    "<math><mtext><img class=injected src=x onerror=alert(1)></mtext></math>",
    "<iframe class=injected srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<details class=injected open ontoggle=alert(1)>",
    "<input class=injected autofocus onfocus=alert(1)>",
    "<video class=injected><source onerror=alert(1)></video>",
    "<style class=injected>* { display: none }</style>",
    "<link class=injected rel=stylesheet href=//evil.example.org/x.css>",
    "<meta class=injected http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<base class=injected href=//evil.example.org/>",
    "<form class=injected action=javascript:alert(1)><button>x</button></form>",
    "<a class=injected href=javascript:alert(1)>x</a>",
    '"><img class=injected src=x onerror=alert(1)>',
    "'><img class=injected src=x onerror=alert(1)>",
    "`><img class=injected src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" class="injected',
    "' onfocus='alert(1)' autofocus class='injected",
    "</textarea></title></option></select><img class=injected src=x onerror=alert(1)>",
    "--><img class=injected src=x onerror=alert(1)><!--",
    "]]><img class=injected src=x onerror=alert(1)>",
    "</li></ol></td></tr></table></main><img class=injected src=x onerror=alert(1)>",
    "&lt;img class=injected src=x onerror=alert(1)&gt;",
    "&#60;script class=injected&#62;alert(1)&#60;/script&#62;",
    "{{ 7|add:7 }}{% load static %}{{ injected.secret }}${alert(1)}#{alert(1)}",
    "\uff1cscript class=injected\uff1ealert(1)\uff1c/script\uff1e",
    "\u202e<script class=injected>alert(1)</script>\u2066\u200b\ufeff",
    "\u2028alert(1)//\u2029injected",
    "\\u003cscript class=injected\\u003ealert(1)",
    "+ADw-script class=injected+AD4-alert(1)+ADw-/script+AD4-",
    "%3Cscript class=injected%3Ealert(1)%3C/script%3E",
]
LINKS = [
    "javascript:alert('injected')",
    "JavaScript:alert('injected')",
    " javascript:alert('injected')",
    "java\tscript:alert('injected')",
    "java\nscript:alert('injected')",
    "\x01javascript:alert('injected')",
    "javascript&colon;alert('injected')",
    "javascript://https://example.org/%0aalert('injected')",
    "&#106;avascript:alert('injected')",
    "data:text/html,<script class=injected>alert(1)</script>",
    "vbscript:alert('injected')",
    "blob:https://example.org/injected",
    "file:///etc/injected",
    "//evil.example.org/injected",
    'https://example.org/"onmouseover="alert(1)"class="injected',
    "https://example.org/'><script class=injected>alert(1)</script>",
]
PAYLOADS = MARKUP + LINKS
EACH_LENGTH = [
    pytest.param(PAYLOADS[::6], id="slice"),
    pytest.param(PAYLOADS, id="all", marks=pytest.mark.exhaustive),
]

#: The columns that strangers write, directly or by the responses of their servers, and those that users write.
TEXTS = {
    Batch: ["name", "error"],
    Profile: ["url", "name", "last_error", "feed_url", "etag", "last_modified"],
    BatchProfile: ["error"],
    StoryResult: ["story_id", "title", "url"],
    BatchLog: ["actor", "message"],
    Queue: ["held_by", "hold_reason", "worker"],
    LogEntry: ["object_repr", "change_message"],
    Webhook: ["name", "url"],
    WebhookDelivery: ["error", "payload"],
    User: ["username", "first_name", "last_name", "email"],
    Group: ["name"],
}
COLUMNS = {f"{model.__name__}.{field}" for model, fields in TEXTS.items() for field in fields}
#: Links have one payload in each row, with which they begin. Other columns have all payloads in each row.
LINK_FIELDS = {"url", "feed_url"}
#: Tables with more rows have all payloads only in the rows that the pages show, and one payload in the others.
MAX_FULL_ROWS = 15
#: Characters of an address that servers accept.
MAX_ADDRESS = 4000
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
    """Without the policy, which would hide a missing escape."""
    problems.expected.append("status of 409")
    page = open_page("about:blank", bypass_csp=True)
    rows = make_hostile_rows(payloads)
    seen = set()
    for name, each in PAGES.items():
        each.open(page, rows)
        assert (find_harm(page), problems.take_unexpected()) == ([], []), name
        here = find_payloads(page.evaluate(f"({READ_TEXTS})(document)"))
        assert {payload for _, payload in here} == set(payloads), name  # at least in the user's own name
        seen |= here
    for path in json_addresses(rows):
        page.goto(path)
        assert (find_harm(page), problems.take_unexpected()) == ([], []), path
        seen |= find_payloads("\n".join(texts_in(json.loads(page.inner_text("pre")))))
    assert seen == {(column, payload) for column in COLUMNS for payload in payloads}


def find_payloads(text):
    """Return each (column, payload) that the text contains in full."""
    longest_first = sorted(PAYLOADS, key=len, reverse=True)
    marked = {(mark[1], text[max(0, mark.start() - 150) : mark.start() - 1]) for mark in MARK.finditer(text)}
    endings = {(column, next(filter(before.endswith, longest_first), None)) for column, before in marked}
    return {(column, payload) for column, payload in endings if payload is not None}


def texts_in(body):
    if isinstance(body, str):
        yield body
    elif isinstance(body, list | dict):
        for part in body if isinstance(body, list) else body.values():
            yield from texts_in(part)


def json_addresses(rows):
    """Yield what a browser can open of the API."""
    for address in every_address(rows):
        actions = getattr(address.callback, "actions", None) or {}
        if address.route.startswith("/api/v1/") and "get" in actions and "export" not in address.route:
            yield address.path.replace(str(rows.done.pk), str(rows.repeat.pk)) + "?page_size=200"


def make_hostile_rows(payloads):
    stories = [story(f"story {number}") for number in range(len(payloads))]
    done = batch_with("done", ok=1, failed=len(payloads), pending=0, stories=stories)
    rows = make_rows()
    rows.done = done
    BatchProfile.objects.filter(pk=rows.check.pk).update(batch=done)
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
        if field in LINK_FIELDS:
            texts = [f"{payloads[number % len(payloads)]} ‹{mark} {number}›"]
        elif len(keys) > MAX_FULL_ROWS and pk not in full:
            texts = texts[:1]
        model._base_manager.filter(pk=pk).update(**{field: "¦".join(texts)})


def test_so_do_updates_refusals_and_messages(open_page, problems):
    problems.expected.append("status of 409")
    page = open_page("about:blank", bypass_csp=True)
    rows = make_hostile_rows(PAYLOADS[:5])
    page.goto(QUEUE)
    BatchManager(MARKUP[0]).pause_batch(rows.running.pk)
    poll_now(page)
    expect(page.locator("#queue-running")).to_contain_text("Nothing is running")
    assert find_harm(page) == []
    page.locator("[id^=start_batch]").first.click()  # refused: the queue is held, for a reason that a stranger wrote
    expect(page.locator("#queue-refusal")).to_contain_text("injected")
    assert find_harm(page) == []
    page.locator("[id^=pause_batch]").first.click()
    expect(page.locator("#queue-messages")).to_contain_text("injected")
    assert find_harm(page) == []

    page.goto(page_of(rows.paused))
    BatchManager(MARKUP[4]).rename_batch(rows.paused.pk, MARKUP[4])
    poll_now(page)
    expect(page.locator("#batch-name")).to_have_text(MARKUP[4])
    expect(page.locator("#batch-log tbody tr").first).to_contain_text(MARKUP[4])
    assert find_harm(page) == []


#: JavaScript that fetches these pages, and returns what is wrong with each and what it says.
FETCH_PAGES = f"""addresses => Promise.all(addresses.map(async ([name, address, credentials]) => {{
    const html = await (await fetch(address, {{credentials}})).text()
    const page = new DOMParser().parseFromString(html, "text/html")
    return [name, ({FIND_HARM})(page), ({READ_TEXTS})(page)]
}}))"""


@pytest.mark.parametrize("payloads", EACH_LENGTH)
def test_so_does_every_page_with_its_address(open_page, problems, payloads):
    """Each parameter that a page may repeat has as many payloads as it has room for."""
    problems.expected.append("status of 404")
    rows = make_rows()
    page = open_page("/admin/", bypass_csp=True)
    addresses = [
        (path, f"{path}?{urlencode({parameter: text})}", "omit" if path == LOGIN else "include")
        for path, parameter in product(repeating_pages(rows), PARAMETERS)
        for text in join_payloads(payloads, MAX_NAME if path == QUEUE else MAX_ADDRESS)
    ]
    addresses += [
        (path, path + quote(text, safe=""), "include") for path in NOWHERE for text in join_payloads(payloads)
    ]
    seen = set()
    for path, harm, text in page.evaluate(FETCH_PAGES, addresses):
        assert harm == [], path
        seen |= {(path, payload) for payload in payloads if payload in text}
    for name in ("batches_batch_queue", "batches_batch_changelist", "batches_profile_changelist"):
        path = reverse(f"admin:{name}")
        assert {payload for where, payload in seen if where == path} == set(payloads), path


def repeating_pages(rows):
    names = {page.name for page in PAGES.values() if "changelist" in page.name}
    return [QUEUE, LOGIN, page_of(rows.paused), *(reverse(f"admin:{name}") for name in sorted(names))]


def join_payloads(payloads, room=MAX_ADDRESS):
    """Yield texts of at most `room` characters that contain all payloads."""
    text = ""
    for payload in payloads:
        if len(text) + len(payload) >= room:
            yield text
            text = ""
        text += ("¦" if text else "") + payload
    yield text


def test_harm_is_found(open_page):
    page = open_page(reverse("admin:index"), bypass_csp=True)
    for harm in ("<b class=injected>", "<a href=' javascript:x'>", "<p onclick=x>"):
        page.evaluate("html => { document.getElementById('content').innerHTML = html }", harm)
        assert len(find_harm(page)) == 1, harm
