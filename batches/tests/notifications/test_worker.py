"""`manage.py batchworker` delivers webhooks as a real process: beside a batch, killed, in company, and stopped."""

import asyncio
import signal

import pytest
from django.db import OperationalError
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.checking import worker
from batches.models import Batch, Queue, WebhookDelivery
from batches.notifications import courier, outbox
from batches.tests.support.factories import assert_consistent, make_batch, values_of
from batches.tests.support.working import nothing_left, work

from .conftest import deliveries, make_webhook, only_delivery, pass_time, seconds_to_wait

pytestmark = pytest.mark.django_db(transaction=True)
one_database = pytest.mark.databases("sqlite")


def is_settled():
    return not WebhookDelivery.objects.waiting().exists()


def has_failed_once():
    return only_delivery().error != ""


def test_a_worker_tells_the_end_of_its_batch_and_tries_again_what_failed(receiver, commands, configure):
    webhook = make_webhook(receiver.url())
    receiver.answer("/hook", 500, 200)
    batch = make_batch("Press", 3, checker="effortless")
    worker = commands.start_worker()
    receiver.wait_for(1)
    worker.wait_for(has_failed_once)
    assert 3 < seconds_to_wait(only_delivery()) < 7
    pass_time()
    worker.wait_for(is_settled)
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    first, second = receiver.messages
    assert first.id == second.id
    said = second.verify(webhook.secret)
    assert (said["type"], said["data"]["batch"]["id"]) == ("batch.done", str(batch.pk))
    assert (only_delivery().state, only_delivery().attempts) == ("delivered", 2)
    assert "Webhook “http://127.0.0.1" in worker.err
    assert "Traceback" not in worker.err


def test_after_kill_9_between_sending_and_answer_another_worker_sends_it_again(receiver, commands):
    outbox.write_test_event(make_webhook(receiver.url()))
    gate = receiver.hold("/hook")
    worker = commands.start_worker()
    receiver.wait_for(1)
    worker.signal(signal.SIGKILL)
    worker.ended()
    assert (only_delivery().state, only_delivery().attempts) == ("waiting", 1)
    assert 30 < seconds_to_wait(only_delivery()) <= courier.VISIBILITY
    gate.set()
    pass_time()
    commands.start_worker().wait_for(is_settled)
    first, second = receiver.messages
    assert first.id == second.id
    assert (only_delivery().state, only_delivery().attempts) == ("delivered", 2)


def test_two_workers_send_each_message_once(receiver, commands):
    for webhook in [make_webhook(receiver.url(f"/{number}")) for number in range(4)] * 10:
        outbox.write_test_event(webhook)
    WebhookDelivery.objects.update(next_attempt_at=None, error="not yet")
    for one in (commands.start_worker(), commands.start_worker()):
        one.wait_for(lambda pid=one.popen.pid: Queue.objects.filter(worker__endswith=f":{pid}").exists())
    WebhookDelivery.objects.update(next_attempt_at=timezone.now(), error="")
    one.wait_for(is_settled)
    assert len(receiver.messages) == 40
    assert {delivery.attempts for delivery in deliveries()} == {1}


@one_database
def test_sigterm_lets_a_delivery_under_way_end_and_begins_no_new_one(receiver, commands):
    outbox.write_test_event(make_webhook(receiver.url()))
    gate = receiver.hold("/hook")
    worker = commands.start_worker()
    receiver.wait_for(1)
    worker.signal(signal.SIGTERM)
    worker.wait_for(lambda: "Webhook deliveries in flight get 10 s" in worker.err)
    outbox.write_test_event(make_webhook(receiver.url("/other")))
    gate.set()
    assert worker.ended() == 0
    assert [delivery.state for delivery in deliveries()] == ["delivered", "waiting"]
    assert receiver.to("/other") == []
    assert "Traceback" not in worker.err


@one_database
@pytest.mark.parametrize("signals", [1, 2], ids=["after the grace period", "at the second signal"])
def test_a_receiver_that_hangs_does_not_keep_a_worker_from_stopping(receiver, commands, signals):
    outbox.write_test_event(make_webhook(receiver.url()))
    gate = receiver.hold("/hook")
    worker = commands.start_worker(grace_seconds=0.2 if signals == 1 else 3600)
    receiver.wait_for(1)
    worker.signal(signal.SIGTERM)
    if signals == 2:
        worker.wait_for(lambda: "Webhook deliveries in flight get 3600 s" in worker.err)
        worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    gate.set()
    assert (only_delivery().state, only_delivery().error) == ("waiting", "")
    assert "Traceback" not in worker.err


def test_a_receiver_that_hangs_does_not_hold_up_the_batches(receiver, commands, configure):
    gate = receiver.hold("/hook")
    make_webhook(receiver.url())
    batches = [make_batch(f"{number}", 20, checker="effortless") for number in range(3)]
    worker = commands.start_worker(lease_seconds=1)
    worker.wait_for(lambda: all(values_of(batch.pk)["status"] == "done" for batch in batches))
    assert not gate.is_set()
    assert [delivery.state for delivery in deliveries()] == ["waiting"] * 3
    assert [list(batch.logs.filter(action="take_over")) for batch in batches] == [[]] * 3
    gate.set()
    worker.wait_for(is_settled)
    assert_consistent()


# In the test's own process


@one_database
def test_a_worker_that_ends_with_its_batch_delivers_what_that_batch_tells(receiver, script, configure):
    configure(allowed_networks=("127.0.0.0/8",))
    script()
    make_webhook(receiver.url())
    make_batch("it", 3, checker="scripted")
    work()
    assert only_delivery().state == "delivered"


@one_database
def test_deliveries_go_on_while_a_batch_is_checked(receiver, script, configure):
    configure(allowed_networks=("127.0.0.0/8",))
    outbox.write_test_event(make_webhook(receiver.url()))

    async def check(profile):
        await asyncio.to_thread(receiver.wait_for, 1)

    script(check)
    make_batch("it", 1, checker="scripted")
    work()
    assert [batch.failed_checks for batch in Batch.objects.all()] == [0]
    assert "delivered" in {delivery.state for delivery in deliveries()}


@one_database
@pytest.mark.parametrize("broken", ["claim_due", "prune", "settle"])
def test_a_fault_in_the_deliveries_takes_neither_the_batch_nor_the_worker_down(
    receiver, script, configure, monkeypatch, broken
):
    def fault(*args):
        raise TypeError("a fault of ours")

    configure(allowed_networks=("127.0.0.0/8",))
    monkeypatch.setattr(outbox, broken, fault)
    script()
    make_webhook(receiver.url())
    batch = make_batch("it", 3, checker="scripted")
    work()
    assert values_of(batch.pk)["status"] == "done"
    assert len(deliveries()) == 1


@one_database
def test_a_session_that_cannot_be_made_does_not_stop_the_worker(script, configure, monkeypatch, caplog):
    def fault(*args):
        raise OSError("no more files")

    monkeypatch.setattr(courier, "open_guarded_session", fault)
    script()
    batch = make_batch("it", 3, checker="scripted")
    work()
    assert values_of(batch.pk)["status"] == "done"
    assert "Webhooks are not delivered" in caplog.text


@one_database
def test_while_the_database_is_away_a_delivery_waits_for_it(receiver, script, configure, monkeypatch):
    configure(allowed_networks=("127.0.0.0/8",))
    monkeypatch.setattr(worker, "FIRST_WAIT", 0.01)
    settle, faults = outbox.settle, iter([OperationalError("away"), OperationalError("still away")])

    def settle_after_faults(*args):
        for fault in faults:
            raise fault
        return settle(*args)

    monkeypatch.setattr(outbox, "settle", settle_after_faults)
    outbox.write_test_event(make_webhook(receiver.url()))
    script()
    work()
    assert nothing_left()
    assert (only_delivery().state, len(receiver.messages)) == ("delivered", 1)


def test_a_pause_by_the_system_reaches_its_receiver(receiver, deliver):
    make_webhook(receiver.url())
    batch = make_batch()
    assert BatchManager("a guard", "worker").pause_batch(batch.pk)
    deliver()
    [message] = receiver.messages
    assert message.json["type"] == "batch.paused"
