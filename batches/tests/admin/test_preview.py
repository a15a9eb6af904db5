"""What is shown of a list before anything is stored, and that one form makes one batch."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from batches.batch_manager import BatchManager
from batches.models import Batch, BatchLog, Profile
from batches.reports.outlook import forecast_queue
from batches.tests.support.threads import run_in_threads

from .conftest import batch_with, messages_of, queries_of, text_of, user_of
from .test_adding import ADD, confirmation, filled, preview, upload

pytestmark = pytest.mark.django_db

SCRIPT = "<script>alert(1)</script>"


def counts(shown):
    return dict(shown.context["counts"])


def fetch(client, **fields):
    """As add.js asks for it."""
    return client.post(ADD, filled(**fields), headers={"X-Requested-With": "fetch"})


def test_a_preview_counts_what_would_go_in_and_stores_nothing(client):
    BatchManager().create_batch("before", ["https://example.org/1", "https://example.org/9"])
    text = "\n".join(
        ["https://example.org/1", "HTTPS://EXAMPLE.ORG/1", "https://example.org/2", "https://b.example/", "nonsense"]
    )
    shown = preview(client, addresses=text)
    assert counts(shown) == {
        "Profiles": "3",
        "New": "2",
        "Already known": "1",
        "Duplicates skipped": "1",
        "Rejected lines": "1",
        "Hosts": "2",
        "Largest host": "2 at example.org",
    }
    assert (Batch.objects.count(), Profile.objects.count(), BatchLog.objects.count()) == (1, 2, 1)
    assert f"{text}</textarea>" in text_of(shown)


def test_the_first_rejected_lines_are_listed_with_the_reason_and_the_rest_is_counted(client):
    lines = [*(f"no {SCRIPT}{number}" for number in range(1, 1024)), "https://example.org/1"]
    html = text_of(preview(client, addresses="\n".join(lines)))
    rows = re.findall(r"<tr><td>(\d+)</td><td>(.*?)</td><td>(.*?)</td></tr>", html)
    assert [int(line) for line, _, _ in rows] == list(range(1, 21))
    assert rows[0][1:] == (
        "no &lt;script&gt;alert(1)&lt;/script&gt;1",
        "It contains a space or other white space.",
    )
    assert "… and 1,003 more." in html
    assert SCRIPT not in html


def test_strangers_names_are_escaped_in_the_sample(client):
    shown = preview(client, file=upload(f"url,name\nhttps://example.org/,{SCRIPT}".encode(), "a.csv"))
    assert SCRIPT not in text_of(shown)
    assert "&lt;script&gt;" in text_of(shown)


def test_the_preview_says_where_it_will_wait_as_the_manager_then_places_it(client):
    for priority in (5, 5, 1):
        batch_with(priority=priority)
    for priority in (9, 5, 3, 1, 0):
        shown = preview(client, addresses="https://example.org/1", priority=str(priority))
        position = int(re.search(r"at position (\d+)", shown.context["when"])[1])
        batch = BatchManager().create_batch("new", ["https://example.org/1"], priority=priority)
        assert batch.position == position
        BatchManager().delete_batch(batch.pk)


def test_the_preview_says_when_it_starts_if_a_worker_is_there(client):
    assert "start" not in preview(client, addresses="https://example.org/1").context["when"]
    BatchManager("host:1", "worker").claim_run("host:1")
    assert forecast_queue().worker_is_alive
    assert "and start about" in preview(client, addresses="https://example.org/1").context["when"]
    BatchManager().hold_queue()
    assert "held" in preview(client, addresses="https://example.org/1").context["when"]


def test_a_batch_that_is_not_queued_has_no_time_to_start(client):
    assert preview(client, addresses="https://example.org/1", queue=None).context["when"] == ""


def test_the_number_of_queries_does_not_grow_with_the_list(client):
    def look(number):
        text = "\n".join(f"https://example.org/{index}" for index in range(number))
        return queries_of(lambda: preview(client, addresses=text))

    look(1)
    assert look(1) == look(2000)


def test_another_list_than_the_one_that_was_previewed_is_previewed_again(client):
    shown = preview(client, addresses="https://example.org/1")
    again = client.post(ADD, filled(**confirmation(shown), addresses="https://example.org/2"))
    assert "The list has changed since the preview." in text_of(again)
    assert not Batch.objects.exists()
    client.post(ADD, filled(**confirmation(again), addresses="https://example.org/2"))
    assert Profile.objects.get().url == "https://example.org/2"


@pytest.mark.parametrize("previewed", ["", "\0", "x" * 3000, "0" * 64])
def test_nothing_is_added_without_a_preview(client, previewed):
    client.post(ADD, filled(add="Add batch", previewed=previewed, addresses="https://example.org/1"))
    assert not Batch.objects.exists()


# One form makes one batch


def test_a_form_that_is_sent_twice_makes_one_batch_and_leads_to_it(client):
    shown = preview(client, addresses="https://example.org/1")
    fields = filled(**confirmation(shown), addresses="https://example.org/1")
    first, second = (client.post(ADD, fields, follow=True) for _ in range(2))
    assert Batch.objects.get().total_profiles == 1
    assert (LogEntry.objects.count(), BatchLog.objects.count()) == (1, 1)
    assert first.redirect_chain == second.redirect_chain
    assert messages_of(second)[0][1].endswith("The form was sent twice; only one batch was created.")


@pytest.mark.parametrize("edited", [{"name": "Evening"}, {"addresses": "https://example.org/2"}, {"priority": "1"}])
def test_a_form_that_is_edited_after_going_back_makes_another_batch(client, edited):
    fields = {"addresses": "https://example.org/1"}
    shown = preview(client, **fields)
    client.post(ADD, filled(**confirmation(shown), **fields))
    token = confirmation(shown)["token"]
    fields |= edited
    again = confirmation(preview(client, **fields)) | {"token": token}
    client.post(ADD, filled(**again, **fields))
    assert Batch.objects.count() == 2


def test_somebody_elses_form_makes_another_batch_though_it_says_the_same(client, client_of):
    fields = {"addresses": "https://example.org/1", "token": "the same"}
    for person in (client, client_of("adder")):
        sent = confirmation(preview(person, **fields)) | fields
        person.post(ADD, filled(**sent))
    assert Batch.objects.count() == 2


@pytest.mark.parametrize("token", ["", "\0", "x" * 100_000, "\ufffd", "00000000-0000-0000-0000-000000000000"])
def test_any_token_will_do(client, token):
    before = batch_with()
    fields = {"addresses": "https://example.org/1"}
    sent = confirmation(preview(client, **fields)) | {"token": token}
    client.post(ADD, filled(**sent, **fields))
    assert Batch.objects.exclude(pk=before.pk).get().name == "Morning"


def test_a_batch_that_was_deleted_meanwhile_is_told_of(client):
    fields = {"addresses": "https://example.org/1"}
    sent = filled(**confirmation(preview(client, **fields)), **fields)
    client.post(ADD, sent)
    # Its rows are not all gone yet.
    Batch.objects.update(status="paused", position=None, deleted_at="2020-01-01T00:00Z")
    assert "already has this ID" in text_of(client.post(ADD, sent))


@pytest.mark.django_db(transaction=True)
def test_a_double_click_makes_one_batch():
    user = user_of("superuser")
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(user)
    shown = preview(clients[0], addresses="https://example.org/1")
    fields = filled(**confirmation(shown), addresses="https://example.org/1")
    answers = run_in_threads([lambda client=client: client.post(ADD, fields).url for client in clients])
    assert len(set(answers)) == 1
    assert Batch.objects.count() == 1


# Nothing is lost


def text_field(shown):
    return shown.context["adminform"].form["addresses"].value()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", b"\xef\xbb\xbfhttps://example.org/1\nnonsense\n"),
        ("list.csv", "name;url\nÄpfel;https://example.org/1\n".encode()),
        ("feeds.opml", b'<opml><body><outline text="A" xmlUrl="https://example.org/1"/></body></opml>'),
    ],
)
def test_without_javascript_a_file_comes_back_as_a_text_that_is_the_same_list(client, name, content):
    shown = preview(client, file=upload(content, name))
    assert text_field(shown) == content.decode("utf-8-sig")
    assert f"This is the content of “{name}”" in text_of(shown)
    client.post(ADD, filled(**confirmation(shown), addresses=text_field(shown).replace("\n", "\r\n")))
    assert Batch.objects.get().total_profiles == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("strings.jsonl", b'"https://example.org/1"\n'),
        ("latin.csv", "name;url\nÄpfel;https://example.org/1\n".encode("latin-1")),
        ("nul.txt", b"https://example.org/1\nhttps://example.org/\0\n"),
    ],
)
def test_a_file_that_would_be_another_list_as_a_text_has_to_be_chosen_again(client, name, content):
    shown = preview(client, file=upload(content, name))
    assert not text_field(shown)
    assert f"Choose “{name}” again" in text_of(shown)


def test_a_file_comes_back_after_an_error_elsewhere(client):
    shown = preview(client, file=upload(b"https://example.org/1\n"), priority="high")
    assert text_field(shown) == "https://example.org/1\n"
    assert not Batch.objects.exists()


def test_a_files_name_is_escaped(client):
    html = text_of(preview(client, file=upload(b"https://example.org/1", "<b>.txt")))
    assert "“&lt;b&gt;.txt”" in html


# What add.js fetches


def test_what_is_fetched_has_the_preview_and_not_the_list_again(client):
    html = text_of(fetch(client, addresses="https://example.org/1\n" * 1000))
    assert 'name="add"' in html
    assert "<textarea" not in html
    assert "<html" not in html
    assert len(html) < 3000


def test_what_is_fetched_has_each_error_with_its_field(client):
    html = text_of(fetch(client, addresses="nonsense", name=""))
    assert re.findall(r'data-field="(\w+)"', html) == ["__all__", "name", "addresses"]
    assert 'id="id_addresses_error"' in html
    assert 'name="add"' not in html


@pytest.mark.parametrize("role", ["staff", "viewer", "operator", "editor"])
def test_only_who_may_add_batches_gets_a_preview(client_of, role):
    assert fetch(client_of(role), addresses="https://example.org/1").status_code == 403
