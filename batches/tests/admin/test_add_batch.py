"""Adding a batch by upload or by pasting: a preview that stores nothing, then one batch per form."""

import io
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.lists.formats import read_profiles
from batches.models import Batch, BatchLog, Channel, Profile

from ..support.factories import make_list
from .conftest import BY_SCRIPT, SCRIPT, batch_with, facts, messages_of, page_of, queries_of, text_of

pytestmark = pytest.mark.django_db

ADD = reverse("admin:batches_batch_add")
ONE = "https://example.org/1"
OPML = b'<opml version="2.0"><body><outline text="One" xmlUrl="https://example.org/1"/></body></opml>'


def fill(**fields):
    fields = {"name": "Morning", "priority": "0", "checker": "feed", "queue": "on", "token": "a form"} | fields
    return {name: value for name, value in fields.items() if value is not None}


def preview(client, **fields):
    return client.post(ADD, fill(**fields), follow=True)


def confirmation(response):
    """What the page with the preview sends, too, when "Add batch" is pressed."""
    return {"add": "Add batch", "previewed": response.context["imported"].digest}


def add(client, **fields):
    """Both steps: the preview, and the batch if there is nothing to correct."""
    response = preview(client, **fields)
    if "imported" not in response.context:
        return response
    if "file" in fields:
        fields["file"].seek(0)
    return client.post(ADD, fill(**confirmation(response), **fields), follow=True)


def upload(content, name="list.txt"):
    return SimpleUploadedFile(name, content)


# The batch


def test_a_batch_is_added_from_a_file_and_the_logs_name_the_user(client_of):
    response = add(client_of("adder"), file=upload(b"name,url\nOne,https://example.org/1\n", "list.csv"))
    batch = Batch.objects.get()
    assert (batch.name, batch.status, batch.position, batch.total_profiles) == ("Morning", "queued", 1, 1)
    assert (Profile.objects.get().url, Profile.objects.get().name) == (ONE, "One")
    assert messages_of(response) == [("success", "“Morning” was added and waits at position 1 with 1 profile.")]
    assert response.redirect_chain == [(page_of(batch), 302)]
    log = BatchLog.objects.get()
    assert (log.action, log.actor, log.channel) == ("create_batch", "adder", Channel.ADMIN)
    assert LogEntry.objects.get().is_addition()


def test_a_batch_is_added_from_pasted_text_without_its_duplicates(client):
    batch_with()
    text = f"{ONE}\r\n\r\nhttps://example.org/2\nHTTPS://EXAMPLE.ORG/1\n{ONE}#top"
    response = add(client, addresses=text, name="  two   words ", priority="7")
    batch = Batch.objects.get(name="two words")
    assert (batch.priority, batch.total_profiles, batch.position) == (7, 2, 1)
    assert messages_of(response)[0][1].endswith("with 2 profiles. 2 duplicates skipped.")


def test_a_batch_that_is_not_queued_is_paused(client):
    assert preview(client, addresses=ONE, queue=None).context["when"] == ""
    response = add(client, addresses=ONE, queue=None)
    assert Batch.objects.get().status == Batch.Status.PAUSED
    assert messages_of(response) == [("success", "“Morning” was added and is paused with 1 profile.")]


def test_invalid_lines_are_listed_and_the_others_are_added(client):
    lines = "\n".join(f"no address <b>{number}" for number in range(12))
    response = add(client, file=upload(f"{lines}\n{ONE}".encode()))
    assert Batch.objects.get().total_profiles == 1
    level, sentence = messages_of(response)[1]
    assert level == "warning"
    assert sentence.startswith("12 lines skipped because they are not valid:")
    assert "<br>Line 10: “no address &lt;b&gt;9”." in sentence
    assert "Line 11" not in sentence
    assert "… and 2 more." in sentence
    assert sentence in text_of(response)


def test_a_pasted_line_with_nul_or_a_lone_surrogate_is_skipped(client):
    text = f"https://example.org/\0\nhttps://example.org/\ud800\n{ONE}".encode("utf-8", "surrogatepass")
    response = add(client, addresses=[text])
    assert Profile.objects.filter(url=ONE).exists()
    sentence = messages_of(response)[1][1]
    assert sentence.startswith("1 line skipped")  # Django itself has replaced the surrogate
    assert "<br>Line 1: " in sentence


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "The list is empty. Choose a file or paste addresses."),
        ({"addresses": " \n "}, "The list is empty. Choose a file or paste addresses."),
        ({"addresses": ONE, "file": (ONE.encode(), "a.txt")}, "not both"),
        ({"file": (b"https://example.org/1\nnonsense\n", "a.txt"), "strict": "on"}, "line 2"),
        ({"addresses": "nonsense"}, "The list has no valid address"),
        ({"addresses": ONE, "name": ""}, "required"),
        ({"addresses": ONE, "name": "\u2003"}, "required"),
        ({"addresses": ONE, "name": "a" * 201}, "at most 200"),
        ({"addresses": ONE, "name": "\u200b"}, "Every character of this name is invisible"),
        ({"addresses": ONE, "name": "a\0b"}, "Null characters"),
        ({"addresses": ONE, "priority": "32768"}, "less than or equal to 32767"),
        ({"addresses": ONE, "priority": "high"}, "whole number"),
        ({"addresses": ONE, "checker": "telnet"}, "telnet"),
    ],
)
@pytest.mark.databases("sqlite")
def test_an_invalid_form_has_one_error_and_creates_nothing(client, fields, sentence):
    files = {"file": upload(*fields["file"])} if "file" in fields else {}
    response = add(client, **fields | files)
    [error] = [error for errors in response.context["adminform"].form.errors.values() for error in errors]
    assert sentence in error
    assert not Batch.objects.exists()
    assert not Profile.objects.exists()
    if fields.get("addresses") == "nonsense":
        assert "nonsense</textarea>" in text_of(response)


def test_the_form_offers_the_configured_checkers(client, settings):
    settings.BATCHES = {"CHECKERS": {"mine": "batches.checking.checkers.http.HttpChecker"}}
    assert re.findall(r'<option value="(\w+)"', text_of(client.get(ADD))) == ["feed", "http", "mine"]


def test_a_file_is_read_in_pieces_and_outside_of_any_transaction(client, monkeypatch):
    seen = []

    def read(source, **options):
        # The test itself may be a transaction: one more is a savepoint.
        seen.append((hasattr(source, "chunks"), len(connection.savepoint_ids)))
        return read_profiles(io.BytesIO(source.read()), **options)

    monkeypatch.setattr("batches.admin.forms.read_profiles", read)
    outside = len(connection.savepoint_ids)
    add(client, file=upload(b"https://example.org/1"))
    assert seen == [(True, outside)] * 2  # for the preview, and to add it
    assert Batch.objects.exists()


# The preview


def test_a_preview_counts_what_would_be_added_and_stores_nothing(client):
    BatchManager().create_batch("before", [ONE, "https://example.org/9"])
    text = "\n".join([ONE, "HTTPS://EXAMPLE.ORG/1", "https://example.org/2", "https://b.example/", "nonsense"])
    response = preview(client, addresses=text)
    assert facts(response, "add-preview") == {
        "Profiles": "3",
        "New": "2",
        "Already known": "1",
        "Duplicates skipped": "1",
        "Rejected lines": "1",
        "Hosts": "2",
        "Largest host": "2 at example.org",
    }
    assert (Batch.objects.count(), Profile.objects.count(), BatchLog.objects.count()) == (1, 2, 1)
    assert f"{text}</textarea>" in text_of(response)


def test_a_preview_lists_the_first_profiles_with_their_names(client):
    lines = "".join(f"https://example.org/{number},Name {number}\n" for number in range(1, 8))
    html = text_of(preview(client, file=SimpleUploadedFile("list.csv", f"url,name\n{lines}".encode())))
    listed = re.findall(r"<li>(https://\S+) <span class=\"quiet\">(Name \d)</span></li>", html)
    assert listed == [(f"https://example.org/{number}", f"Name {number}") for number in range(1, 6)]
    assert "<li>… and 2 more</li>" in html


def test_a_preview_lists_the_first_rejected_lines_and_counts_the_rest(client):
    lines = [*(f"no {SCRIPT}{number}" for number in range(1, 1024)), ONE]
    html = text_of(preview(client, addresses="\n".join(lines)))
    rows = re.findall(r"<tr><td>(\d+)</td><td>(.*?)</td><td>(.*?)</td></tr>", html)
    assert [int(line) for line, _, _ in rows] == list(range(1, 21))
    assert rows[0][1:] == ("no &lt;script&gt;alert(1)&lt;/script&gt;1", "It contains a space or other whitespace.")
    assert "… and 1,003 more." in html
    assert SCRIPT not in html


@pytest.mark.parametrize("strict", [{}, {"strict": "on"}])
@pytest.mark.parametrize("page", ["add", "import"])
def test_all_rejected_lines_can_be_downloaded_and_nothing_is_stored(client, page, strict):
    """The form brings the list along once more, so the server keeps no file."""
    lines = [f"=cmd {number}" for number in range(1, 31)]
    address = ADD if page == "add" else page_of(make_list(), "import")
    content = upload("\n".join([*lines, ONE]).encode())
    before = Profile.objects.count()
    html = text_of(client.post(address, fill(file=content, what="add", preview="Preview", **strict)))
    assert 'name="rejected" value="Download 30 rejected lines"' in html
    content.seek(0)
    response = client.post(address, fill(file=content, what="add", rejected="Download", **strict))
    assert response["Content-Disposition"] == 'attachment; filename="rejected lines.csv"'
    header, *rows = b"".join(response.streaming_content).decode().splitlines()
    assert header == "line,text,reason"
    assert rows == [f"{number},'=cmd {number},It contains a space or other whitespace." for number in range(1, 31)]
    assert (Batch.objects.count(), Profile.objects.count()) == (0, before)
    assert 'name="rejected"' not in text_of(client.post(address, fill(addresses=ONE, what="add", rejected="Download")))


def test_a_preview_gives_the_position_and_if_a_worker_is_alive_the_time_of_the_start(client):
    waiting = batch_with(priority=5)
    for priority, position in (("9", 1), ("5", 2)):
        when = preview(client, addresses=ONE, priority=priority).context["when"]
        assert when == f"Queued with priority {priority}, it will wait at position {position}."
    BatchManager().pause_batch(waiting.pk)
    BatchManager("host:1", "worker").claim_run("host:1")
    assert "and start about" in preview(client, addresses=ONE).context["when"]
    BatchManager().hold_queue()
    assert preview(client, addresses=ONE).context["when"].endswith("The queue is held.")


def test_the_number_of_queries_does_not_grow_with_the_list(client):
    def count(number):
        text = "\n".join(f"https://example.org/{index}" for index in range(number))
        return queries_of(lambda: preview(client, addresses=text))

    count(1)
    assert count(1) == count(2000)


@pytest.mark.parametrize("previewed", ["", "\0", "x" * 3000, "0" * 64])
def test_nothing_is_added_without_a_preview(client, previewed):
    client.post(ADD, fill(add="Add batch", previewed=previewed, addresses=ONE))
    assert not Batch.objects.exists()


def test_a_list_that_has_changed_is_previewed_again(client):
    response = preview(client, addresses=ONE)
    again = client.post(ADD, fill(**confirmation(response), addresses="https://example.org/2"))
    assert "The list has changed since the preview." in text_of(again)
    assert not Batch.objects.exists()
    client.post(ADD, fill(**confirmation(again), addresses="https://example.org/2"))
    assert Profile.objects.get().url == "https://example.org/2"


def test_a_script_gets_the_preview_and_the_errors_without_the_list(client):
    html = text_of(client.post(ADD, fill(addresses=f"{ONE}\n" * 1000), headers=BY_SCRIPT))
    assert 'name="add"' in html
    assert not re.search("<textarea|<html", html)
    assert len(html) < 3000
    html = text_of(client.post(ADD, fill(addresses="nonsense", name=""), headers=BY_SCRIPT))
    assert re.findall(r'data-field="(\w+)"', html) == ["__all__", "name", "addresses"]
    assert 'id="id_addresses_error"' in html
    assert 'name="add"' not in html


# One form creates one batch


def test_a_form_that_is_sent_twice_creates_one_batch_and_leads_to_it(client):
    fields = fill(**confirmation(preview(client, addresses=ONE)), addresses=ONE)
    first, second = (client.post(ADD, fields, follow=True) for _ in range(2))
    assert Batch.objects.get().total_profiles == 1
    assert (LogEntry.objects.count(), BatchLog.objects.count()) == (1, 1)
    assert first.redirect_chain == second.redirect_chain
    assert messages_of(second)[0][1].endswith("The form was sent twice; only one batch was created.")
    # Its rows are not all gone yet.
    Batch.objects.update(status="paused", position=None, deleted_at="2020-01-01T00:00Z")
    assert "already has this ID" in text_of(client.post(ADD, fields))


@pytest.mark.parametrize(
    ("edited", "role"),
    [
        ({"name": "Evening"}, "superuser"),
        ({"addresses": "https://example.org/2"}, "superuser"),
        ({"priority": "1"}, "superuser"),
        ({}, "adder"),
    ],
)
def test_a_form_that_is_edited_or_of_another_user_creates_another_batch(client, client_of, edited, role):
    fields = {"addresses": ONE}
    client.post(ADD, fill(**confirmation(preview(client, **fields)) | fields))
    person = client if role == "superuser" else client_of(role)
    fields |= edited
    person.post(ADD, fill(**confirmation(preview(person, **fields)) | fields))
    assert Batch.objects.count() == 2


@pytest.mark.parametrize("token", ["", "\0", "x" * 100_000, "\ufffd", "00000000-0000-0000-0000-000000000000"])
def test_any_token_is_accepted(client, token):
    client.post(ADD, fill(**confirmation(preview(client, addresses=ONE)) | {"token": token}, addresses=ONE))
    assert Batch.objects.get().name == "Morning"


# Without JavaScript


def text_field(response):
    return response.context["adminform"].form["addresses"].value()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("<b>.txt", b"\xef\xbb\xbfhttps://example.org/1\nnonsense\n"),
        ("list.csv", "name;url\nÄpfel;https://example.org/1\n".encode()),
        ("feeds.opml", OPML),
    ],
)
def test_a_file_comes_back_as_text_that_is_the_same_list(client, name, content):
    response = preview(client, file=upload(content, name), priority="high")
    assert text_field(response) == content.decode("utf-8-sig")
    assert not Batch.objects.exists()
    response = preview(client, file=upload(content, name))
    escaped = name.replace("<", "&lt;").replace(">", "&gt;")
    assert f"This is the content of “{escaped}”" in text_of(response)
    client.post(ADD, fill(**confirmation(response), addresses=text_field(response).replace("\n", "\r\n")))
    assert Batch.objects.get().total_profiles == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("strings.jsonl", b'"https://example.org/1"\n'),
        ("latin.csv", "name;url\nÄpfel;https://example.org/1\n".encode("latin-1")),
        ("nul.txt", b"https://example.org/1\nhttps://example.org/\0\n"),
    ],
)
def test_a_file_that_would_be_another_list_as_text_has_to_be_chosen_again(client, name, content):
    response = preview(client, file=upload(content, name))
    assert not text_field(response)
    assert f"Choose “{name}” again" in text_of(response)
