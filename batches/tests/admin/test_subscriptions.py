"""Subscriptions in the admin. `test_roles` has the permissions."""

import pytest
from django.urls import reverse

from batches.batch_manager import BatchManager
from batches.models import Subscription, WebhookDelivery
from batches.tests.support.factories import make_list, subscribe

from .conftest import messages_of, page_of, press, send, text_of

pytestmark = pytest.mark.django_db

LIST = reverse("admin:batches_subscription_changelist")
ADD = reverse("admin:batches_subscription_add")
FIELDS = {"channel": "email", "address": "ada@example.org", "topics": ["stories"], "failed_percent": "20",
          "after_failures": "3", "digest_hour": "", "is_active": "on"}  # fmt: skip


@pytest.fixture
def found():
    return make_list("Press", 1)


def test_the_page_of_a_list_leads_to_its_subscriptions_and_to_a_new_one(client, found):
    html = text_of(client.get(page_of(found)))
    assert f'href="{LIST}?list={found.pk}"' in html
    assert f'href="{ADD}?list={found.pk}"' in html
    page = text_of(client.get(ADD, {"list": found.pk}))
    assert "Subscribe to “Press”" in page
    assert "Set BATCHES_BASE_URL to the address at which people reach this site." in page
    response = client.post(ADD, FIELDS | {"list": found.pk}, follow=True)
    made = Subscription.objects.get()
    assert (made.list, made.address, made.topics) == (found, "ada@example.org", ["stories"])
    assert response.redirect_chain == [(LIST, 302)]
    assert "ada@example.org" in text_of(client.get(LIST, {"list": found.pk}))
    assert "ada@example.org" not in text_of(client.get(LIST, {"list": make_list("Other").pk}))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"address": "ada"}, "This is not an e-mail address."),
        ({"topics": []}, "This field is required."),
        ({"topics": ["weather"]}, "Select a valid choice."),
        ({"digest_hour": "24"}, "less than or equal to 23"),
    ],
)
def test_bad_values_are_refused(client, found, fields, sentence):
    sent = {"list": str(found.pk)} | FIELDS | fields
    page = text_of(client.post(ADD, sent, follow=True))
    assert sentence in page
    assert f'name="address" value="{sent["address"]}"' in page
    assert not Subscription.objects.exists()


@pytest.mark.parametrize("unknown", ["\0", "00000000-0000-0000-0000-000000000000"])
def test_a_list_that_somebody_has_deleted_is_not_found(client, unknown):
    for response in (client.get(ADD, {"list": unknown}), client.post(ADD, FIELDS | {"list": unknown})):
        assert response.status_code == 404


def test_its_topics_can_be_changed_but_not_its_address(client, found):
    made = subscribe(found)
    client.post(page_of(made), FIELDS | {"address": "eve@example.org", "topics": ["done"], "digest_hour": "7"})
    made.refresh_from_db()
    assert (made.address, made.topics, made.digest_hour) == ("ada@example.org", ["done"], 7)
    assert found.logs.latest("pk").action == "change_subscription"


def test_a_stale_form_changes_only_the_edited_fields(client, found):
    made = subscribe(found)
    stale = client.get(page_of(made))
    assert BatchManager().change_subscription(made.pk, topics=["done"], is_active=False)
    send(client, stale, digest_hour="7")
    made.refresh_from_db()
    assert (made.topics, made.is_active, made.digest_hour) == (["done"], False, 7)


def test_the_button_sends_a_test_message(client, found):
    made = subscribe(found)
    [(level, sentence)] = messages_of(press(client, "send_test_message", made))
    assert (level, sentence.startswith("A test message was created. It waits for a worker")) == ("warning", True)
    assert WebhookDelivery.objects.get().subscription == made
    link = f"{reverse('admin:batches_webhookdelivery_changelist')}?subscription={made.pk}"
    assert link in text_of(client.get(page_of(made)))
    assert "subscription.test" in text_of(client.get(link))
    assert "ada@example.org" not in text_of(client.get(link))
    made.is_active = False
    made.save()
    assert "Send a test message" not in text_of(client.get(page_of(made)))


def test_without_a_list_it_is_about_the_queue(client):
    page = text_of(client.get(ADD))
    assert "Subscribe to the queue" in page
    assert 'name="minutes"' in page
    assert 'name="digest_hour"' not in page
    fields = {"channel": "email", "address": "ada@example.org", "topics": ["held"], "minutes": "5", "is_active": "on"}
    client.post(ADD, fields)
    made = Subscription.objects.get()
    assert (made.list, made.topics, made.minutes) == (None, ["held"], 5)
    client.post(page_of(made), fields | {"topics": ["no_worker"], "minutes": "7"})
    made.refresh_from_db()
    assert (made.topics, made.minutes) == (["no_worker"], 7)
    assert "after 7 minutes" in text_of(client.get(LIST))


def test_it_is_ended_on_its_page(client, found):
    made = subscribe(found)
    assert "e-mail for “Press” (ada@example.org)" in text_of(client.get(page_of(made, "delete")))
    client.post(page_of(made, "delete"), {"post": "yes"})
    assert not Subscription.objects.exists()
    assert found.logs.latest("pk").action == "unsubscribe"
