"""English everywhere but on pages: the API, commands and stored texts are in English for everybody."""

import json
import re
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.template import Context, Template
from django.utils.html import format_html
from django.utils.translation import gettext, override

from batches.batch_manager import BatchManager
from batches.management.base import DatabaseCommand
from batches.models import BatchLog, Queue, WebhookDelivery
from batches.models.lists import COUNT_FIRST
from batches.notifications.message_texts import word_letter
from batches.queue.refusals import Code, Refused
from batches.tests.admin.conftest import batch_with, client_as, press, reread
from batches.tests.admin.test_subscriptions import ADD, FIELDS
from batches.tests.support.factories import make_list
from batches.text import Clause, Sentence, choose_plural, join, recognise, translate

pytestmark = [pytest.mark.databases("sqlite"), pytest.mark.django_db]


# -- A sentence --------------------------------------------------------------------------------------------------------


def test_a_sentence_is_english_as_text_and_german_as_html(german):
    sentence = Sentence(
        "“%(batch)s” has changed since, and is %(status)s now. Nothing was undone.",
        batch="<b>",
        status=Sentence("paused"),
    )
    with override("de"):
        assert sentence == "“<b>” has changed since, and is paused now. Nothing was undone."
        shown = "„&lt;b&gt;“ hat sich inzwischen geändert, Status jetzt: pausiert. Nichts wurde rückgängig gemacht."
        assert format_html("{}", sentence) == Template("{{ it }}").render(Context({"it": sentence})) == shown
    assert format_html("{}", sentence) == "“&lt;b&gt;” has changed since, and is paused now. Nothing was undone."


def test_a_sentence_stays_one_in_an_exception(german):
    refusal = Refused(Code.BAD_VALUE, Sentence("The position must be a whole number.")).refusal
    error = ValueError(refusal.message)
    with override("de"):
        assert translate(str(error)) == translate(str(refusal)) == "Die Position muss eine ganze Zahl sein."
        assert refusal.message == "The position must be a whole number."


@pytest.mark.parametrize(
    ("count", "english", "translated"),
    [(1, "after 1 minute", "nach 1 Minute"), (2_000, "after 2,000 minutes", "nach 2.000 Minuten")],
)
def test_a_number_has_its_plural_and_the_separators_of_the_language(german, count, english, translated):
    sentence = choose_plural("after %(count)s minute", "after %(count)s minutes", count=count)
    assert sentence == english
    with override("de"):
        assert translate(sentence) == translated


def test_sentences_can_be_joined_and_quoted(german):
    why = Clause(Sentence("It is empty."))
    both = join([Sentence("line %(line)s: %(why)s", line="1", why=why), "…"], "; ")
    assert both == "line 1: It is empty; …"
    with override("de"):
        assert translate(both) == "Zeile 1: Leer; …"
    assert join([], ", ") == ""


def test_a_text_is_recognised_by_a_template_with_what_is_in_it(german):
    text = "its feed: 1,200 of the last"
    found = recognise(text, ("its feed: %(why)s", "%(count)s of the last"))
    assert found == text
    with override("de"):
        assert translate(found) == "sein Feed: 1.200 of the last"
    assert recognise("another", ("its feed: %(why)s",)) == "another"


@pytest.mark.databases("sqlite", "postgresql")
def test_a_sentence_is_stored_as_its_text():
    entry = BatchLog.objects.create(action="hold_queue", message=Sentence("%(count)s of 2", count=1))
    assert BatchLog.objects.filter(message=entry.message).values_list("message", flat=True).get() == "1 of 2"


# -- Channels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("get", "/api/v1/queue/", None),
        ("get", "/api/v1/batches/{batch}/", None),
        ("get", "/api/v1/lists/{list}/", None),
        ("get", "/api/v1/batches/nothing/", None),
        ("get", "/api/v1/nothing/", None),
        ("get", "/api/v1/batches/?unknown=1", None),
        ("get", "/api/v1/schema/", None),
        ("post", "/api/v1/batches/", {}),
        ("post", "/api/v1/batches/", {"name": "A", "urls": ["nothing", "https://example.org"]}),
        ("post", "/api/v1/batches/{batch}/retry/", {}),
        ("post", "/api/v1/batches/{batch}/move/", {"position": "x"}),
        ("patch", "/api/v1/lists/{list}/", {"schedule": "1 2 3"}),
        ("post", "/api/v1/batches/bulk/", {"action": "start", "ids": ["nothing"]}),
    ],
)
def test_the_api_answers_the_same_bytes_in_any_language(german, method, path, body):
    client, batch, found = client_as("superuser"), batch_with("queued"), make_list("A list", 2)
    assert BatchManager().change_list(found.pk, schedule="0 6 * * 1-5")
    path = path.format(batch=batch.pk, list=found.pk)
    answers = []
    for language in ("en", "de"):
        options = {} if body is None else {"data": body, "content_type": "application/json"}
        answers.append(getattr(client, method)(path, headers={"Accept-Language": language}, **options))
    first, second = answers
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first["Content-Language"] == second["Content-Language"] == "en"


class Probe(DatabaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("--first", help=str(COUNT_FIRST))

    def handle(self, **options):
        self.stdout.write(gettext("Overview"))


def test_the_output_and_help_of_a_command_are_not_translated(german):
    out = StringIO()
    with override("de"):
        assert str(COUNT_FIRST).startswith("Auch Beiträge")
        call_command(Probe(), stdout=out)
        assert "Stories found when" in Probe().create_parser("manage.py", "probe").format_help()
    assert out.getvalue() == "Overview\n"


def test_the_actions_of_a_german_operator_are_stored_in_english(german):
    client = client_as("superuser", headers={"Accept-Language": "de"})
    batch = batch_with("paused", ok=1, failed=1)
    began = BatchLog.objects.latest("pk").pk
    assert press(client, "queue_batch", batch).headers["Content-Language"] == "de"
    for call in ("start_batch", "pause_batch", "retry_failed", "pause_batch"):
        press(client, call, reread(batch))
    assert BatchManager().hold_queue("Umzug")
    messages = list(BatchLog.objects.filter(pk__gt=began).order_by("pk").values_list("message", flat=True))
    assert messages == ["", "", "", "retrying 1 failed profile", "", "Umzug"]
    assert Queue.objects.get().why_held == "Umzug"
    assert not re.search("[äöüß]", repr(list(BatchLog.objects.values())))


def test_a_subscription_by_a_german_operator_is_logged_in_english(german):
    client, found = client_as("superuser", headers={"Accept-Language": "de"}), make_list("A list", 1)
    response = client.post(ADD, FIELDS | {"list": found.pk}, follow=True)
    assert "E-Mail für „A list“" in response.content.decode()
    assert LogEntry.objects.get().object_repr == "e-mail for “A list”"
    assert BatchLog.objects.latest("pk").message == "e-mail: stories"


def test_a_message_has_english_numbers_in_a_german_project(german):
    batch = {"name": "News", "total_profiles": 12_000, "status": "done", "id": "1"}
    batch |= {"successful_checks": 12_000, "failed_checks": 0}
    data = {"list": {"name": "News"}, "batch": batch, "topics": ["done"]}
    delivery = WebhookDelivery(payload=json.dumps({"type": "list.run", "data": data}))
    with override("de"):
        assert "12,000 profiles" in word_letter(delivery).text
