"""Deliveries to a real receiver: their content, and the effect of each kind of response."""

import asyncio
import json
import time
from collections import Counter
from itertools import repeat
from threading import Event
from unittest.mock import Mock
from uuid import uuid4

import pytest
from django.db import OperationalError

from batches.batch_manager import BatchManager
from batches.models import WebhookDelivery
from batches.notifications import courier, outbox
from batches.tests.support.documents import find_blocks, read_page
from batches.tests.support.factories import make_batch, make_list, run_list, story_of, subscribe, with_stories
from batches.tests.support.feedserver import Reply
from batches.tests.support.processes import WAIT_SECONDS, wait_until
from batches.tests.support.threads import in_thread

from .conftest import deliveries, make_webhook, only_delivery, pass_time, seconds_to_wait, verify

pytestmark = pytest.mark.django_db(transaction=True)
one_database = pytest.mark.databases("sqlite")


@pytest.fixture
def webhook(receiver):
    webhook = make_webhook(receiver.url())
    assert outbox.write_test_event(webhook)
    return webhook


def test_an_event_arrives_signed_and_is_settled_and_its_address_is_not_logged(receiver, deliver, caplog):
    webhook = make_webhook(receiver.url("/hook?key=%2F"))
    batch = make_batch("“Prüfung”")
    assert BatchManager().complete_batch(batch.pk)
    deliver()
    delivery = only_delivery()
    assert (delivery.state, delivery.attempts, delivery.http_status, delivery.error) == ("delivered", 1, 200, "")
    [message] = receiver.requests
    assert message.path == "/hook?key=%2F"
    assert message.headers["webhook-id"] == str(delivery.event_id)
    assert message.body == delivery.payload.encode()
    assert verify(message, webhook.secret)["data"]["batch"]["name"] == "“Prüfung”"
    assert abs(int(message.headers["webhook-timestamp"]) - time.time()) < 60
    assert message.headers["content-type"] == "application/json"
    assert message.headers["user-agent"].startswith("batches/")
    assert "batch.done: delivered" in caplog.text
    assert "key" not in caplog.text


def test_a_failure_is_retried_later_with_a_new_signature_and_the_same_id(
    receiver, webhook, deliver, monkeypatch, no_retries
):
    receiver.answer_in_turn("/", Reply(500), Reply())
    deliver()
    failed = only_delivery()
    error = "answered 500 Internal Server Error"
    assert (failed.state, failed.http_status, failed.error) == ("waiting", 500, error)
    assert 2700 < seconds_to_wait(failed) < 4400
    deliver()
    assert len(receiver.requests) == 1  # it is not due yet
    pass_time()
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 7)
    deliver()
    first, second = receiver.requests
    assert only_delivery().state == "delivered"
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) >= 7
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    for message in (first, second):
        verify(message, webhook.secret)


@one_database
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (299, ""),
        (404, "answered 404 Not Found"),
        (410, "answered 410 Gone: the webhook was switched off"),
        (308, "answered 308 Permanent Redirect, and redirects are not followed"),
        (304, "answered 304 Not Modified"),
        (799, "answered 799"),
    ],
)
def test_only_2xx_is_a_success_redirects_are_not_followed_and_retry_after_is_honoured(
    receiver, webhook, deliver, status, error
):
    headers = {"Location": receiver.url("/elsewhere"), "Retry-After": "1800"}
    receiver.answer("/", status=status, headers=headers)
    deliver()
    delivery = only_delivery()
    expected = ("delivered" if not error else "failed" if status == 410 else "waiting", status, error)
    assert (delivery.state, delivery.http_status, delivery.error) == expected
    assert receiver.hits("/elsewhere") == 0
    assert delivery.state != "waiting" or 1700 < seconds_to_wait(delivery) < 1900


@one_database
def test_of_a_response_only_the_head_is_read(receiver, webhook, deliver):
    receiver.otherwise = Reply(body=repeat(b"x" * 100_000))
    deliver()
    assert only_delivery().state == "delivered"


@one_database
def test_a_webhook_can_be_deleted_during_its_delivery(receiver, webhook, deliver):
    def delete(request):
        in_thread(lambda: BatchManager().delete_webhooks([webhook.pk])).result(60)
        return Reply()

    receiver.answer_in_turn("/", delete)
    deliver()
    assert deliveries() == []


# Fairness


@one_database
def test_a_backlog_for_a_dead_receiver_does_not_delay_another(receiver, deliver, monkeypatch):
    dead, healthy = make_webhook(receiver.url("/dead")), make_webhook(receiver.url("/healthy"))
    outbox.write_test_event(dead)
    WebhookDelivery.objects.bulk_create(copies(only_delivery(), 3000))
    for _ in range(5):
        outbox.write_test_event(healthy)
    gate, claim = receiver.hold("/dead"), outbox.claim_due

    def claim_until_the_healthy_one_has_all(*arguments):
        if WebhookDelivery.objects.filter(webhook=healthy).waiting().exists():
            return claim(*arguments)
        gate.open()
        return []

    monkeypatch.setattr(outbox, "claim_due", claim_until_the_healthy_one_has_all)
    deliver(max_concurrent=6, max_per_receiver=2)
    assert receiver.hits("/dead") == 2
    assert [delivery.state for delivery in deliveries(healthy)] == ["delivered"] * 5


def copies(delivery, count):
    values = {f.attname: getattr(delivery, f.attname) for f in delivery._meta.fields if not f.primary_key}
    return [WebhookDelivery(**values | {"event_id": uuid4()}) for _ in range(count)]


@one_database
def test_the_number_of_concurrent_deliveries_is_limited_and_all_arrive(receiver, deliver):
    for number in range(8):
        webhook = make_webhook(receiver.url(f"/{number}"))
        for _ in range(3):
            outbox.write_test_event(webhook)
    gates = [receiver.hold(f"/{number}") for number in range(8)]

    def open_gates():
        wait_until(lambda: len(receiver.requests) == 4)
        for gate in gates:
            gate.open()

    opened = in_thread(open_gates)
    deliver(max_concurrent=4, max_per_receiver=2)
    opened.result()
    assert {delivery.state for delivery in deliveries()} == {"delivered"}
    assert len(receiver.requests) == 24
    assert receiver.most_at_once() == 4


# Faults in our code


@one_database
def test_a_fault_while_sending_counts_as_an_attempt_and_is_logged(receiver, webhook, deliver, monkeypatch, caplog):
    monkeypatch.setattr(courier, "sign", Mock(side_effect=TypeError("a fault of ours")))
    deliver()
    assert (only_delivery().attempts, only_delivery().error) == (1, "could not be sent: TypeError: a fault of ours")
    assert "could not be sent" in caplog.text


@one_database
@pytest.mark.parametrize("call", ["claim_due", "settle"])
@pytest.mark.parametrize("fault", [TypeError("a fault of ours"), OperationalError("the database is away")])
def test_after_a_fault_the_delivery_is_retried(webhook, deliver, monkeypatch, call, fault):
    with monkeypatch.context() as broken_for_now:
        broken_for_now.setattr(outbox, call, Mock(side_effect=fault))
        deliver()
    assert only_delivery().state == "waiting"
    pass_time()
    deliver()
    assert only_delivery().state == "delivered"


@one_database
def test_a_message_to_a_subscription_arrives_signed(receiver, deliver):
    webhook = make_webhook(receiver.url("/hook"), every_batch=False)
    found = make_list("Press", 1)
    subscription = subscribe(found, webhook.url, channel="webhook")
    run_list(found, with_stories(story_of(1)))
    deliver()
    [message] = receiver.requests
    said = verify(message, webhook.secret)
    assert (said["type"], said["data"]["stories"]["total"]) == ("list.run", 1)
    assert message.headers["webhook-id"] == said["id"] == str(only_delivery().event_id)
    assert (only_delivery().receiver, only_delivery().state) == (subscription, "delivered")


def test_the_how_to_verifies_a_real_message_and_documents_its_payload(receiver, deliver):
    webhook = make_webhook(receiver.url())
    assert BatchManager().complete_batch(make_batch("Press").pk)
    deliver()
    [message] = receiver.requests
    example = {}
    exec(documented_block("python"), example)
    verify = example["verify"]
    assert verify(webhook.secret, message.headers, message.body)["data"]["batch"]["name"] == "Press"
    for headers, body in [
        (message.headers, message.body + b" "),
        (message.headers | {"webhook-id": "x"}, message.body),
        (message.headers | {"webhook-timestamp": str(int(time.time()) - 3600)}, message.body),
    ]:
        with pytest.raises(ValueError, match=r"signature|old"):
            verify(webhook.secret, headers, body)
    documented, real = json.loads(documented_block("json")), json.loads(message.body)
    assert list(documented) == list(real)
    assert list(documented["data"]["batch"]) == list(real["data"]["batch"])


def documented_block(language):
    [block] = find_blocks(read_page("how-to/webhooks.md"), language)
    return block.text


@one_database
def test_a_delivery_that_ends_while_the_last_round_looks_for_more_makes_room(receiver, deliver, monkeypatch):
    first, second = (make_webhook(receiver.url(path)) for path in ("/first", "/second"))
    for webhook in (first, second, second):
        outbox.write_test_event(webhook)
    gate = receiver.hold("/second")
    was_sent, has_counted, is_settled = Event(), Event(), Event()
    send, settle = courier.Courier._send, outbox.settle

    async def send_and_tell(self, claim):
        result = await send(self, claim)
        if claim.webhook == second:
            asyncio.get_running_loop().call_soon(was_sent.set)  # when it waits for the thread of the database
        return result

    def settle_first(claim, result):
        if claim.webhook == first:
            gate.open()
            assert was_sent.wait(WAIT_SECONDS)
        else:
            assert has_counted.wait(WAIT_SECONDS)
        settle(claim, result)
        if claim.webhook == second:
            is_settled.set()

    def count_late(receivers):
        counted = Counter(receivers)
        if counted:
            has_counted.set()
            assert is_settled.wait(WAIT_SECONDS)
        return counted

    monkeypatch.setattr(courier.Courier, "_send", send_and_tell)
    monkeypatch.setattr(outbox, "settle", settle_first)
    monkeypatch.setattr(courier, "Counter", count_late)
    deliver(max_per_receiver=1)
    assert {delivery.state for delivery in deliveries()} == {"delivered"}
