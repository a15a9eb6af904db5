"""Adding a batch by upload or by pasting."""

import io
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse

from batches.lists.reading import read_profiles
from batches.models import Batch, BatchLog, Channel, Profile

from .conftest import batch_with, messages_of, text_of

pytestmark = pytest.mark.django_db

ADD = reverse("admin:batches_batch_add")
OPML = b"""<opml version="2.0"><body><outline text="One" xmlUrl="https://example.org/1"/></body></opml>"""


def post(client, **fields):
    """Both steps: the preview, and the batch if there is nothing to correct."""
    shown = preview(client, **fields)
    if "preview" not in shown.context:
        return shown
    if "file" in fields:
        fields["file"].seek(0)
    return client.post(ADD, filled(**confirmation(shown), **fields), follow=True)


def preview(client, **fields):
    return client.post(ADD, filled(**fields), follow=True)


def filled(**fields):
    fields = {"name": "Morning", "priority": "0", "checker": "feed", "queue": "on"} | fields
    return {name: value for name, value in fields.items() if value is not None}


def confirmation(shown):
    """What the page with the preview sends when "Add batch" is pressed."""
    form = shown.context["adminform"].form
    return {"add": "Add batch", "previewed": shown.context["preview"].imported.digest, "token": form["token"].value()}


def upload(content, name="list.txt"):
    return SimpleUploadedFile(name, content)


def errors_of(response):
    assert response.status_code == 200
    assert not Batch.objects.exists()
    assert not Profile.objects.exists()
    return [error for errors in response.context["adminform"].form.errors.values() for error in errors]


def test_the_form_offers_the_checkers_of_the_configuration(client, settings):
    settings.BATCHES = {"CHECKERS": {"mine": "batches.checking.checkers.http.HttpChecker"}}
    assert re.findall(r'<option value="(\w+)"', text_of(client.get(ADD))) == ["feed", "http", "mine"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", b"https://example.org/1\n"),
        ("list.csv", b"name,url\nOne,https://example.org/1\n"),
        ("subscriptions.opml", OPML),
        ("list.jsonl", b'{"url": "https://example.org/1", "name": "One"}\n'),
    ],
)
def test_a_batch_is_added_from_a_file(client, name, content):
    response = post(client, file=upload(content, name))
    batch = Batch.objects.get()
    assert (batch.name, batch.status, batch.position, batch.total_profiles) == ("Morning", "queued", 1, 1)
    assert Profile.objects.get().url == "https://example.org/1"
    assert messages_of(response) == [("success", "“Morning” was added and waits at position 1 with 1 profile.")]
    assert response.redirect_chain == [(reverse("admin:batches_batch_change", args=[batch.pk]), 302)]


def test_a_batch_is_added_from_pasted_text(client):
    post(client, addresses="https://example.org/1\r\n\r\nhttps://example.org/2", name="  two   words ", priority="7")
    batch = Batch.objects.get()
    assert (batch.name, batch.priority, batch.total_profiles) == ("two words", 7, 2)


def test_the_log_says_who_added_it(client):
    post(client, addresses="https://example.org/1")
    log = BatchLog.objects.get()
    assert (log.action, log.actor, log.channel) == ("create_batch", "superuser", Channel.ADMIN)
    assert LogEntry.objects.get().is_addition()


def test_a_batch_that_is_not_queued_is_paused(client):
    response = post(client, addresses="https://example.org/1", queue=None)
    assert Batch.objects.get().status == Batch.Status.PAUSED
    assert messages_of(response) == [("success", "“Morning” was added and is paused with 1 profile.")]


def test_a_higher_priority_waits_in_front(client):
    batch_with()
    post(client, addresses="https://example.org/1", priority="1")
    assert Batch.objects.get(name="Morning").position == 1


def test_duplicates_are_counted(client):
    response = post(client, addresses="https://example.org/1\nHTTPS://EXAMPLE.ORG/1\nhttps://example.org/1#top")
    [(_, sentence)] = messages_of(response)
    assert sentence.endswith("2 duplicates skipped.")


def test_what_cannot_be_a_profile_is_shown_with_its_line_and_the_rest_goes_in(client):
    bad = "\n".join(f"no address <b>{number}" for number in range(12))
    response = post(client, file=upload(f"{bad}\nhttps://example.org/1".encode()))
    assert Batch.objects.get().total_profiles == 1
    level, sentence = messages_of(response)[1]
    assert level == "warning"
    assert sentence.startswith("12 lines skipped because the address is not valid:")
    assert "<br>Line 10: “no address &lt;b&gt;9”." in sentence
    assert "Line 11" not in sentence
    assert "… and 2 more." in sentence
    assert sentence in text_of(response)


def test_a_line_with_nul_or_a_lone_surrogate_is_left_out_of_a_pasted_list_too(client):
    text = "https://example.org/\0\nhttps://example.org/\ud800\nhttps://example.org/1".encode("utf-8", "surrogatepass")
    head = b"--x\r\nContent-Disposition: form-data; name="
    fields = {b"name": b"a", b"priority": b"0", b"checker": b"feed", b"addresses": text}
    body = b"".join(head + b'"' + name + b'"\r\n\r\n' + value + b"\r\n" for name, value in fields.items()) + b"--x--"
    shown = client.post(ADD, body, content_type="multipart/form-data; boundary=x").context["preview"]
    assert [reject.line for reject in shown.first_rejects] == [1]  # Django itself has replaced the surrogate
    body = body.replace(b"--x--", head + b'"add"\r\n\r\nyes\r\n' + head + b'"previewed"\r\n\r\n%b\r\n--x--')
    client.post(ADD, body % shown.imported.digest.encode(), content_type="multipart/form-data; boundary=x")
    assert Profile.objects.filter(url="https://example.org/1").exists()


def test_strict_adds_nothing_when_a_line_cannot_be_a_profile(client):
    [error] = errors_of(post(client, file=upload(b"https://example.org/1\nnonsense\n"), strict="on"))
    assert "line 2" in error


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Choose a file or paste addresses"),
        ({"addresses": " \n "}, "Choose a file or paste addresses"),
        ({"addresses": "https://example.org", "file": (b"https://example.org", "a.txt")}, "not both"),
        ({"file": (b"", "a.txt")}, "empty"),
        ({"file": (b"\n\n", "a.txt")}, "The list is empty"),
        ({"file": ("https://example.org".encode("utf-16"), "a.txt")}, "UTF-16"),
        ({"file": (b"<opml><body>", "a.opml")}, "line"),
        ({"file": (b"name,address\na,b\n", "a.csv")}, "url"),
        ({"addresses": "nonsense"}, "The list has no valid address"),
        ({"addresses": "https://example.org", "name": ""}, "required"),
        ({"addresses": "https://example.org", "name": "\u2003"}, "required"),
        ({"addresses": "https://example.org", "name": "a" * 201}, "at most 200"),
        ({"addresses": "https://example.org", "name": "a\0b"}, "Null characters"),
        ({"addresses": "https://example.org", "priority": "32768"}, "less than or equal to 32767"),
        ({"addresses": "https://example.org", "priority": "high"}, "whole number"),
        ({"addresses": "https://example.org", "checker": "telnet"}, "telnet"),
    ],
)
@pytest.mark.databases("sqlite")
def test_what_cannot_be_a_batch_is_one_error_in_the_form_and_nothing_is_created(client, fields, sentence):
    files = {"file": upload(*fields["file"])} if "file" in fields else {}
    [error] = errors_of(post(client, **fields | files))
    assert sentence in error


def test_a_pasted_list_is_still_there_after_an_error(client):
    assert "nonsense</textarea>" in text_of(post(client, addresses="nonsense"))


def test_a_file_is_read_in_pieces_and_outside_of_any_transaction(client, monkeypatch):
    seen = []

    def read(source, **options):
        # The test itself may be a transaction: one more is a savepoint.
        seen.append((hasattr(source, "chunks"), len(connection.savepoint_ids)))
        return read_profiles(io.BytesIO(source.read()), **options)

    monkeypatch.setattr("batches.admin.forms.read_profiles", read)
    outside = len(connection.savepoint_ids)
    post(client, file=upload(b"https://example.org/1"))
    assert seen == [(True, outside)] * 2  # for the preview, and to add it
    assert Batch.objects.exists()


@pytest.mark.parametrize(
    ("role", "status"), [("anonymous", 302), ("staff", 403), ("viewer", 403), ("operator", 403), ("editor", 403)]
)
def test_only_who_may_add_batches_can(client_of, role, status):
    client = client_of(role)
    assert client.get(ADD).status_code == status
    assert client.post(ADD, {"name": "a", "addresses": "https://example.org"}).status_code == status
    assert not Batch.objects.exists()


def test_adding_takes_no_more_than_djangos_permission_for_it(client_of):
    post(client_of("adder"), addresses="https://example.org/1")
    assert Batch.objects.get().status == Batch.Status.QUEUED
