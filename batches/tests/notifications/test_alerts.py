"""Subscribers of the queue are notified if it is held for long, or if no worker runs."""

import json
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from batches.batch_manager import BatchManager
from batches.models import Queue, Subscription
from batches.notifications.alerts import write_alerts
from batches.notifications.message_data import prepare_messages
from batches.notifications.message_texts import word_letter
from batches.tests.support.factories import age_workers, make_batch, start_run, subscribe
from batches.tests.support.tables import statements_of

from .conftest import deliveries, letters

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def age(**columns):
    """As if these times of the queue were this long ago."""
    Queue.objects.get_or_create(pk=Queue.THE_ONE)
    Queue.objects.update(**{name: Now() - duration for name, duration in columns.items()})


def subjects():
    return [letter.subject for letter in letters()]


def test_a_hold_is_reported_once_after_its_minutes_and_the_next_hold_again():
    subscribe(None, topics=["held"], minutes=60)
    subscribe(None, "patient@example.org", topics=["held"], minutes=90)
    assert BatchManager("ada").hold_queue("Repairs\r\nof the network")
    age(held_at=HOUR - timedelta(minutes=1))
    assert write_alerts() == 0
    age(held_at=HOUR)
    assert [write_alerts(), write_alerts()] == [1, 0]
    assert subjects() == ["The queue has been held for 1 h 00 min"]
    text = word_letter(deliveries()[0]).text
    assert "The queue is held by ada: Repairs of the network" in text
    assert BatchManager().release_queue()
    assert BatchManager().hold_queue()
    assert write_alerts() == 0
    age(held_at=2 * HOUR)
    assert write_alerts() == 2


def test_a_missing_worker_is_reported_once_by_its_last_heartbeat_idle_or_busy():
    subscribe(None, topics=["no_worker"], minutes=60)
    BatchManager().claim_run("worker")
    assert write_alerts() == 0
    age_workers(2 * HOUR)
    run = start_run(make_batch("it", 1))
    assert write_alerts() == 0
    age_workers(2 * HOUR)
    assert BatchManager().renew_lease(run.batch.pk, run.run_token)
    assert write_alerts() == 0
    age_workers(timedelta(minutes=70))
    assert [write_alerts(), write_alerts()] == [1, 0]
    assert subjects() == ["No worker has run for 1 h 10 min"]
    facts = deliveries()[0].facts
    assert facts["worker"] == "worker"


def test_without_any_worker_so_far_the_time_begins_with_the_subscription():
    made = subscribe(None, topics=["no_worker"], minutes=60)
    age()
    assert write_alerts() == 0
    Subscription.objects.update(created_at=Now() - HOUR)
    assert write_alerts() == 1
    [alert] = deliveries()
    made.refresh_from_db()
    assert alert.facts["since"] == made.created_at.isoformat().replace("+00:00", "Z")


def test_messages_follow_topics_and_switches_and_keep_the_content_of_their_time():
    subscribe(None, topics=["no_worker"], minutes=1)
    off = subscribe(None, "off@example.org", topics=["held"], minutes=1, is_active=False)
    assert BatchManager().hold_queue("First")
    age(held_at=HOUR)
    age_workers(timedelta(0))
    assert write_alerts() == 0
    assert BatchManager().change_subscription(off.pk, is_active=True)
    assert write_alerts() == 1
    assert BatchManager().release_queue()
    prepare_messages()
    payload = json.loads(deliveries()[0].payload)
    assert (payload["type"], payload["data"]["hold_reason"]) == ("queue.held", "First")


def test_looking_costs_one_query_without_subscriptions_and_writes_nothing():
    assert len(statements_of(write_alerts)) == 1
    subscribe(None, topics=["held", "no_worker"], minutes=1)
    assert BatchManager().hold_queue()
    age(held_at=HOUR)
    age_workers(HOUR)
    assert write_alerts() == 2
    assert [sql for sql in statements_of(write_alerts) if not sql.startswith("SELECT")] == []
