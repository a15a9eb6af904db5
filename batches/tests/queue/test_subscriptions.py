"""The calls for subscriptions: their effects, log entries and refusals."""

import pytest

from batches.batch_manager import BatchManager
from batches.limits import MAX_SUBSCRIPTIONS
from batches.models import BatchLog, Subscription, Webhook
from batches.tests.support.factories import last_line, make_list, subscribe, unchanged

pytestmark = pytest.mark.django_db

ADDRESS = "ada@example.org"
HOOK = "https://example.org/hook"


@pytest.fixture
def found():
    Webhook.objects.create(url=HOOK)
    return make_list("Press", 1)


def test_somebody_subscribes_and_the_log_does_not_have_the_address(found, manager):
    made = manager.subscribe(found.pk, f" {ADDRESS} ", ["error", "stories", "error"], digest_hour=7, failed_percent=5)
    assert (made.list, made.channel, made.address, made.webhook) == (found, "email", ADDRESS, None)
    assert (made.topics, made.digest_hour, made.failed_percent, made.is_active) == (["stories", "error"], 7, 5, True)
    line = last_line()
    assert (line.action, line.list, line.actor, line.channel) == ("subscribe", found, "ada", "api")
    assert line.message == "e-mail: stories, error, daily at 7"
    assert str(made) == "e-mail for “Press”"


def test_a_webhook_is_found_by_its_address(found):
    made = subscribe(found, HOOK, channel="webhook")
    Webhook.objects.update(url="https://example.org/new")
    assert Subscription.objects.get(pk=made.pk).shown_address == "https://example.org/new"


@pytest.mark.parametrize("is_of_queue", [False, True])
def test_a_webhook_with_a_new_address_is_still_subscribed_once_and_its_old_address_is_free(found, is_of_queue):
    target, topics = (None, ["held"]) if is_of_queue else (found.pk, ["stories"])
    assert BatchManager().subscribe(target, HOOK, topics, "webhook")
    Webhook.objects.update(url="https://example.org/new")
    with unchanged():
        refusal = BatchManager().subscribe(target, "https://example.org/new", topics, "webhook")
    assert refusal.code == "already_exists"
    Webhook.objects.create(url=HOOK)
    assert BatchManager().subscribe(target, HOOK, topics, "webhook").shown_address == HOOK


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"address": "ada"}, "This is not an e-mail address."),
        ({"address": "ada@example.org\r\nBcc: eve@example.org"}, "This is not an e-mail address."),
        ({"address": "ada@example.org, eve@example.org"}, "This is not an e-mail address."),
        ({"address": "a" * 400 + "@example.org"}, "This is not an e-mail address."),
        ({"address": "\0"}, "This is not an e-mail address."),
        ({"address": None}, "This is not an e-mail address."),
        ({"channel": "pigeon"}, "Unknown channel. Use one of: email, webhook, apprise."),
        ({"channel": "webhook", "address": "https://example.org/other"}, "No webhook has this address."),
        ({"topics": []}, "Choose at least one of the topics of a list: stories, "),
        ({"topics": "stories"}, "Choose at least one of the topics of a list: stories, "),
        ({"topics": ["weather"]}, "Choose at least one of the topics of a list: stories, "),
        ({"topics": [["stories"]]}, "Choose at least one of the topics of a list: stories, "),
        ({"topics": ["stories", "held"]}, "Choose at least one of the topics of a list: stories, "),
        ({"after_failures": 0}, "The number of failures in a row must be a whole number from 1 to 1,000."),
        ({"minutes": 0}, "The number of minutes must be a whole number from 1 to 10,080."),
        ({"digest_hour": 24}, "The hour of the digest must be a whole number from 0 to 23."),
        ({"digest_hour": True}, "The hour of the digest must be a whole number from 0 to 23."),
        ({"failed_percent": 101}, "The share of failed profiles must be a whole number from 0 to 100."),
        ({"is_active": 1}, "Use true or false: it is either on or off."),
    ],
)
def test_bad_values_are_refused_and_change_nothing(found, values, sentence):
    values = {"address": ADDRESS, "topics": ["stories"]} | values
    with unchanged():
        refusal = BatchManager().subscribe(found.pk, **values)
    assert (refusal.code, refusal.message.startswith(sentence)) == ("bad_value", True), refusal


@pytest.mark.parametrize("call", ["subscribe", "change_subscription", "unsubscribe", "send_test_message"])
@pytest.mark.parametrize("wanted", ["", "x", "\0", 7, "00000000-0000-0000-0000-000000000000"])
def test_an_unknown_id_is_not_found(call, wanted):
    arguments = [ADDRESS, ["stories"]] if call == "subscribe" else []
    with unchanged():
        assert getattr(BatchManager(), call)(wanted, *arguments).code == "not_found"


def test_an_address_subscribes_once_to_a_list_and_a_list_has_a_limit(found):
    subscribe(found)
    with unchanged():
        assert BatchManager().subscribe(found.pk, ADDRESS, ["done"]).code == "already_exists"
    subscribe(make_list("Other"))
    Subscription.objects.bulk_create(
        Subscription(list=found, address=f"{number}@example.org") for number in range(MAX_SUBSCRIPTIONS - 1)
    )
    assert BatchManager().subscribe(found.pk, "new@example.org", ["done"]).code == "bad_value"


def test_a_change_is_logged_and_no_change_is_not(found, manager):
    made = subscribe(found)
    assert manager.change_subscription(made.pk, topics=["done"], digest_hour=0, is_active=False)
    made.refresh_from_db()
    assert (made.topics, made.digest_hour, made.is_active) == (["done"], 0, False)
    assert last_line().message == "e-mail: done, daily at 0, off"
    with unchanged():
        assert manager.change_subscription(made.pk, topics=["done"])
        assert not manager.change_subscription(made.pk, topics=["weather"])


def test_the_subscriptions_of_a_deleted_webhook_end_and_are_logged(found, manager):
    subscribe(found, HOOK, channel="webhook")
    other = subscribe(found)
    manager.delete_webhooks([Webhook.objects.get().pk])
    line = last_line()
    assert (line.action, line.list, line.actor, line.message) == ("unsubscribe", found, "ada", "webhook: stories")
    assert list(Subscription.objects.all()) == [other]
    assert not Webhook.objects.exists()


def test_it_ends_with_its_messages_and_with_its_list(found, manager):
    made, other = subscribe(found), subscribe(found, "eve@example.org")
    assert manager.send_test_message(made.pk)
    assert manager.unsubscribe(made.pk)
    assert (last_line().action, list(found.subscriptions.all())) == ("unsubscribe", [other])
    assert manager.delete_list(found.pk)
    assert not Subscription.objects.exists()
    assert BatchLog.objects.filter(action="unsubscribe").count() == 1


def test_somebody_subscribes_to_the_queue(manager):
    made = manager.subscribe(None, ADDRESS, ["no_worker", "held"], minutes=5)
    assert (made.list, made.topics, made.minutes, str(made)) == (None, ["held", "no_worker"], 5, "e-mail for the queue")
    assert (last_line().action, last_line().list) == ("subscribe", None)
    for refused in ({"topics": ["stories"]}, {"topics": ["held"], "digest_hour": 7}):
        with unchanged():
            assert manager.subscribe(None, "eve@example.org", **refused).code == "bad_value"
    assert manager.subscribe(None, ADDRESS, ["held"]).code == "already_exists"
    assert manager.change_subscription(made.pk, topics=["held"])
    assert manager.change_subscription(made.pk, topics=["stories"]).code == "bad_value"
    assert manager.unsubscribe(made.pk)


def test_a_subscription_that_is_off_gets_no_test_message(found):
    made = subscribe(found, is_active=False)
    with unchanged():
        refusal = BatchManager().send_test_message(made.pk)
    assert refusal.message == "The subscription is not active. Activate it before you send a test message."
