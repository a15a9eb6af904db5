"""`manage.py list subscribe` and the other actions for subscriptions."""

import json
from io import StringIO

import pytest

from batches.models import Subscription, WebhookDelivery
from batches.tests.support.factories import make_list, subscribe

pytestmark = pytest.mark.django_db


@pytest.fixture
def found():
    return make_list("Press", 1)


def test_an_address_is_subscribed_shown_changed_tested_and_unsubscribed(manage, found):
    output = manage("list", "subscribe", "Press", "ada@example.org")
    made = Subscription.objects.get()
    assert output.out == f"Subscribed: ada@example.org to stories, error: {made.pk}\n"
    shown = json.loads(manage("list", "subscriptions", "Press", "--json").out)
    assert shown == [
        {
            "id": str(made.pk), "list": str(found.pk), "channel": "email", "address": "ada@example.org",
            "topics": ["stories", "error"], "failed_percent": 20, "after_failures": 3, "minutes": 60,
            "digest_hour": None,
            "is_active": True,
            "created_at": made.created_at.isoformat().replace("+00:00", "Z"),
        }
    ]  # fmt: skip
    short = str(made.pk)[:8]
    changed = manage("list", "change-subscription", short, "--topic", "done", "--digest", "7", "--off", "--json")
    assert json.loads(changed.out) == shown[0] | {"topics": ["done"], "digest_hour": 7, "is_active": False}
    [header, line] = manage("list", "subscriptions", "Press").out.splitlines()
    assert header.split() == ["channel", "address", "topics", "when", "active", "id"]
    assert line.split() == ["email", "ada@example.org", "done", "daily", "at", "7", "no", str(made.pk)]
    assert manage("list", "test-message", short).code == 1
    assert manage("list", "change-subscription", short, "--on", "--each-run").code == 0
    assert "The test message waits for a worker." in manage("list", "test-message", short).out
    assert WebhookDelivery.objects.get().type == "subscription.test"
    assert manage("list", "unsubscribe", short).out == "Ended: ada@example.org\n"
    assert manage("list", "subscriptions", "Press").out.startswith("Nobody is subscribed.")


def test_an_address_is_read_from_standard_input(manage, found):
    options = ["--topic", "done", "--failed-percent", "5", "--json"]
    output = manage("list", "subscribe", "Press", "-", *options, stdin=StringIO("ada@example.org\n"))
    made = json.loads(output.out)
    assert (made["address"], made["topics"], made["failed_percent"]) == ("ada@example.org", ["done"], 5)


def test_an_address_subscribes_to_the_queue(manage):
    made = json.loads(manage("queue", "subscribe", "ada@example.org", "--minutes", "5", "--json").out)
    assert (made["list"], made["topics"], made["minutes"]) == (None, ["held", "no_worker"], 5)
    assert json.loads(manage("queue", "subscriptions", "--json").out) == [made]
    assert "after 5 minutes" in manage("queue", "subscriptions").out
    assert manage("queue", "change-subscription", made["id"], "--topic", "held").code == 0
    assert manage("queue", "unsubscribe", made["id"]).code == 0
    assert not Subscription.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["subscribe", "Press", "ada"], "This is not an e-mail address. Write one such as ada@example.org."),
        (["subscribe", "Press", "ada@example.org"], "This address is already subscribed. Change that subscription."),
        (["subscribe", "None", "ada@example.org"], "No list has the name or ID 'None'."),
        (["change-subscription", "{}"], "Nothing to change. Give at least one option, such as --topic."),
        (["change-subscription", "{}", "--digest", "24"], "The hour of the digest must be a whole number"),
        (["unsubscribe", "zzzz"], "No subscription has an ID that starts with 'zzzz'."),
    ],
)
def test_a_refused_action_exits_with_1_and_says_what_to_do(refuse, found, arguments, sentence):
    made = subscribe(found)
    assert sentence in refuse("list", *[argument.format(made.pk) for argument in arguments])
