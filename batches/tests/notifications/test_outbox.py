"""The outbox: events are stored with their change or not at all, then claimed, settled, retried and pruned."""

import json
import time
import uuid
from datetime import datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from standardwebhooks.webhooks import Webhook as Verifier

from batches.batch_manager import BatchManager
from batches.models import Batch, Channel, Event, Webhook, WebhookDelivery
from batches.notifications import outbox
from batches.notifications.outbox import AttemptResult
from batches.notifications.signatures import sign
from batches.tests.support.factories import age_leases, check_batch, claim, half_checked, make_batch, ok, start_run
from batches.tests.support.tables import explain, run_sql, statements_of

from .conftest import deliveries, make_webhook, only_delivery, pass_time, seconds_to_wait

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def events():
    """The stored events with the status of the batch in each."""
    return [(delivery.type, json.loads(delivery.payload)["data"]["batch"]["status"]) for delivery in deliveries()]


# Which changes are events


def finish(manager, batch):
    run = check_batch(batch, *[ok()] * 3)
    assert manager.finish_run(batch.pk, run.run_token)


def finish_without_rows(manager, batch):
    batch.profiles.all().delete()
    run = start_run(batch)
    assert manager.finish_run(batch.pk, run.run_token)


def take_over_too_often(manager, batch):
    start_run(batch)
    assert age_leases(batch)
    Batch.objects.filter(pk=batch.pk).update(takeovers=3)
    assert manager.claim_run("another") is None


def complete_by_progress(manager, batch):
    batch.profiles.all().delete()
    start_run(batch)
    assert manager.update_progress(batch.pk, 3, 3, 0)


def pause_twice(manager, batch):
    assert manager.pause_batch(batch.pk)
    assert manager.pause_batch(batch.pk)


CHANGES = {
    "completed": (lambda manager, batch: manager.complete_batch(batch.pk), ("batch.done", "done")),
    "run finished": (finish, ("batch.done", "done")),
    "completed by progress": (complete_by_progress, ("batch.done", "done")),
    "error": (lambda manager, batch: manager.handle_error(batch.pk, "It broke."), ("batch.error", "error")),
    "no rows to check": (finish_without_rows, ("batch.error", "error")),
    "taken over too often": (take_over_too_often, ("batch.error", "error")),
    "paused": (pause_twice, ("batch.paused", "paused")),
}


@pytest.mark.parametrize("channel", [Channel.API, Channel.WORKER])
@pytest.mark.parametrize(("change", "event"), CHANGES.values(), ids=CHANGES.keys())
def test_each_end_and_each_pause_is_one_event_for_each_active_webhook(change, event, channel):
    webhooks = [make_webhook(f"https://example.org/{number}") for number in range(2)]
    make_webhook("https://example.org/off", is_active=False)
    batch = make_batch("it", 3)
    change(BatchManager("ada", channel), batch)
    assert events() == [event] * 2
    assert [delivery.webhook for delivery in deliveries()] == webhooks
    assert len({delivery.event_id for delivery in deliveries()}) == 1
    assert {delivery.batch for delivery in deliveries()} == {batch}
    assert WebhookDelivery.objects.due().count() == 2


def test_no_other_change_and_no_refused_call_is_an_event():
    manager = BatchManager("the worker", Channel.WORKER)
    done, other, batch = half_checked("done"), make_batch("other", 3), make_batch("it", 3)
    assert BatchManager().pause_batch(other.pk)
    make_webhook()
    assert not manager.complete_batch(done.pk)
    assert not manager.handle_error(done.pk, "It broke.")
    assert not manager.pause_batch(done.pk)
    assert manager.move_batch(batch.pk, 1)
    assert manager.set_priority(batch.pk, 3)
    assert manager.rename_batch(batch.pk, "new")
    run = check_batch(batch, ok("a story"))
    assert manager.renew_lease(batch.pk, run.run_token)
    assert manager.release_run(batch.pk, run.run_token)
    claim()
    assert manager.queue_batch(other.pk)
    assert manager.hold_queue("why")
    assert manager.release_queue()
    assert manager.repeat_batch(other.pk)
    assert manager.delete_batch(other.pk)
    assert manager.reorder_queue()
    assert deliveries() == []


def test_an_event_costs_one_query_without_webhooks_and_two_with_fifty():
    def count_queries():
        batch = make_batch("it")
        return sum("batches_webhook" in sql for sql in statements_of(lambda: BatchManager().complete_batch(batch.pk)))

    assert count_queries() == 1
    Webhook.objects.bulk_create(Webhook(url=f"https://example.org/{number}") for number in range(50))
    assert count_queries() == 2
    assert len(deliveries()) == 50


# The contents of an event; `test_public_fields.py` tests the batch in it


def test_the_payload_identifies_its_event_and_is_ascii():
    before = half_checked("error")
    make_webhook()
    batch = BatchManager().repeat_batch(before.pk)
    start_run(batch)
    assert BatchManager().handle_error(batch.pk, "Das „Ende“\0 \ud800")
    delivery = only_delivery()
    payload = json.loads(delivery.payload)
    assert list(payload) == ["id", "type", "timestamp", "data"]
    assert (payload["id"], payload["type"]) == (str(delivery.event_id), "batch.error")
    assert payload["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(payload["timestamp"]) - timezone.now()) < timedelta(minutes=5)
    assert payload["data"]["batch"]["error"] == "Das „Ende“"
    assert payload["data"]["batch"]["previous"] == str(before.pk)
    assert delivery.payload.isascii()


def test_an_event_keeps_the_state_of_the_batch_even_if_it_is_renamed_and_deleted():
    make_webhook()
    batch = make_batch("then")
    assert BatchManager().complete_batch(batch.pk)
    assert BatchManager().rename_batch(batch.pk, "now")
    assert BatchManager().delete_batch(batch.pk)
    BatchManager().purge_deleted()
    assert only_delivery().batch is None
    assert json.loads(only_delivery().payload)["data"]["batch"]["name"] == "then"


# Constraints of the database

IMPOSSIBLE = {
    "delivered, and to be retried": (WebhookDelivery, {"delivered_at": NOW}),
    "delivered with an error": (WebhookDelivery, {"delivered_at": NOW, "next_attempt_at": None, "error": "why"}),
    "failed without an error": (WebhookDelivery, {"next_attempt_at": None}),
    "negative attempts": (WebhookDelivery, {"attempts": -1}),
    "no payload": (WebhookDelivery, {"payload": None}),
    "no webhook": (WebhookDelivery, {"webhook": None}),
    "no secret": (Webhook, {"secret": ""}),
    "a previous secret without an end": (Webhook, {"previous_secret": "whsec_x"}),
    "an end without a previous secret": (Webhook, {"previous_secret_until": NOW}),
}
POSSIBLE = {
    "waiting": {"error": "answered 500", "http_status": 500},
    "delivered": {"delivered_at": NOW, "next_attempt_at": None},
    "failed": {"next_attempt_at": None, "error": "answered 500"},
}


@pytest.fixture
def waiting():
    assert outbox.write_test_event(make_webhook())
    return WebhookDelivery.objects.all()


@pytest.mark.parametrize(("model", "change"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_row_is_refused_by_the_database(waiting, model, change):
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.update(**change)


@pytest.mark.parametrize("state", POSSIBLE)
def test_a_delivery_has_one_state(waiting, state):
    assert waiting.update(**POSSIBLE[state]) == 1
    assert waiting.get().state == state
    by_state = {"waiting": waiting.waiting(), "delivered": waiting.delivered(), "failed": waiting.failed()}
    assert {name: rows.count() for name, rows in by_state.items()} == dict.fromkeys(by_state, 0) | {state: 1}


def test_a_webhook_has_one_delivery_of_an_event(waiting):
    delivery = waiting.get()
    delivery.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        delivery.save(force_insert=True)


# Claiming


def claim_due(limit=10, in_flight=None, max_per_receiver=10):
    return outbox.claim_due(limit, in_flight or {}, max_per_receiver)


def test_a_due_delivery_of_an_active_webhook_belongs_to_its_claimer_until_the_visibility_timeout(waiting):
    waiting.update(next_attempt_at=timezone.now() + timedelta(hours=1))
    assert claim_due() == []
    pass_time()
    Webhook.objects.update(is_active=False)
    assert claim_due() == []
    Webhook.objects.update(is_active=True)
    [claimed] = claim_due()
    assert claimed.attempts == 1
    assert claim_due() == []
    assert 0 < seconds_to_wait(only_delivery()) < 70
    pass_time()
    [again] = claim_due()
    assert (again.event_id, again.attempts) == (claimed.event_id, 2)


def test_the_webhook_with_fewer_in_flight_goes_first_and_none_gets_more_than_its_share():
    dead, busy, healthy = (make_webhook(f"https://example.org/{name}") for name in ("dead", "busy", "healthy"))
    for webhook in [dead] * 5 + [busy] * 5 + [healthy]:
        outbox.write_test_event(webhook)
    claims = claim_due(limit=3, in_flight={(dead.pk, None): 2, (busy.pk, None): 1}, max_per_receiver=2)
    assert [claim.webhook_id for claim in claims] == [healthy.pk, busy.pk]


def test_the_oldest_delivery_of_a_webhook_goes_first():
    webhook = make_webhook()
    for _ in range(3):
        outbox.write_test_event(webhook)
    first = deliveries()[2]
    WebhookDelivery.objects.filter(pk=first.pk).update(next_attempt_at=NOW - timedelta(hours=1))
    assert [claim.pk for claim in claim_due(limit=1)] == [first.pk]


def test_due_deliveries_are_found_by_their_index():
    webhook = make_webhook()
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(webhook=webhook, event_id=uuid.uuid4(), type=Event.TEST, payload="{}", delivered_at=NOW)
        for _ in range(3000)
    )
    outbox.write_test_event(webhook)
    run_sql("ANALYZE")
    of_webhooks, of_subscriptions, claim, *_ = statements_of(claim_due)
    for sql in (of_webhooks, claim):
        assert "webhookdelivery_waiting" in explain(sql), explain(sql)
    assert "delivery_waiting_for_somebody" in explain(of_subscriptions), explain(of_subscriptions)


# Settling


def test_a_failure_of_a_lost_claim_does_not_count_but_a_success_always_does(waiting):
    [lost] = claim_due()
    pass_time()
    [claimed] = claim_due()
    outbox.settle(lost, AttemptResult(500, "answered 500"))
    assert only_delivery().error == ""
    outbox.settle(lost, AttemptResult(200))
    assert only_delivery().state == "delivered"
    outbox.settle(claimed, AttemptResult(500, "answered 500"))
    assert only_delivery().state == "delivered"


def test_each_failure_waits_longer_until_the_delivery_fails(waiting):
    for backoff in outbox.BACKOFF:
        [claimed] = claim_due()
        outbox.settle(claimed, AttemptResult(500, "answered 500"))
        assert backoff * 0.8 - 60 < seconds_to_wait(only_delivery()) < backoff * 1.2 + 5
        pass_time()
    [claimed] = claim_due()
    outbox.settle(claimed, AttemptResult(None, "refused the connection"))
    last = only_delivery()
    assert (last.state, last.attempts, last.error, last.http_status) == ("failed", 9, "refused the connection", None)


def test_waits_have_a_jitter_and_honour_retry_after_up_to_a_day():
    for retry_after, expected in ((1, 5), (3600, 3600), (10**9, 86400)):
        assert expected * 0.8 <= outbox.seconds_to_next_attempt(1, retry_after) <= expected * 1.2
    assert len({outbox.seconds_to_next_attempt(3, 0) for _ in range(10)}) > 5


@pytest.mark.parametrize("is_new", [False, True])
def test_410_fails_the_delivery_and_switches_off_the_webhook_unless_a_new_address_can_be_tried(waiting, is_new):
    outbox.write_test_event(only_delivery().webhook)
    [claimed] = claim_due(limit=1)
    if is_new:
        Webhook.objects.update(url="https://example.org/new")
    outbox.settle(claimed, AttemptResult(410, "answered 410 Gone"))
    assert Webhook.objects.get().is_active == is_new
    gone, other = sorted(deliveries(), key=lambda delivery: delivery.pk != claimed.pk)
    failed = ("failed", "answered 410 Gone: the webhook was switched off")
    assert (gone.state, gone.error) == (("waiting", "answered 410 Gone") if is_new else failed)
    assert other.state == "waiting"
    assert len(claim_due()) == is_new


# Old deliveries, secrets


def test_old_deliveries_are_idle_once_they_are_settled_but_never_one_that_will_be_sent():
    on, off = make_webhook(), make_webhook("https://example.org/off", is_active=False)
    old, new = NOW - timedelta(days=31), NOW - timedelta(days=29)
    for payload, webhook, created_at, values in (
        ("kept: waiting", on, old, {"next_attempt_at": NOW}),
        ("kept: new", on, new, {"delivered_at": NOW}),
        ("kept: new, off", off, new, {"next_attempt_at": NOW}),
        ("delivered", on, old, {"delivered_at": NOW}),
        ("failed", on, old, {"error": "why"}),
        ("off", off, old, {"next_attempt_at": NOW}),
    ):
        WebhookDelivery.objects.create(
            webhook=webhook, event_id=uuid.uuid4(), type=Event.TEST, created_at=created_at, payload=payload, **values
        )
    idle = outbox.find_idle(NOW - timedelta(days=30))
    assert [delivery.payload for delivery in idle] == ["delivered", "failed", "off"]


def test_the_previous_secret_keeps_signing_for_a_day_after_a_rotation():
    old = make_webhook()
    outbox.rotate_secret(old)
    webhook = Webhook.objects.get()
    assert webhook.secret not in {old.secret, ""}
    assert outbox.signing_secrets(webhook) == (webhook.secret, old.secret)
    headers = sign(outbox.signing_secrets(webhook), str(uuid.uuid4()), int(time.time()), b"{}")
    for secret in (webhook.secret, old.secret):
        assert Verifier(secret).verify(b"{}", headers) == {}
    ends_in = webhook.previous_secret_until - timezone.now()
    assert timedelta(hours=23) < ends_in <= timedelta(days=1)
    webhook.previous_secret_until = timezone.now() - timedelta(seconds=1)
    assert outbox.signing_secrets(webhook) == (webhook.secret,)
    Webhook.objects.all().delete()  # by another user
    outbox.rotate_secret(webhook)
    assert not Webhook.objects.exists()
