"""Messages by e-mail to a real mail server: their content, and the effect of each kind of refusal."""

from email.utils import parsedate_to_datetime

import pytest

from batches.batch_manager import BatchManager
from batches.models import Subscription
from batches.notifications import outbox
from batches.notifications.courier import Courier
from batches.tests.support.factories import failed, make_list, run_list, story_of, subscribe, with_stories
from batchproject.settings import MAIL_SERVER

from .conftest import only_delivery, pass_time, set_mail_server

pytestmark = pytest.mark.django_db(transaction=True)
one_database = pytest.mark.databases("sqlite")

BASE = "https://batches.example.org/site"


@pytest.fixture(autouse=True)
def base_url(configure):
    configure(base_url=BASE)


def test_a_run_with_new_stories_is_one_mail(mails, deliver):
    found = make_list("News “sites”", 2)
    subscription = subscribe(found, topics=["stories", "done"])
    batch = run_list(
        found,
        with_stories(
            story_of(1, "Über alles & <b>bold</b>", "https://example.org/story"),
            story_of(2, "Second", "javascript:alert(1)"),
        ),
        failed(),
    )
    deliver(base_url=BASE)
    [mail] = mails.mails
    delivery = only_delivery()
    assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 1, "")
    assert mail["Subject"] == "2 new stories in “News “sites””"
    assert (mail["To"], mail["From"]) == ("ada@example.org", "batches@localhost")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["List-Id"] == f"<{found.pk}.batches.example.org>"
    assert mail["Message-ID"] == f"<{delivery.event_id}@batches.example.org>"
    assert parsedate_to_datetime(mail["Date"])
    text, html = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    assert "Über alles & <b>bold</b>" in text
    assert "Über alles &amp; &lt;b&gt;bold&lt;/b&gt;" in html
    assert 'href="https://example.org/story"' in html
    assert "javascript:" not in text + html
    for link in (
        f"{BASE}/admin/batches/batch/{batch.pk}/change/",
        f"{BASE}/admin/batches/subscription/{subscription.pk}/change/",
    ):
        assert link in text
        assert link in html


@one_database
def test_a_message_for_a_channel_of_a_newer_version_is_not_sent_as_mail(mails, deliver):
    assert BatchManager().send_test_message(subscribe(make_list()).pk)
    Subscription.objects.update(channel="pigeon")
    deliver()
    assert (mails.mails, only_delivery().state) == ([], "waiting")
    assert only_delivery().error == "this version does not know the channel “pigeon”"


@one_database
@pytest.mark.parametrize(
    ("answers", "error", "state"),
    [
        ({"RCPT": "550 5.1.1 No such user"}, "the mail server answered 550 5.1.1 No such user", "failed"),
        ({"DATA": "554 5.7.1 Spam"}, "the mail server answered 554 5.7.1 Spam", "failed"),
        ({"MAIL": "553 5.1.8 Not you"}, "the mail server answered 553 5.1.8 Not you", "failed"),
        ({"MAIL": "530 5.7.0 Log in"}, "the mail server answered 530 5.7.0 Log in", "waiting"),
        ({"RCPT": "530 5.7.0 Log in"}, "the mail server answered 530 5.7.0 Log in", "waiting"),
        ({"RCPT": "450 4.2.1 Greylisted"}, "the mail server answered 450 4.2.1 Greylisted", "waiting"),
        ({"DATA": "452 4.3.1 Full"}, "the mail server answered 452 4.3.1 Full", "waiting"),
    ],
)
def test_a_refusal_for_good_fails_with_its_answer_and_one_for_now_is_retried(mails, deliver, answers, error, state):
    assert BatchManager().send_test_message(subscribe(make_list()).pk)
    mails.answers = answers
    deliver()
    assert (only_delivery().error, only_delivery().state) == (error, state)
    mails.answers = {}
    pass_time()
    deliver()
    assert len(mails.mails) == (state == "waiting")
    assert only_delivery().state == ("delivered" if state == "waiting" else "failed")


@one_database
def test_a_server_that_hangs_breaks_off_or_is_not_there_is_retried(mails, deliver, settings):
    assert BatchManager().send_test_message(subscribe(make_list()).pk)
    mails.hangs = True
    deliver(message_timeout=0.3)
    assert only_delivery().error == "did not answer within 0.3 s"
    mails.hangs, mails.breaks_off = False, True
    pass_time()
    deliver()
    assert only_delivery().error.startswith(f"the mail server 127.0.0.1:{mails.port} does not answer: ")
    set_mail_server(settings, port=1)
    pass_time()
    deliver()
    assert only_delivery().error == "the mail server 127.0.0.1:1 does not answer: Connection refused"
    assert (only_delivery().state, only_delivery().attempts) == ("waiting", 3)


def test_a_server_has_time_to_scan_a_message_while_its_claim_lasts():
    assert 20 < MAIL_SERVER["timeout"] < Courier.message_timeout < outbox.VISIBILITY.total_seconds()


@one_database
def test_a_name_cannot_add_a_header(mails, deliver):
    found = make_list("x", 1)
    type(found).objects.update(name="Press\r\nBcc: eve@example.org\r\n\r\nHello\u2028\u202e")
    subscribe(found, topics=["stories"])
    run_list(found, with_stories(story_of(1, "One\r\n.\r\nBcc: eve@example.org\x1b[31m\u202e")))
    deliver()
    [mail] = mails.mails
    assert mail["Bcc"] is None
    assert mail["Subject"].strip() == "1 new story in “Press Bcc: eve@example.org Hello”"
    assert "One . Bcc: eve@example.org [31m" in mail.get_body(("plain",)).get_content()
