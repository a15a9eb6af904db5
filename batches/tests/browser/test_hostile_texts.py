"""Whatever a stranger writes, in names, errors, titles, links and file names, every page shows as text."""

from itertools import count, cycle, islice

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import expect

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, BatchProfile, Profile, Queue, StoryResult, Webhook, WebhookDelivery

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

#: The columns that strangers write, directly or through what their servers answer.
TEXTS = {
    Batch: ["name", "error"],
    Profile: ["name", "last_error", "feed_url", "etag", "last_modified"],
    BatchProfile: ["error"],
    StoryResult: ["title"],
    BatchLog: ["actor", "message"],
    Queue: ["held_by", "hold_reason", "worker"],
    LogEntry: ["object_repr"],
    Webhook: ["name"],
    WebhookDelivery: ["error", "payload"],
    User: ["first_name", "last_name"],
}
#: What belongs to Django shows nothing that a stranger writes, and tokens are their users'.
OURS = {
    name: page
    for name, page in PAGES.items()
    if page.name.startswith(("batches_", "index", "app_list")) and "apitoken" not in page.name
}
SHOW_NO_TEXTS = {
    "the overview",
    "the app",
    "an empty list",
    "a filtered list",
    "adding a batch",
    "a batch without anything",
    "a batch's preview",
    "adding a webhook",
    "a log entry's history",
}

HARM = """() => [
    ...document.querySelectorAll(".injected"),
    ...[...document.querySelectorAll("*")].filter(element => [...element.attributes].some(({name, value}) =>
        name.startsWith("on") || (["href", "src", "action", "formaction", "xlink:href"].includes(name)
            && !/^https?:$/.test(new URL(value, location).protocol)))),
].map(element => element.outerHTML.slice(0, 200))"""


def test_there_are_as_many_as_were_asked_for():
    assert len(set(PAYLOADS)) >= 50


@pytest.mark.timeout(300)
def test_every_page_shows_strangers_texts_as_text(open_page, problems):
    rows = rows_written_by_a_stranger()
    page = open_page("about:blank")
    silent = set()
    for name, each in OURS.items():
        each.open(page, rows)
        assert (page.evaluate(HARM), problems.taken()) == ([], []), name
        if "injected" not in page.content():
            silent.add(name)
    assert silent <= SHOW_NO_TEXTS


def rows_written_by_a_stranger():
    titles = [story(f"story {number}", link) for number, link in enumerate(LINKS)]
    done = batch_with("done", ok=1, failed=len(PAYLOADS), pending=0, stories=titles)
    rows = make_rows()
    rows.done = done
    BatchProfile.objects.filter(pk=rows.check.pk).update(batch=rows.done)
    poison(Profile, "url")
    for model, fields in TEXTS.items():
        for field in fields:
            poison(model, field)
    rows.story = StoryResult.objects.filter(url=LINKS[0]).get()
    return rows


def poison(model, field, numbers=count()):  # noqa: B008 - goes on with the next text from column to column
    """Fills the column with the payloads, other ones in each row, as many as there is room for."""
    room = model._meta.get_field(field).max_length or 2000
    for pk in model._base_manager.values_list("pk", flat=True):
        start = next(numbers)
        texts = islice(cycle(PAYLOADS), start, start + len(PAYLOADS))
        text = f"{next(texts)} {start}" if field == "url" else " ".join(texts)
        model._base_manager.filter(pk=pk).update(**{field: text[:room]})


def test_so_do_the_parts_that_are_swapped_in_and_what_a_script_writes(open_page, problems):
    problems.expected.append("status of 409")
    rows = rows_written_by_a_stranger()
    queue = reverse("admin:batches_batch_queue")
    page = open_page(queue)
    poison(Batch, "name")
    BatchManager(MARKUP[0]).pause_batch(rows.running.pk)
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(page.locator("#queue-running")).to_contain_text("Nothing is running")
    assert page.evaluate(HARM) == []
    first = Batch.objects.queued().order_by("position").first()
    page.locator(f"#start_batch-{first.pk}").click()  # the queue is held, for a reason that a stranger wrote
    expect(page.locator("#queue-refusal")).to_be_visible()
    assert page.evaluate(HARM) == []


def test_so_does_the_form_for_files_and_lines(open_page, problems):
    page = open_page(reverse("admin:batches_batch_add"))
    lines = "\n".join(["https://example.org/feed", *(payload.replace("\n", " ") for payload in PAYLOADS)]).encode()
    for name in (MARKUP[4], MARKUP[21], MARKUP[32]):
        fill(page, name, lines, strict=True)
        expect(page.locator(".errornote")).to_be_visible()
        assert page.evaluate(HARM) == []
    fill(page, MARKUP[4], lines, strict=False)
    expect(page.locator("#add-preview")).to_contain_text("injected")
    assert page.evaluate(HARM) == []
    page.get_by_role("button", name="Add batch").click()
    expect(page.locator(".messagelist")).to_contain_text("injected")
    assert page.evaluate(HARM) == []


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
        assert len(page.evaluate(HARM)) >= 1
