"""The worker delivers webhooks: while it checks, killed, stopped, with other workers, and after faults."""

import asyncio
import signal

import pytest
from django.db import OperationalError
from django.utils import timezone

from batches.checking import worker
from batches.models import Batch, WebhookDelivery, Worker
from batches.notifications import courier, outbox
from batches.tests.support.factories import assert_consistent, make_batch, values_of
from batches.tests.support.feedserver import Reply
from batches.tests.support.processes import wait_until
from batches.tests.support.working import nothing_left, work

from .conftest import deliveries, make_webhook, only_delivery, pass_time, seconds_to_wait, verify

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
one_database = pytest.mark.databases("sqlite")


def is_settled():
    return not WebhookDelivery.objects.waiting().exists()


def has_failed_once():
    return WebhookDelivery.objects.exclude(error="").exists()


@pytest.fixture
def start_sending(receiver, commands):
    """Starts a worker and returns it with a gate, for which its delivery to /hook waits."""

    def start(**config):
        outbox.write_test_event(make_webhook(receiver.url("/hook")))
        gate, worker = receiver.hold("/hook"), commands.start_worker(**config)
        gate.wait_for()
        return worker, gate

    return start


def test_a_worker_sends_the_event_of_its_batch_and_retries_a_failure(receiver, commands, configure):
    webhook = make_webhook(receiver.url())
    receiver.answer_in_turn("/", Reply(500), Reply())
    batch = make_batch("Press", 3, checker="effortless")
    worker = commands.start_worker()
    worker.wait_for(has_failed_once)
    pass_time(attempts=1)  # unless it tries again already
    worker.wait_for(is_settled)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    said = verify(second, webhook.secret)
    assert (said["type"], said["data"]["batch"]["id"]) == ("batch.done", str(batch.pk))
    assert (only_delivery().state, only_delivery().attempts) == ("delivered", 2)
    assert "Webhook “http://127.0.0.1" in worker.err
    assert "Traceback" not in worker.err


def test_a_delivery_of_a_killed_worker_is_sent_again_by_another(receiver, commands, start_sending):
    worker, gate = start_sending()
    worker.signal(signal.SIGKILL)
    worker.wait()
    assert (only_delivery().state, only_delivery().attempts) == ("waiting", 1)
    assert 0 < seconds_to_wait(only_delivery()) <= outbox.VISIBILITY.total_seconds()
    gate.open()
    pass_time()
    commands.start_worker().wait_for(is_settled)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (only_delivery().state, only_delivery().attempts) == ("delivered", 2)


def test_two_workers_send_each_message_once(receiver, commands):
    for webhook in [make_webhook(receiver.url(f"/{number}")) for number in range(4)] * 10:
        outbox.write_test_event(webhook)
    WebhookDelivery.objects.update(next_attempt_at=None, error="not yet")
    for one in (commands.start_worker(), commands.start_worker()):
        one.wait_for(lambda pid=one.popen.pid: Worker.objects.filter(name__endswith=f":{pid}").exists())
    WebhookDelivery.objects.update(next_attempt_at=timezone.now(), error="")
    one.wait_for(is_settled)
    assert len(receiver.requests) == 40
    assert {delivery.attempts for delivery in deliveries()} == {1}


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
        (outbox, "settle", "The outcome of a delivery could not be recorded: Webhook “http://127.0.0.1"),
        (courier, "Client", "Messages are not delivered"),
    ],
)
def test_a_fault_in_the_deliveries_stops_neither_the_batch_nor_the_worker(
    receiver, script, configure, monkeypatch, caplog, module, broken, line
):
    def fault(*args):
        raise TypeError("a fault of ours")

    configure(allowed_networks=("127.0.0.0/8",))
    monkeypatch.setattr(module, broken, fault)
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
    settle, faults = outbox.settle, iter([OperationalError("away"), OperationalError("still away")])

    def settle_after_faults(*args):
        for fault in faults:
            raise fault
        return settle(*args)

    monkeypatch.setattr(outbox, "settle", settle_after_faults)
    outbox.write_test_event(make_webhook(receiver.url()))
    work()
    assert nothing_left()
    assert (only_delivery().state, len(receiver.requests)) == ("delivered", 1)
