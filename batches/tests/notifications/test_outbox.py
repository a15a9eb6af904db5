"""What is written into the outbox: with the change that it tells of or not at all, once for each active webhook."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.api.serializers import BatchSerializer
from batches.batch_manager import BatchManager
from batches.models import Batch, Channel, Event, Webhook, WebhookDelivery
from batches.notifications import outbox
from batches.notifications.outbox import Outcome
from batches.tests.support.factories import claim, half_checked, make_batch, ok, profile_ids, record, start_run
from batches.tests.support.threads import in_thread

from .conftest import deliveries, make_webhook, only_delivery, pass_time, seconds_to_wait

pytestmark = pytest.mark.django_db

NOW = timezone.now()


def told():
    """The events in the outbox with the status of the batch that each tells of."""
    return [(delivery.type, json.loads(delivery.payload)["data"]["batch"]["status"]) for delivery in deliveries()]


# Which changes are told


def finish(manager, batch):
    run = start_run(batch)
    record(run, [(pk, ok()) for pk in profile_ids(batch)])
    assert manager.finish_run(batch.pk, run.run_token)


def finish_hollow(manager, batch):
    batch.profiles.all().delete()
    run = start_run(batch)
    assert manager.finish_run(batch.pk, run.run_token)


def take_over_too_often(manager, batch):
    start_run(batch)
    Batch.objects.filter(pk=batch.pk).update(lease_at=None, takeovers=3)
    assert manager.claim_run("another") is None


def update_progress_to_the_end(manager, batch):
    batch.profiles.all().delete()
    start_run(batch)
    assert manager.update_progress(batch.pk, 3, 3, 0)


TOLD = {
    "completed by somebody": (lambda manager, batch: manager.complete_batch(batch.pk), ("batch.done", "done")),
    "its run is finished": (finish, ("batch.done", "done")),
    "its counters are complete": (update_progress_to_the_end, ("batch.done", "done")),
    "an error": (lambda manager, batch: manager.handle_error(batch.pk, "It broke."), ("batch.error", "error")),
    "no rows to check": (finish_hollow, ("batch.error", "error")),
    "taken over too often": (take_over_too_often, ("batch.error", "error")),
}


@pytest.mark.parametrize(("change", "event"), TOLD.values(), ids=TOLD.keys())
def test_the_end_of_a_batch_is_told_once_to_each_active_webhook(change, event):
    webhooks = [make_webhook(f"https://example.org/{number}") for number in range(2)]
    make_webhook("https://example.org/off", is_active=False)
    batch = make_batch("it", 3)
    change(BatchManager("ada", Channel.API), batch)
    assert told() == [event] * 2
    assert [delivery.webhook for delivery in deliveries()] == webhooks
    assert len({delivery.event_id for delivery in deliveries()}) == 1  # one event, whoever hears of it
    assert {delivery.batch for delivery in deliveries()} == {batch}
    assert WebhookDelivery.objects.due().count() == 2


@pytest.mark.parametrize("channel", Channel)
def test_a_pause_is_told_only_if_the_system_made_it(channel):
    make_webhook()
    batch = make_batch("it", 3)
    start_run(batch)
    manager = BatchManager("somebody", channel)
    assert manager.pause_batch(batch.pk)
    assert manager.pause_batch(batch.pk)  # it is already
    assert told() == ([("batch.paused", "paused")] if channel == Channel.WORKER else [])


def test_no_other_change_is_told():
    make_webhook()
    manager = BatchManager("the worker", Channel.WORKER)
    other = make_batch("other", 3)
    batch = make_batch("it", 3)
    assert manager.move_batch(batch.pk, 1)
    assert manager.set_priority(batch.pk, 3)
    assert manager.rename_batch(batch.pk, "new")
    run = start_run(batch)
    assert manager.renew_lease(batch.pk, run.run_token)
    record(run, [(profile_ids(batch)[0], ok("a story"))])
    assert manager.release_run(batch.pk, run.run_token)
    claim()
    assert BatchManager().pause_batch(batch.pk)
    assert manager.queue_batch(batch.pk)
    assert manager.hold_queue("why")
    assert manager.release_queue()
    assert manager.repeat_batch(other.pk)
    assert manager.delete_batch(other.pk)
    assert manager.reorder_queue()
    assert deliveries() == []


@pytest.mark.parametrize("call", ["complete_batch", "handle_error", "pause_batch"])
def test_what_is_refused_is_not_told(call):
    batch = half_checked("done")
    make_webhook()
    arguments = ["It broke."] if call == "handle_error" else []
    assert not getattr(BatchManager("w", Channel.WORKER), call)(batch.pk, *arguments)
    assert deliveries() == []


def test_a_change_that_is_rolled_back_leaves_no_message():
    make_webhook()
    batch = make_batch("it", 3)
    with transaction.atomic():
        assert BatchManager().complete_batch(batch.pk)
        assert len(deliveries()) == 1
        transaction.set_rollback(True)
    assert deliveries() == []
    batch.refresh_from_db()
    assert batch.status == "queued"


def test_without_webhooks_a_change_costs_one_query_and_with_fifty_two():
    def outbox_queries():
        batch = make_batch("it")
        with CaptureQueriesContext(connection) as captured:
            assert BatchManager().complete_batch(batch.pk)
        return sum("batches_webhook" in query["sql"] for query in captured)

    assert outbox_queries() == 1
    Webhook.objects.bulk_create(Webhook(url=f"https://example.org/{number}") for number in range(50))
    assert outbox_queries() == 2
    assert len(deliveries()) == 50


@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("postgresql")
def test_a_webhook_that_is_deleted_while_an_event_is_written_undoes_neither():
    webhook = make_webhook()
    batch = make_batch("it")
    with transaction.atomic():
        assert BatchManager().complete_batch(batch.pk)
        deletion = in_thread(lambda: outbox.delete_webhooks([webhook.pk]))
        with pytest.raises(TimeoutError):
            deletion.result(0.2)
    deletion.result(10)
    batch.refresh_from_db()
    assert (batch.status, deliveries()) == ("done", [])


# What is told


def test_the_payload_names_the_batch_as_the_api_does_and_says_when_in_utc():
    before = half_checked("error")
    make_webhook()
    batch = BatchManager().repeat_batch(before.pk)
    start_run(batch)
    assert BatchManager().handle_error(batch.pk, "Das „Ende“\0 \ud800")
    batch.refresh_from_db()
    delivery = only_delivery()
    payload = json.loads(delivery.payload)
    assert list(payload) == ["id", "type", "timestamp", "data"]
    assert payload["id"] == str(delivery.event_id)
    assert payload["type"] == delivery.type == "batch.error"
    assert abs(read_time(payload["timestamp"]) - timezone.now()) < timedelta(seconds=30)
    said = payload["data"]["batch"]
    assert said["error"] == "Das „Ende“"
    assert said["previous"] == str(before.pk)
    assert read_time(said["started_at"]) == batch.started_at
    assert said["completed_at"] is None
    api = BatchSerializer(batch, context={"request": None}).data
    same = {name: value for name, value in said.items() if not name.endswith("_at") and name != "previous"}
    assert same == {name: api[name] for name in same}
    assert {name for name in said if name.endswith("_at")} <= set(api)
    assert delivery.payload.isascii()


def test_the_message_is_what_the_batch_was_then():
    make_webhook()
    batch = make_batch("then")
    assert BatchManager().complete_batch(batch.pk)
    assert BatchManager().rename_batch(batch.pk, "now")
    assert json.loads(only_delivery().payload)["data"]["batch"]["name"] == "then"


def test_a_deleted_batchs_message_stays():
    make_webhook()
    batch = make_batch("gone")
    assert BatchManager().complete_batch(batch.pk)
    assert BatchManager().delete_batch(batch.pk)
    BatchManager().purge_deleted()
    assert only_delivery().batch is None
    assert "gone" in only_delivery().payload


def test_a_test_event_goes_to_one_webhook_if_it_is_active():
    webhook, _ = make_webhook(), make_webhook("https://example.org/other")
    off = make_webhook("https://example.org/off", is_active=False)
    assert outbox.write_test_event(webhook)
    assert not outbox.write_test_event(off)
    assert only_delivery().webhook == webhook
    assert json.loads(only_delivery().payload)["data"] == {"batch": None}


def read_time(text):
    assert text.endswith("Z")
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo == UTC
    return moment


# What the database refuses


IMPOSSIBLE = {
    "delivered, and to be tried again": {"delivered_at": NOW},
    "delivered with an error": {"delivered_at": NOW, "next_attempt_at": None, "error": "why"},
    "given up for no reason": {"next_attempt_at": None},
    "negative attempts": {"attempts": -1},
    "no payload": {"payload": None},
    "no webhook": {"webhook": None},
}
POSSIBLE = {
    "waits": {"error": "answered 500", "http_status": 500},
    "delivered": {"delivered_at": NOW, "next_attempt_at": None},
    "failed": {"next_attempt_at": None, "error": "answered 500"},
}


@pytest.fixture
def waiting():
    assert outbox.write_test_event(make_webhook())
    return WebhookDelivery.objects.all()


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_delivery_is_refused_by_the_database(waiting, change):
    with pytest.raises(IntegrityError), transaction.atomic():
        waiting.update(**change)


@pytest.mark.parametrize(
    ("change", "state"), list(zip(POSSIBLE.values(), WebhookDelivery.State, strict=True)), ids=POSSIBLE.keys()
)
def test_a_possible_delivery_has_one_state(waiting, change, state):
    assert waiting.update(**change) == 1
    assert waiting.get().state == state
    counts = [waiting.waiting().count(), waiting.delivered().count(), waiting.failed().count()]
    assert counts == [int(state == other) for other in WebhookDelivery.State]


def test_a_webhook_hears_of_an_event_once(waiting):
    delivery = waiting.get()
    delivery.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        delivery.save(force_insert=True)


@pytest.mark.parametrize(
    "change", [{"secret": ""}, {"previous_secret": "whsec_x"}, {"previous_secret_until": NOW}], ids=lambda it: min(it)
)
def test_an_impossible_webhook_is_refused_by_the_database(change):
    make_webhook()
    with pytest.raises(IntegrityError), transaction.atomic():
        Webhook.objects.update(**change)


# Claiming and settling


def claim_due(room=10, under_way=None, max_per_webhook=10, visibility=60):
    return outbox.claim_due(room, under_way or {}, max_per_webhook, visibility)


def test_what_is_claimed_is_nobody_elses_until_the_visibility_time_out():
    outbox.write_test_event(make_webhook())
    [claimed] = claim_due()
    assert claimed.attempt == 1
    assert claim_due() == []
    assert 50 < seconds_to_wait(only_delivery()) < 70
    pass_time()
    [again] = claim_due()
    assert (again.event_id, again.attempt) == (claimed.event_id, 2)


def test_a_failure_counts_only_while_nobody_else_has_claimed_it_but_a_success_always_counts():
    outbox.write_test_event(make_webhook())
    [lost] = claim_due()
    pass_time()
    [claimed] = claim_due()
    outbox.settle(lost, Outcome(500, "answered 500"))
    assert only_delivery().error == ""
    outbox.settle(lost, Outcome(200))
    assert only_delivery().state == "delivered"
    outbox.settle(claimed, Outcome(500, "answered 500"))
    assert only_delivery().state == "delivered"


def test_what_is_not_due_is_not_claimed():
    outbox.write_test_event(make_webhook())
    WebhookDelivery.objects.update(next_attempt_at=NOW + timedelta(hours=1))
    assert claim_due() == []


def test_no_webhook_gets_more_than_its_share_and_the_one_with_fewer_under_way_goes_first():
    dead, busy, healthy = (make_webhook(f"https://example.org/{name}") for name in ("dead", "busy", "healthy"))
    for webhook in [dead] * 5 + [busy] * 5 + [healthy]:
        outbox.write_test_event(webhook)
    claims = claim_due(room=3, under_way={dead.pk: 2, busy.pk: 1}, max_per_webhook=2)
    assert [claim.webhook_id for claim in claims] == [healthy.pk, busy.pk]


def test_the_oldest_of_a_webhook_goes_first():
    webhook = make_webhook()
    for _ in range(3):
        outbox.write_test_event(webhook)
    first = deliveries()[2]
    WebhookDelivery.objects.filter(pk=first.pk).update(next_attempt_at=NOW - timedelta(hours=1))
    assert [claim.delivery_id for claim in claim_due(room=1)] == [first.pk]


def test_while_a_webhook_is_not_active_its_deliveries_wait():
    webhook = make_webhook()
    outbox.write_test_event(webhook)
    Webhook.objects.update(is_active=False)
    assert claim_due() == []
    Webhook.objects.update(is_active=True)
    assert len(claim_due()) == 1


def test_what_is_due_is_found_by_its_index():
    webhook = make_webhook()
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(webhook=webhook, event_id=uuid.uuid4(), type=Event.TEST, payload="{}", delivered_at=NOW)
        for _ in range(3000)
    )
    outbox.write_test_event(webhook)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as captured:
        assert len(claim_due()) == 1
    looks = [query["sql"] for query in captured if query["sql"].startswith("SELECT")]
    assert len(looks) == 2
    for sql in looks:
        explain = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(f"{explain} {sql}")
            plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
        assert "webhookdelivery_waiting" in plan, plan


def test_each_failure_is_waited_for_longer_until_the_delivery_is_given_up():
    outbox.write_test_event(make_webhook())
    waits = []
    for _ in outbox.BACKOFF:
        [claimed] = claim_due()
        outbox.settle(claimed, Outcome(500, "answered 500"))
        waits.append(seconds_to_wait(only_delivery()))
        pass_time()
    for wait, planned in zip(waits, outbox.BACKOFF, strict=True):
        assert planned * 0.8 - 5 < wait < planned * 1.2 + 5
    [claimed] = claim_due()
    outbox.settle(claimed, Outcome(None, "refused the connection"))
    last = only_delivery()
    assert (last.state, last.attempts, last.error, last.http_status) == ("failed", 9, "refused the connection", None)


@pytest.mark.parametrize(("said", "waited"), [(1, 5), (3600, 3600), (10**9, 86400)])
def test_a_receiver_that_says_when_to_come_back_is_left_alone_until_then_within_reason(said, waited):
    assert waited * 0.8 <= outbox.seconds_to_next_attempt(1, said) <= waited * 1.2


def test_waits_are_spread_by_chance():
    assert len({outbox.seconds_to_next_attempt(3, 0) for _ in range(10)}) > 5


def test_410_gives_the_delivery_up_and_switches_the_webhook_off():
    webhook = make_webhook()
    outbox.write_test_event(webhook)
    outbox.write_test_event(webhook)
    [claimed] = claim_due(room=1)
    outbox.settle(claimed, Outcome(410, "answered 410 Gone"))
    webhook.refresh_from_db()
    assert not webhook.is_active
    gone, waits = deliveries()
    assert (gone.state, gone.error) == ("failed", "answered 410 Gone: the webhook was switched off")
    assert waits.state == "waiting"


def test_410_of_an_old_address_does_not_switch_off_the_new_one():
    webhook = make_webhook()
    outbox.write_test_event(webhook)
    [claimed] = claim_due()
    Webhook.objects.update(url="https://example.org/new")
    outbox.settle(claimed, Outcome(410, "answered 410 Gone"))
    webhook.refresh_from_db()
    assert webhook.is_active


def test_what_was_given_up_can_be_tried_from_the_beginning_and_nothing_else():
    outbox.write_test_event(make_webhook())
    assert not outbox.reschedule(only_delivery())
    WebhookDelivery.objects.update(attempts=9, next_attempt_at=None, error="answered 500")
    event_id = only_delivery().event_id
    assert outbox.reschedule(only_delivery())
    [claimed] = claim_due()
    assert (claimed.attempt, claimed.event_id) == (1, str(event_id))
    outbox.settle(claimed, Outcome(200))
    assert not outbox.reschedule(only_delivery())
    assert only_delivery().state == "delivered"


# Old ones


def test_old_deliveries_go_in_steps_but_never_one_that_is_still_to_be_sent(monkeypatch):
    monkeypatch.setattr(outbox, "PRUNE_CHUNK", 2)
    on, off = make_webhook(), make_webhook("https://example.org/off", is_active=False)
    old, new = NOW - timedelta(days=31), NOW - timedelta(days=29)
    common = {"type": Event.TEST, "payload": "{}"}
    kept = [
        ("waits", on, old, {"next_attempt_at": NOW}),
        ("new", on, new, {"delivered_at": NOW}),
        ("new, off", off, new, {"next_attempt_at": NOW}),
    ]
    pruned = [
        ("delivered", on, old, {"delivered_at": NOW}),
        ("failed", on, old, {"error": "why"}),
        ("off", off, old, {"next_attempt_at": NOW}),
    ]
    for name, webhook, created_at, values in kept + pruned:
        values = common | {"payload": name} | values
        WebhookDelivery.objects.create(webhook=webhook, event_id=uuid.uuid4(), created_at=created_at, **values)
    assert outbox.prune()
    assert len(deliveries()) == 4
    assert not outbox.prune()
    assert [delivery.payload for delivery in deliveries()] == ["waits", "new", "new, off"]


# Secrets


def test_a_new_secret_signs_beside_the_old_one_for_a_day():
    webhook = make_webhook()
    old = webhook.secret
    outbox.rotate_secret(webhook)
    webhook.refresh_from_db()
    assert webhook.secret not in {old, ""}
    assert outbox.signing_secrets(webhook) == (webhook.secret, old)
    webhook.previous_secret_until = timezone.now() - timedelta(seconds=1)
    assert outbox.signing_secrets(webhook) == (webhook.secret,)
    ends_in = Webhook.objects.get().previous_secret_until - timezone.now()
    assert timedelta(hours=23, minutes=50) < ends_in <= timedelta(days=1)
