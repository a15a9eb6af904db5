"""The API, `--json` and webhooks use the same fields with the same values for the same objects."""

import json

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.test import APIClient

from batches.batch_manager import BatchManager
from batches.models import Webhook, WebhookDelivery, public_fields
from batches.reports.forecast import forecast_queue, queue_as_dict
from batches.tests.api.conftest import described
from batches.tests.support.factories import check_batch, make_batch, ok

__all__ = ["described"]

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
    check_batch(batch, ok("a story"))
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


#: The fields of the components of the API's description, and those that only the API has.
COMPONENTS = {
    "AcceptOutcome": (public_fields.ACCEPTANCE, {"id", "code", "detail"}),
    "Batch": (public_fields.BATCH, {"progress", "url"}),
    "Check": (public_fields.CHECK, set()),
    "Feed": (public_fields.FEED, set()),
    "Host": (public_fields.HOST, set()),
    "List": (public_fields.LIST, {"url"}),
    "Log": (public_fields.LOG, set()),
    "Profile": (public_fields.PROFILE, set()),
    "Progress": (public_fields.PROGRESS, set()),
    "Redirect": (public_fields.REDIRECT, set()),
    "Story": (public_fields.STORY, set()),
    "Subscription": (public_fields.SUBSCRIPTION, {"url"}),
    "Worker": (public_fields.WORKER, set()),
}


def test_the_names_are_those_of_the_committed_description(described):
    """They are a promise: `make schema` shows each change of one in `docs/reference/openapi.yaml`."""
    components = described["components"]["schemas"]
    for name, (fields, others) in COMPONENTS.items():
        assert components[name]["properties"].keys() == {*fields, *others}, name
    assert components["Queue"]["properties"].keys() == queue_as_dict(forecast_queue(), 1).keys()


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
