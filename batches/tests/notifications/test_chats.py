"""Messages through Apprise to a real receiver, with its `json://` addresses."""

import importlib.util
import json
import logging
import sys
from unittest.mock import Mock

import pytest

from batches.batch_manager import BatchManager
from batches.models import BatchLog, Subscription
from batches.notifications import chats
from batches.tests.conftest import skip_or_fail
from batches.tests.support.factories import make_list, run_list, story_of, subscribe, unchanged, with_stories
from batches.tests.support.processes import run_python
from batches.tests.support.threads import in_thread

from .conftest import only_delivery, pass_time

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.databases("sqlite"),
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated"),  # on Python 3.11 and 3.12
]

SECRET = "a-secret-token"


@pytest.fixture
def installed():
    if importlib.util.find_spec("apprise") is None:
        skip_or_fail("Apprise is not installed: pip install -r requirements-apprise.txt")


@pytest.fixture
def address(installed, receiver):
    return receiver.url(f"/{SECRET}").replace("http://", "json://")


def test_a_message_arrives_cut_and_calls_nobody_and_its_address_is_shown_nowhere(address, receiver, deliver):
    found = make_list("News @everyone", 1)
    made = subscribe(found, address, channel="apprise")
    assert (made.shown_address, str(made)) == ("json://…", "Apprise for “News @everyone”")
    assert SECRET not in "".join(BatchLog.objects.values_list("message", flat=True))
    long = (story_of(number, f"{number} {'x' * 100}") for number in range(2, 100))
    run_list(found, with_stories(story_of(1, "<!channel> @here and <b>bold</b>"), *long))
    deliver()
    [request] = receiver.requests
    said = json.loads(request.body)
    assert (request.path.strip("/"), said["title"]) == (SECRET, "99 new stories in “News @\u200beveryone”")
    assert "<\u200b!channel> @\u200bhere and <\u200bb>bold<\u200b/b>" in said["message"]
    assert len(said["message"]) <= chats.MAX_TEXT + 200
    assert (only_delivery().state, only_delivery().error) == ("delivered", "")


def test_a_failure_is_retried_and_its_reason_shown_without_the_secret(address, receiver, deliver, caplog):
    assert BatchManager().send_test_message(subscribe(make_list(), address, channel="apprise").pk)
    receiver.answer(f"/{SECRET}", status=500)
    receiver.answer(f"/{SECRET}/", status=500)
    deliver()
    delivery = only_delivery()
    assert (delivery.state, delivery.attempts) == ("waiting", 1)
    assert delivery.error.startswith("Apprise could not send it: ")
    assert "500" in delivery.error
    assert SECRET not in delivery.error + caplog.text
    receiver.answer(f"/{SECRET}")
    receiver.answer(f"/{SECRET}/")
    pass_time()
    deliver()
    assert only_delivery().state == "delivered"


def test_the_text_of_an_exception_is_not_shown_because_it_may_have_the_secret(deliver, monkeypatch, caplog):
    made = Subscription.objects.create(list=make_list(), channel="apprise", address=f"json://{SECRET}", topics=["done"])
    assert BatchManager().send_test_message(made.pk)
    broken = Mock(notify=Mock(side_effect=ValueError(f"https://example.org/{SECRET}")))
    monkeypatch.setattr(chats, "open_chat", lambda address: broken)
    deliver()
    assert (only_delivery().state, only_delivery().error) == ("waiting", "Apprise could not send it: ValueError")
    assert SECRET not in caplog.text


@pytest.mark.parametrize("text", ["nonsense", "https://example.org/", "unknown://example.org", "slack://", ""])
def test_an_address_that_apprise_does_not_know_is_refused(installed, text, caplog):
    found = make_list()
    with unchanged():
        refusal = BatchManager().subscribe(found.pk, text, ["done"], channel="apprise")
    assert refusal.message.startswith("Apprise does not know this address.")
    assert caplog.text == ""


def test_without_apprise_the_answer_says_what_to_install(monkeypatch, deliver):
    monkeypatch.setitem(sys.modules, "apprise", None)
    found = make_list("News", 1)
    refusal = BatchManager().subscribe(found.pk, "json://example.org", ["done"], channel="apprise")
    assert refusal.message == chats.MISSING
    made = Subscription.objects.create(list=found, channel="apprise", address="json://example.org", topics=["done"])
    assert BatchManager().send_test_message(made.pk)
    deliver()
    assert (only_delivery().state, only_delivery().error) == ("waiting", chats.MISSING)


def test_the_log_of_apprise_is_collected_from_this_thread_only(caplog):
    logger = logging.getLogger("apprise")
    with chats.captured_log() as lines:
        logger.warning("It failed.")
        in_thread(lambda: logger.warning("Another.")).result()
    logger.warning("Later.")
    assert lines == ["It failed."]
    assert [record.getMessage() for record in caplog.records] == ["Another.", "Later."]


OPEN_A_CHAT = """
import django; django.setup()
from email import charset
from batches.notifications.chats import open_chat
before = dict(charset.CHARSETS)
open_chat("json://localhost")
assert charset.CHARSETS == before, charset.CHARSETS
"""


def test_it_does_not_change_how_mails_are_written(installed):
    tried = run_python("-W", "ignore", "-c", OPEN_A_CHAT, DJANGO_SETTINGS_MODULE="batchproject.settings")
    assert tried.returncode == 0, tried.stderr
