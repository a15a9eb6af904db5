"""Worker processes send the messages of subscriptions: after a run, killed, stopped, beside others, and for cron."""

import signal
from datetime import timedelta
from threading import Event

import pytest
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Queue, WebhookDelivery, Worker
from batches.notifications import outbox
from batches.tests.support.factories import age_workers, make_list, subscribe
from batches.tests.support.processes import WAIT_SECONDS

from .conftest import only_delivery, pass_time, seconds_to_wait

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
one_database = pytest.mark.databases("sqlite")


@pytest.fixture
def start(commands, mails):
    """Starts a command that knows the mail server."""
    to_server = {"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": str(mails.port)}

    def start(*arguments, **environ):
        return commands.start(*arguments, environ=to_server | environ)

    return start


@pytest.fixture
def run(configure):
    """A run of a list that waits for a worker, with a subscription."""
    found = make_list("Press", 3, checker="effortless")
    subscribe(found, topics=["done"])
    return BatchManager().run_list(found.pk)


def is_settled():
    return WebhookDelivery.objects.exists() and not WebhookDelivery.objects.waiting().exists()


def test_a_worker_notifies_about_its_run_without_waiting_for_a_hanging_server(start, mails, run):
    mails.hangs = True
    worker = start("batchworker")
    worker.wait_for(lambda: mails.attempts == 1)
    run.refresh_from_db()
    assert (run.status, run.successful_checks) == ("done", 3)
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0
    assert (only_delivery().state, only_delivery().attempts) == ("waiting", 1)
    mails.hangs = False
    pass_time()
    start("batchworker").wait_for(is_settled)
    [mail] = mails.mails
    assert mail["Subject"] == "“Press” is done: 3 ok, 0 failed"
    assert mail["Message-ID"] == f"<{only_delivery().event_id}@batches.localhost>"
    assert "Traceback" not in worker.err


def test_a_mail_of_a_killed_worker_is_sent_again_with_the_same_id_and_text(start, mails, run):
    is_sent, may_answer = Event(), Event()

    def wait():
        is_sent.set()
        assert may_answer.wait(WAIT_SECONDS)

    mails.before_answer = wait  # it has arrived, and the worker does not know
    worker = start("batchworker")
    worker.wait_for(is_sent.is_set)
    worker.signal(signal.SIGKILL)
    worker.wait()
    may_answer.set()
    assert (only_delivery().state, only_delivery().attempts) == ("waiting", 1)
    assert 0 < seconds_to_wait(only_delivery()) <= outbox.VISIBILITY.total_seconds()
    pass_time()
    start("batchworker").wait_for(is_settled)
    first, second = mails.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert first.get_body(("plain",)).get_content() == second.get_body(("plain",)).get_content()
    assert WebhookDelivery.objects.count() == 1


def test_two_workers_send_each_message_once(start, mails, configure):
    for number in range(10):
        found = make_list(f"List {number}", 1, checker="effortless")
        for name in ("ada", "eve"):
            subscribe(found, f"{name}@example.org", topics=["done"])
        assert BatchManager().run_list(found.pk)
    for worker in [start("batchworker", "--processes", "1") for _ in range(2)]:
        worker.wait_for(lambda: WebhookDelivery.objects.delivered().count() == 20)
    assert len({mail["Message-ID"] for mail in mails.mails}) == len(mails.mails) == 20
    assert set(WebhookDelivery.objects.values_list("attempts", flat=True)) == {1}


@one_database
def test_cron_notifies_that_no_worker_runs_and_a_returning_worker_does_not_repeat_it(start, mails):
    subscribe(None, topics=["no_worker"], minutes=5)
    Queue.objects.get_or_create(pk=Queue.THE_ONE)
    age_workers(timedelta(minutes=6))
    for _ in range(2):
        command = start("queue", "alert")
        assert command.wait() == 0, command.err
        assert command.out.startswith("The last heartbeat of a worker: ")
    worker = start("batchworker")
    worker.wait_for(lambda: Worker.objects.last_seen().seen_at > timezone.now() - timedelta(minutes=1))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    [mail] = mails.mails
    assert mail["Subject"].startswith("No worker has run for 6 min ")


@one_database
def test_a_returning_worker_notifies_late(start, mails):
    subscribe(None, topics=["no_worker"], minutes=5)
    Queue.objects.get_or_create(pk=Queue.THE_ONE)
    age_workers(timedelta(hours=6))
    start("batchworker").wait_for(is_settled)
    assert [mail["Subject"] for mail in mails.mails] == ["No worker ran for 6 h 00 min"]
