"""The API, `--json` and webhooks use the same fields with the same values for the same objects."""

import json

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.models import Webhook, WebhookDelivery, vocabulary
from batches.reports.outlook import forecast_queue, queue_as_dict
from batches.tests.support.factories import make_batch, ok, profile_ids, record, start_run
from batches.tests.support.terminal import manage

__all__ = ["manage"]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def elsewhere():
    """The server's time zone changes nothing: all of them use UTC."""
    with timezone.override("Asia/Kolkata"):
        yield


@pytest.fixture
def batch():
    """Finished, with a story, a log and a successor that waits; a webhook got its end."""
    Webhook.objects.create(url="https://example.org/hook")
    batch = make_batch("News", 2)
    run = start_run(batch)
    record(run, [(profile_ids(batch)[0], ok("a story"))])
    assert BatchManager("ada").complete_batch(batch.pk)
    assert BatchManager("ada").repeat_batch(batch.pk)
    return batch


@pytest.fixture
def api():
    client = APIClient()
    client.force_authenticate(User.objects.create_superuser("reader"))

    def get(path):
        response = client.get(f"/api/v1/{path}")
        assert response.status_code == 200
        return without_urls(response.json())

    return get


def without_urls(value):
    """Without the links of batches: only the API has addresses."""
    if isinstance(value, list):
        return [without_urls(item) for item in value]
    if isinstance(value, dict):
        return {name: without_urls(item) for name, item in value.items() if not (name == "url" and "progress" in value)}
    return value


@pytest.fixture
def command(manage):
    return lambda *arguments: json.loads(manage(*arguments, "--json").out)


def test_the_names_are_a_promise():
    assert vocabulary.BATCH == (
        "id", "name", "status", "position", "priority", "checker", "count_first", "total_profiles",
        "completed_profiles", "successful_checks", "failed_checks", "skipped_profiles", "stories_found", "error",
        "created_at", "started_at", "completed_at", "run_seconds", "previous", "list",
    )  # fmt: skip
    assert vocabulary.LIST == (
        "id", "name", "checker", "count_first", "priority", "schedule", "time_zone", "delay_minutes", "schedule_active",
        "next_run_at", "version", "created_at", "total_profiles", "schedule_in_words", "next_times",
    )  # fmt: skip
    assert vocabulary.PROGRESS == ("percent", "rate", "seconds_left")
    assert vocabulary.STORY == (
        "id", "profile", "batch", "story_id", "title", "url", "published_at", "found_at", "is_baseline", "profile_url",
        "profile_name",
    )  # fmt: skip
    assert vocabulary.PROFILE == (
        "id", "url", "name", "feed_url", "last_checked_at", "last_error", "last_duration", "last_story_at",
        "first_read_at", "failures", "failing_since", "rests_until", "created_at",
    )  # fmt: skip
    assert vocabulary.REDIRECT == (
        "id", "profile", "url", "checks", "first_seen_at", "last_seen_at", "profile_url", "profile_name", "merges",
    )  # fmt: skip
    assert vocabulary.HOST == (
        "host", "profiles", "has_more", "failing", "failing_percent", "median_seconds", "last_error", "last_failed_at",
        "paused_until",
    )  # fmt: skip
    assert vocabulary.SUBSCRIPTION == (
        "id", "list", "channel", "address", "topics", "failed_percent", "after_failures", "minutes", "digest_hour",
        "is_active", "created_at",
    )  # fmt: skip
    assert vocabulary.FEED == ("id", "begins_with", "created_at", "last_used_at", "list", "name")
    assert vocabulary.WORKER == (
        "name", "version", "started_at", "seen_at", "alive", "batch", "partitions", "rate",
    )  # fmt: skip
    assert vocabulary.CHECK == (
        "batch", "batch_name", "status", "error", "http_status", "duration", "has_story", "checked_at", "is_earlier",
    )  # fmt: skip
    assert vocabulary.ACCEPTANCE == ("profile", "old_url", "url", "merged")
    assert vocabulary.LOG == (
        "id", "action", "actor", "channel", "from_status", "to_status", "from_position", "to_position", "message",
        "created_at",
    )  # fmt: skip
    assert list(queue_as_dict(forecast_queue(), 1)) == [
        "version", "held", "held_by", "held_at", "held_until", "hold_reason", "stopped", "outage_since",
        "worker", "worker_version", "worker_seen_at", "worker_alive", "workers", "workers_total", "running", "waiting",
        "waiting_total", "waiting_profiles", "all_done",
    ]  # fmt: skip


def test_a_batch(batch, api, command):
    expected = api(f"batches/{batch.pk}/")
    details = command("batch", "show", batch.pk)
    assert {name: value for name, value in details.items() if name not in {"failures", "stories"}} == expected
    assert command("batch", "list")[-1] == expected
    assert json.loads(WebhookDelivery.objects.get().payload)["data"] == {"batch": expected}


def test_its_stories(batch, api, command):
    assert command("batch", "show", batch.pk)["stories"] == api(f"batches/{batch.pk}/stories/")["results"] != []


def test_its_log(batch, api, command):
    assert command("batch", "logs", batch.pk) == api(f"batches/{batch.pk}/logs/")["results"] != []


def test_the_queue(batch, api, command):
    assert BatchManager().hold_queue("Maintenance")  # otherwise the expected times move from one call to the next
    queue = api("queue/")
    assert command("queue", "show") == queue
    assert [waiting["previous"] for waiting in queue["waiting"]] == [str(batch.pk)]
