"""Workers deliver webhooks and mails: while they check, stopped, killed, beside others, and after faults."""

import asyncio
import signal
from datetime import timedelta
from threading import Event
from unittest.mock import DEFAULT, Mock

import pytest
from django.db import OperationalError
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking import worker
from batches.models import Batch, Queue, WebhookDelivery, Worker
from batches.notifications import courier, outbox
from batches.tests.support.factories import age_workers, assert_consistent, make_batch, make_list, subscribe, values_of
from batches.tests.support.processes import WAIT_SECONDS, wait_until
from batches.tests.support.working import nothing_left, work

from .conftest import deliveries, make_webhook, only_delivery, pass_time, seconds_to_wait

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
one_database = pytest.mark.databases("sqlite")


def is_settled():
    return WebhookDelivery.objects.exists() and not WebhookDelivery.objects.waiting().exists()


@pytest.fixture
def start_sending(receiver, commands):
    """Starts a worker and returns it with a gate, for which its delivery to /hook waits."""

    def start(**config):
        outbox.write_test_event(make_webhook(receiver.url("/hook")))
        gate, worker = receiver.hold("/hook"), commands.start_worker(**config)
        gate.wait_for()
        return worker, gate

    return start


@one_database
def test_sigterm_finishes_deliveries_in_flight_and_starts_no_others(receiver, start_sending):
    worker, gate = start_sending(grace_seconds=600)
    worker.signal(signal.SIGTERM)
    worker.wait_for(lambda: "Deliveries in flight get 600 s" in worker.err)
    outbox.write_test_event(make_webhook(receiver.url("/other")))
    gate.open()
    assert worker.wait() == 0
    assert [delivery.state for delivery in deliveries()] == ["delivered", "waiting"]
    assert receiver.hits("/other") == 0
    assert "Traceback" not in worker.err


@one_database
@pytest.mark.parametrize("signals", [1, 2], ids=["after the grace period", "at the second signal"])
def test_a_hanging_receiver_does_not_prevent_a_worker_from_stopping(start_sending, signals):
    worker, _ = start_sending(grace_seconds=0.2 if signals == 1 else 3600)
    worker.signal(signal.SIGTERM)
    if signals == 2:
        worker.wait_for(lambda: "Deliveries in flight get 3600 s" in worker.err)
        worker.signal(signal.SIGINT)  # the same one again would count only after a second
    assert worker.wait() == 0
    assert (only_delivery().state, only_delivery().error) == ("waiting", "")
    assert "Traceback" not in worker.err


def test_a_hanging_receiver_does_not_delay_the_batches(receiver, commands, configure):
    gate = receiver.hold("/")
    make_webhook(receiver.url())
    batches = [make_batch(f"{number}", 20, checker="effortless") for number in range(3)]
    worker = commands.start_worker(lease_seconds=1)
    worker.wait_for(lambda: all(values_of(batch.pk)["status"] == "done" for batch in batches))
    assert [delivery.state for delivery in deliveries()] == ["waiting"] * 3
    assert [list(batch.logs.filter(action="take_over")) for batch in batches] == [[]] * 3
    gate.open()
    worker.wait_for(is_settled)
    assert_consistent()


# Mails


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
    assert BatchManager().change_list(run.list_id, name="Renamed")
    pass_time()
    start("batchworker").wait_for(is_settled)
    first, second = mails.mails
    assert [first[name] for name in ("Message-ID", "Subject")] == [second[name] for name in ("Message-ID", "Subject")]
    assert first.get_body(("plain",)).get_content() == second.get_body(("plain",)).get_content()
    assert WebhookDelivery.objects.count() == 1


def test_two_workers_send_each_message_once(start, mails, configure):
    for number in range(10):
        found = make_list(f"List {number}", 1, checker="effortless")
        for name in ("ada", "eve"):
            subscribe(found, f"{name}@example.org", topics=["done"])
        assert BatchManager().run_list(found.pk)
    for one in [start("batchworker", "--processes", "1") for _ in range(2)]:
        one.wait_for(lambda: WebhookDelivery.objects.delivered().count() == 20)
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
    assert "A worker started at " in mails.mails[0].get_body(("plain",)).get_content()


# In the process of the test


@one_database
def test_deliveries_go_on_while_a_batch_is_checked(receiver, script, configure):
    configure(allowed_networks=("127.0.0.0/8",))
    outbox.write_test_event(make_webhook(receiver.url()))

    async def check(profile):
        await asyncio.to_thread(wait_until, lambda: receiver.requests)

    script(check)
    make_batch("it", 1, checker="scripted")
    work()
    assert [batch.failed_checks for batch in Batch.objects.all()] == [0]
    assert "delivered" in {delivery.state for delivery in deliveries()}


@one_database
@pytest.mark.parametrize(
    ("module", "broken", "line"),
    [
        (outbox, "claim_due", "Messages could not be delivered, next try in 15 s"),
        (outbox, "settle", "The outcome of a delivery could not be recorded: Webhook “127.0.0.1"),
        (courier, "Client", "Messages are not delivered"),
    ],
)
def test_a_fault_in_the_deliveries_stops_neither_the_batch_nor_the_worker(
    receiver, script, configure, monkeypatch, caplog, module, broken, line
):
    configure(allowed_networks=("127.0.0.0/8",))
    monkeypatch.setattr(module, broken, Mock(side_effect=TypeError("a fault of ours")))
    make_webhook(receiver.url())
    batch = make_batch("it", 3, checker="scripted")
    work()
    assert values_of(batch.pk)["status"] == "done"
    assert len(deliveries()) == 1
    assert line in caplog.text


@one_database
def test_a_delivery_waits_for_a_database_that_is_unavailable(receiver, script, configure, monkeypatch):
    configure(allowed_networks=("127.0.0.0/8",))
    monkeypatch.setattr(worker, "FIRST_WAIT", 0.01)
    faults = [OperationalError("away"), OperationalError("still away"), DEFAULT]
    monkeypatch.setattr(outbox, "settle", Mock(wraps=outbox.settle, side_effect=faults))
    outbox.write_test_event(make_webhook(receiver.url()))
    work()
    assert nothing_left()
    assert (only_delivery().state, len(receiver.requests)) == ("delivered", 1)
