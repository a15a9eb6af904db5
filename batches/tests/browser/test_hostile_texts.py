"""Whatever a stranger writes, in names, errors, titles, links and file names, every page shows as text."""

import json
import re
from itertools import cycle, islice
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

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db(transaction=True)]

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

#: The columns that strangers write, directly or through what their servers answer; and those that users do.
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
#: What leads somewhere has one payload in each row, with which it begins; the others have all in each.
ADDRESSES = {"url", "feed_url"}
#: Characters of an address that servers take; what a page repeats may be cut.
ROOM = 4000
#: Rows up to which each of them has all.
FEW = 15
COLUMNS = {f"{model.__name__}.{field}" for model, fields in TEXTS.items() for field in fields}
MARK = re.compile("‹([A-Za-z]+[.][a-z_]+)(?: [0-9]+)?›")

HARM = """root => [
    ...root.querySelectorAll(".injected"),
    ...[...root.querySelectorAll("*")].filter(element => [...element.attributes].some(({name, value}) =>
        name.startsWith("on") || (["href", "src", "action", "formaction", "xlink:href"].includes(name)
            && !/^https?:$/.test(new URL(value, location).protocol)))),
].map(element => element.outerHTML.slice(0, 200))"""
HARM_HERE = f"({HARM})(document)"
#: As the browser has read it: what was escaped is as it was before.
READ = """root => {
    root.querySelectorAll("br").forEach(line => line.replaceWith("\\n"))
    const values = [...root.querySelectorAll("*")].flatMap(element => [...element.attributes].map(({value}) => value))
    return [root.documentElement.textContent, ...values].join("\\n")
}"""
READ_HERE = f"({READ})(document)"


def test_there_are_as_many_as_were_asked_for():
    assert len(set(PAYLOADS)) >= 50


@pytest.mark.timeout(300)
def test_every_page_shows_strangers_texts_as_text(open_page, problems):
    """Without the policy, which would hide that a script got in: what is looked for are its elements."""
    page = open_page("about:blank", bypass_csp=True)
    rows = rows_written_by_a_stranger()
    shown = set()
    for name, each in PAGES.items():
        each.open(page, rows)
        assert (page.evaluate(HARM_HERE), problems.taken()) == ([], []), name
        here = payloads_in(page.evaluate(READ_HERE))
        assert {payload for _, payload in here} == set(PAYLOADS), name  # at least in the user's own name
        shown |= {(name, *each) for each in here}
    for path in json_addresses(rows):
        page.goto(path)
        assert (page.evaluate(HARM_HERE), problems.taken()) == ([], []), path
        shown |= {(path, *each) for each in payloads_in("\n".join(texts_in(json.loads(page.inner_text("pre")))))}
    assert {(text, payload) for _, text, payload in shown} == {
        (text, payload) for text in COLUMNS for payload in PAYLOADS
    }


def payloads_in(text):
    """Each column and payload of it that is there in full."""
    longest_first = sorted(PAYLOADS, key=len, reverse=True)
    found = {(mark[1], text[max(0, mark.start() - 150) : mark.start() - 1]) for mark in MARK.finditer(text)}
    return {
        (column, payload)
        for column, before in found
        for payload in [next((payload for payload in longest_first if before.endswith(payload)), None)]
        if payload is not None
    }


def texts_in(answer):
    if isinstance(answer, str):
        yield answer
    elif isinstance(answer, list | dict):
        for part in answer if isinstance(answer, list) else answer.values():
            yield from texts_in(part)


def json_addresses(rows):
    """What the API shows to a browser that opens it."""
    for address in every_address(rows):
        actions = getattr(address.callback, "actions", None) or {}
        if address.route.startswith("/api/v1/") and "get" in actions and "export" not in address.route:
            yield address.path.replace(str(rows.done.pk), str(rows.repeat.pk)) + "?page_size=200"


def rows_written_by_a_stranger():
    stories = [story(f"story {number}") for number in range(len(PAYLOADS))]
    done = batch_with("done", ok=1, failed=len(PAYLOADS), pending=0, stories=stories)
    rows = make_rows()
    rows.done = done
    BatchProfile.objects.filter(pk=rows.check.pk).update(batch=rows.done)
    Webhook.objects.bulk_create(Webhook(url=f"https://example.org/{number}") for number in range(len(PAYLOADS)))
    LogEntry.objects.update(user=User.objects.get(is_superuser=True))  # who looks, as the overview shows one's own
    for model, fields in TEXTS.items():
        for field in fields:
            poison(model, field, {row.pk for row in vars(rows).values() if isinstance(row, model)})
    return rows


def poison(model, field, whole):
    """Fills the column with the payloads: in the rows with these keys, and where rows are few, with all of them.

    SQLite does not mind that they are longer than they may be.
    """
    mark, keys = f"{model.__name__}.{field}", list(model._base_manager.values_list("pk", flat=True))
    for number, pk in enumerate(keys):
        texts = [f"{payload} ‹{mark}›" for payload in islice(cycle(PAYLOADS), number, number + len(PAYLOADS))]
        if field in ADDRESSES:
            texts = [f"{PAYLOADS[number % len(PAYLOADS)]} ‹{mark} {number}›"]
        elif len(keys) > FEW and pk not in whole:
            texts = texts[:1]
        model._base_manager.filter(pk=pk).update(**{field: "¦".join(texts)})


def test_so_do_the_parts_that_are_swapped_in_and_what_a_script_writes(open_page, problems):
    problems.expected.append("status of 409")
    page = open_page("about:blank", bypass_csp=True)
    rows = rows_written_by_a_stranger()
    page.goto(reverse("admin:batches_batch_queue"))
    poison(Batch, "name", set())
    BatchManager(MARKUP[0]).pause_batch(rows.running.pk)
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator("#queue-running")).to_contain_text("Nothing is running")
    assert page.evaluate(HARM_HERE) == []
    first = Batch.objects.queued().order_by("position").first()
    page.locator(f"#start_batch-{first.pk}").click()  # the queue is held, for a reason that a stranger wrote
    expect(page.locator("#queue-refusal")).to_be_visible()
    assert page.evaluate(HARM_HERE) == []


#: What the browser makes of the pages at these addresses, without going there.
LOOK = f"""addresses => Promise.all(addresses.map(async ([name, address, credentials]) => {{
    const html = await (await fetch(address, {{credentials}})).text()
    const page = new DOMParser().parseFromString(html, "text/html")
    return [name, ({HARM})(page), ({READ})(page)]
}}))"""


def test_so_does_every_page_with_what_stands_in_its_address(open_page, problems):
    """Each parameter that a page may repeat, with as many payloads at once as it has room for."""
    problems.expected.append("status of 404")
    rows = make_rows()
    page = open_page("/admin/", bypass_csp=True)
    addresses = [
        (name, f"{path}?{urlencode({parameter: text})}" if parameter else path + quote(text, safe=""), credentials)
        for name, path, parameter, room, credentials in repeating(rows)
        for text in joined(room)
    ]
    shown = set()
    for name, harm, read in page.evaluate(LOOK, addresses):
        assert harm == [], name
        shown |= {(name, payload) for payload in PAYLOADS if payload in read}
    for name in ("q of batch", "host", "queue"):
        assert {payload for where, payload in shown if where == name} == set(PAYLOADS), name


def repeating(rows):
    """What pages might show of their addresses: name, path, parameter ("" is the path itself), the room in it, and
    whether it is asked for by who is logged in."""
    lists = {name: page.address(rows).partition("?")[0] for name, page in PAGES.items() if "changelist" in page.name}
    for path in sorted(set(lists.values())):
        yield f"q of {path.split('/')[-2]}", path, "q", ROOM, "include"
    yield "host", reverse("admin:batches_profile_changelist"), "host", ROOM, "include"
    for model in ("batchprofile", "storyresult", "batchlog", "webhookdelivery"):
        yield f"batch of {model}", reverse(f"admin:batches_{model}_changelist"), "batch", ROOM, "include"
    for parameter in ("status__exact", "checker", "e", "o"):
        yield parameter, reverse("admin:batches_batch_changelist"), parameter, ROOM, "include"
    yield "error", reverse("admin:batches_batchprofile_changelist"), "error", ROOM, "include"
    yield (
        "filters",
        reverse("admin:batches_batch_change", args=[rows.paused.pk]),
        "_changelist_filters",
        ROOM,
        "include",
    )
    yield "queue", reverse("admin:batches_batch_queue"), "q", MAX_NAME, "include"
    yield "nothing", "/nothing/", "", ROOM, "include"
    yield "nothing of the admin", "/admin/nothing/", "", ROOM, "include"
    yield "next", reverse("admin:login"), "next", ROOM, "omit"


def joined(room):
    """All payloads, in texts of at most so many characters."""
    text = ""
    for payload in PAYLOADS:
        if len(text) + len(payload) >= room:
            yield text
            text = ""
        text += ("¦" if text else "") + payload
    yield text


def test_so_does_the_form_for_files_and_lines(open_page, problems, monkeypatch):
    monkeypatch.setattr("batches.lists.preview.PREVIEW_REJECTS", 100)
    monkeypatch.setattr("batches.admin.add_batch.SHOWN_REJECTS", 100)
    page = open_page(reverse("admin:batches_batch_add"), bypass_csp=True)
    lines = "\n".join(["https://example.org/feed", *(payload.replace("\n", " ") for payload in PAYLOADS)]).encode()
    fill(page, MARKUP[4], lines, strict=True)
    expect(page.locator(".errornote")).to_be_visible()
    assert page.evaluate(HARM_HERE) == []
    fill(page, MARKUP[4], lines, strict=False)
    expect(page.locator("#add-preview")).to_contain_text("injected")
    assert page.evaluate(HARM_HERE) == []
    page.get_by_role("button", name="Add batch").click()
    expect(page.locator(".messagelist")).to_contain_text("injected")
    assert page.evaluate(HARM_HERE) == []


#: Each name of a batch and of its file, as a browser without the form's script sends it, and what it reads then.
SEND = f"""names => Promise.all(names.map(async name => {{
    const body = new FormData(document.querySelector("#content form"))
    body.set("name", name)
    body.set("file", new File(["no address"], name))
    const html = await (await fetch(location, {{method: "POST", body}})).text()
    const page = new DOMParser().parseFromString(html, "text/html")
    return [name, ({HARM})(page), page.documentElement.textContent.includes(`“${{name}}”`)]
}}))"""


def test_so_does_the_form_for_the_names_of_files(open_page, problems):
    page = open_page(reverse("admin:batches_batch_add"), bypass_csp=True)
    # The server keeps what stands behind the last slash; to a browser that reads markup a space is the same.
    names = [payload.replace("/", " ") for payload in PAYLOADS]
    shown = set()
    for name, harm, is_shown in page.evaluate(SEND, names):
        assert harm == [], name
        shown |= {name} if is_shown else set()
    # Browsers send quotes as %22; the server drops what cannot be printed, and reads entities as what they stand for.
    whole = {name for name in names if name.isprintable() and not set(name) & set('"&\\')}
    assert whole <= shown
    assert len(whole) > 30


def fill(page, name, lines, strict):
    page.get_by_label("Name").fill(name)
    page.get_by_label("File").set_input_files({"name": f"{name}.txt", "mimeType": "text/plain", "buffer": lines})
    page.get_by_label("Strict").set_checked(strict)
    page.get_by_role("button", name="Preview").click()


def test_harm_is_found(open_page, problems):
    problems.expected += ["policy", "Policy", "status of 404", "violates"]
    page = open_page(reverse("admin:index"))
    for payload in (MARKUP[4], "<a href=' javascript:alert(1)'>x</a>", "<p onclick=alert(1)>x</p>"):
        page.evaluate("html => { document.getElementById('content').innerHTML = html }", payload)
        assert len(page.evaluate(HARM_HERE)) >= 1
