"""Every text of the admin goes through gettext: none is left when a language wraps whatever it translates."""

import re
from collections import defaultdict

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.urls import reverse

from batches.admin.actions import CALLS
from batches.admin.stored import REASONS
from batches.batch_manager import BatchManager
from batches.checking.checkers.base import NO_CONNECTION, TOO_LATE
from batches.checking.checkers.client import CLOSED_EARLY
from batches.models import Event, ProfileList
from batches.tests.browser.pages import make_rows
from batches.tests.docs import messages
from batches.tests.support import pseudo
from batches.tests.support.urlconf import every_address
from batches.text import Sentence, recognise

from .conftest import BY_SCRIPT, act, act_in_queue, address, page_of, press, press_in_queue
from .test_add_batch import ADD, add, preview

sqlite = pytest.mark.databases("sqlite")

WORD = re.compile(r"[^\W\d_]{2,}")
#: Also short ones, as in the names of files.
UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f-]{27})?\b")
#: The same in every language: names, units, formats, names of events. Django does not translate its True and False.
EVERYWHERE = {
    *("Batches", "API", "CSV", "JSON", "JSONL", "OPML", "Atom", "HTTP", "UTC", "ID", "ETag", "Last", "Modified"),
    *("min", "ms", "kB", "MB", "superuser", "Apprise", "True", "False", "Europe", "Berlin", "ftp", "None"),
    *(word for event in Event.values for word in WORD.findall(event)),
}


@pytest.fixture(autouse=True)
def pseudo_language(monkeypatch):
    pseudo.install(monkeypatch)


def texts_outside(response):
    kind = response.headers.get("Content-Type", "")
    if response.streaming or not response.content or not kind.startswith("text/"):
        return []
    text = response.content.decode()
    return pseudo.find_untranslated(text) if "html" in kind else pseudo.outside(text)


def assert_translated(responses):
    """Of named responses: their texts are translated, or what somebody has entered or a worker stored."""
    found = defaultdict(list)
    for name, response in responses:
        for text in texts_outside(response):
            found[text].append(name)
    known = EVERYWHERE | words_of_the_database()
    untranslated = {
        text: names for text, names in sorted(found.items()) if set(WORD.findall(UUID.sub("", text))) - known
    }
    assert not untranslated, "\n" + "\n".join(f"{text!r}: {', '.join(it[:3])}" for text, it in untranslated.items())


def words_of_the_database():
    words = set()
    for model in apps.get_models():
        if model is not Permission:
            for row in model._base_manager.values():
                words |= {word for value in row.values() if isinstance(value, str) for word in WORD.findall(value)}
    return words


@pytest.mark.slow
@sqlite
@pytest.mark.django_db
def test_every_page_is_translated(client):
    pages = [page for page in every_address(make_rows()) if page.route.startswith("/admin/batches/")]
    assert_translated((page.route, client.get(page.path)) for page in pages)
    assert_translated([("the overview", client.get("/admin/")), ("nothing", client.get("/nothing/"))])


def press_each_button(client, rows):
    for batch in (rows.queued, rows.running, rows.done):
        for call in CALLS:
            yield f"{call} of {batch}", press(client, call, batch)
    for call in CALLS:
        yield f"{call} in the queue", press_in_queue(client, call, rows.batch)
    yield "a refusal", client.post(page_of(rows.done, "operate"), {"call": "pause_batch"}, headers=BY_SCRIPT)


def changelist(row):
    return address(type(row), "changelist")


def act_on_many(client, rows):
    batches = rows.queued, rows.done, rows.batch
    for action in ("queue_batch", "start_batch", "pause_batch", "retry_failed", "repeat_batch", "delete_selected"):
        yield action, act(client, action, *batches)
    for call in ("pause_batch", "delete_batch", "queue_batch"):
        yield f"{call} of the selected", act_in_queue(client, call, *batches)
    for action, row in {
        "check_selected": rows.profile,
        "forget_selected": rows.profile,
        "accept_selected": rows.redirect,
        "remove_selected": rows.listprofile,
        "deliver_again": rows.webhookdelivery,
        "recheck_selected": rows.batchprofile,
    }.items():
        yield action, act(client, action, row, url=changelist(row))
    yield "nothing", act(client, "pause_batch")


def fill_forms(client, rows):
    yield "an empty batch", client.post(ADD, {})
    yield "faults in all lines", preview(client, addresses="the list\nftp://example.org", strict="on")
    yield "a preview", preview(client, addresses="https://example.org/a\nthe list\nhttps://example.org/a", keep="on")
    yield "an added batch", add(client, addresses="https://example.org/b\nthe list")
    for row in (rows.profilelist, rows.webhook, rows.subscription, rows.listfeed, rows.accesstoken):
        yield f"an empty {type(row).__name__}", client.post(address(type(row), "add"), {})
    schedule = {"name": "New", "checker": "feed", "priority": "0", "time_zone": "UTC", "delay_minutes": "0"}
    yield "a schedule", client.post(address(ProfileList, "add"), schedule | {"schedule": "1 2"})
    yield "a change", client.post(page_of(rows.batch), {"name": " ", "priority": "999999"})
    imported = {"what": "sync", "addresses": "https://example.org/1", "preview": "Preview"}
    yield "an import", client.post(page_of(rows.profilelist, "import"), imported)


def steer_the_queue(client, rows):
    def url(name, *args):
        return reverse(f"admin:batches_batch_queue_{name}", args=args)

    yield "a hold", client.post(url("hold"), {"until": "x"}, follow=True)
    yield "a reason", client.post(url("hold"), {"reason": "Umzug", "stop_running": "yes"}, follow=True)
    yield "a release", client.post(url("release"), follow=True)
    queue = reverse("admin:batches_batch_queue")
    for position in ("1", "3", "999", "x"):
        yield "a move", client.get(f"{queue}?move={rows.queued.pk}&position={position}")
    yield "a pause", client.get(f"{queue}?pause={rows.queued.pk}")
    yield "a search", client.get(f"{queue}?q=nothing")
    words = "+".join("abcdefghijklmnopqrst")
    yield "a long search", client.get(f"{changelist(rows.done)}?q={words}", follow=True)


@pytest.mark.slow
@sqlite
@pytest.mark.django_db
@pytest.mark.parametrize("steps", [press_each_button, act_on_many, fill_forms, steer_the_queue])
def test_responses_to_clicks_are_translated(client, steps):
    rows = make_rows()
    BatchManager("ada", "admin").release_queue()
    assert_translated(steps(client, rows))


def test_each_reason_of_a_failed_check_is_known():
    """Those that the documentation lists, with some text for what differs."""
    reasons = messages.reasons_of_failures() | {
        *NO_CONNECTION,
        CLOSED_EARLY,
        f"{TOO_LATE} … s",
    }
    texts = {text.replace("…", "7") for text in reasons - {"… … s"}}
    for subject in ("the address", "the redirect target"):
        of_addresses = {re.sub("^7 (?=has|is not|contains)", f"{subject} ", text) for text in texts}
        assert [text for text in of_addresses if not isinstance(recognise(text, REASONS), Sentence)] == []
