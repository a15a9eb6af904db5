"""Webhooks in the admin: permissions, accepted addresses, secrets, the test event and the log."""

import uuid
from datetime import timedelta

import pytest
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from batches.batch_manager import BatchManager
from batches.models import Event, Webhook, WebhookDelivery
from batches.notifications import outbox
from batches.tests.admin.conftest import (
    act,
    client_as,
    hidden_fields,
    listed,
    messages_of,
    page_of,
    press,
    text_of,
    user_with,
)
from batches.tests.support.factories import last_line, make_batch, make_list, subscribe
from batches.tests.support.threads import TIMEOUT, in_thread

from .conftest import deliveries, make_webhook, only_delivery

pytestmark = pytest.mark.django_db

LIST = reverse("admin:batches_webhook_changelist")
LOG = reverse("admin:batches_webhookdelivery_changelist")
ADD = reverse("admin:batches_webhook_add")
#: By role: its permissions, then what a GET of the list and of the log responds with.
ROLES = {
    "staff": ([], 403, 403),
    "viewer": (["view_webhook", "view_webhookdelivery"], 200, 200),
    "adder": (["view_webhook", "add_webhook"], 200, 403),
    "changer": (["view_webhook", "change_webhook", "view_webhookdelivery"], 200, 200),
    "deleter": (["view_webhook", "delete_webhook"], 200, 403),
    # Permissions for batches or for log entries do not apply to webhooks.
    "outsider": (
        ["change_batch", "operate_batch", "view_webhook", "view_webhookdelivery", "change_webhookdelivery"],
        200,
        200,
    ),
}


def client_of(role):
    client = Client()
    client.force_login(user_with(ROLES[role][0]))
    return client


@pytest.fixture
def client():
    return client_as("superuser")


def failed(webhook=None):
    return WebhookDelivery.objects.create(
        webhook=webhook or make_webhook(),
        event_id=uuid.uuid4(),
        type=Event.BATCH_DONE,
        payload='{"a":1}',
        attempts=9,
        http_status=500,
        error="answered 500 Internal Server Error",
    )


def rows():
    return list(Webhook.objects.values()), list(WebhookDelivery.objects.values())


def add(client, url, **fields):
    return client.post(ADD, {"name": "", "url": url, "is_active": "on"} | fields, follow=True)


# Adding and changing


def test_a_new_webhook_is_stored_normalised_and_its_page_has_the_secret(client):
    response = add(client, " HTTPS://Example.org:443/hook#top ", name="Press")
    webhook = Webhook.objects.get()
    assert (webhook.name, webhook.url, webhook.is_active) == ("Press", "https://example.org/hook", True)
    assert response.redirect_chain == [(page_of(webhook), 302)]
    assert webhook.secret in text_of(response)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "This field is required."),
        ("https://ada:secret@example.org/", "It contains a user name or password before the host"),
        ("https://example.org/\0", "Null characters are not allowed."),
        ("http://127.0.0.1:8000/", "127.0.0.1 is not a public address. To allow it, add 127.0.0.1 to"),
        ("http://10.1.2.3/", "add 10.1.2.3 to BATCHES_ALLOWED_NETWORKS."),
        ("http://[::1]/", "::1 is not a public address."),
        ("http://localhost:9000/", "localhost is not a public address."),
        ("http://a.localhost./", "a.localhost is not a public address."),
        ("https://example.net/", "Webhook with this Address already exists."),
    ],
)
def test_an_invalid_address_is_rejected_with_advice(client, url, sentence):
    make_webhook("https://example.net/")
    html = text_of(add(client, url, name="kept"))
    assert sentence in html
    assert 'value="kept"' in html
    assert Webhook.objects.count() == 1


@pytest.mark.parametrize(
    "url",
    ["http://93.184.215.14/", "https://example.org:8443/a?b=c", "https://1.example.org/", "http://127.0.0.1:8000/",
     "http://localhost/", "http://10.1.2.3/"],
)  # fmt: skip
def test_a_public_address_and_one_in_an_allowed_network_are_accepted(client, settings, url):
    settings.BATCHES = {"ALLOWED_NETWORKS": ("127.0.0.1/32", "10.0.0.0/8")}
    add(client, url)
    assert Webhook.objects.get().url == url


@pytest.mark.databases("postgresql")  # SQLite is locked before the form is checked
@pytest.mark.django_db(transaction=True)
def test_an_address_that_somebody_adds_at_the_same_moment_is_an_error_of_the_form(client, monkeypatch):
    url, save = "https://example.org/hook", Webhook.save

    def come_second(webhook, **options):
        monkeypatch.setattr(Webhook, "save", save)
        in_thread(lambda: make_webhook(url)).result(TIMEOUT)
        save(webhook, **options)

    monkeypatch.setattr(Webhook, "save", come_second)
    assert "Webhook with this Address already exists." in text_of(add(client, url))
    assert Webhook.objects.count() == 1


def test_a_stale_form_changes_only_the_edited_fields(client):
    webhook = make_webhook("https://example.org/hook")
    stale = hidden_fields(text_of(client.get(page_of(webhook))))
    Webhook.objects.update(url="https://example.org/new", is_active=False)
    client.post(page_of(webhook), stale | {"name": "new", "url": webhook.url, "is_active": "on"})
    changed = Webhook.objects.get()
    assert (changed.name, changed.url, changed.is_active) == ("new", "https://example.org/new", False)
    assert not changed.every_batch


def test_a_webhook_is_deleted_with_its_deliveries_and_subscriptions(client):
    webhook, other = make_webhook(), make_webhook("https://example.org/other")
    for row in (webhook, webhook, webhook, other):
        outbox.write_test_event(row)
    found = make_list()
    subscribe(found, webhook.url, channel="webhook")
    page = text_of(client.get(page_of(webhook, "delete")))
    assert all(count in page for count in ("Deliveries: 3", "Subscriptions: 1"))
    client.post(page_of(webhook, "delete"), {"post": "yes"})
    line = last_line()
    assert (line.action, line.list, line.channel) == ("unsubscribe", found, "admin")
    assert [delivery.webhook for delivery in deliveries()] == [other]
    client.post(LIST, {"action": "delete_selected", "_selected_action": [other.pk], "post": "yes"})
    assert rows() == ([], [])


# Actions


def test_the_test_event_is_created_and_says_whether_a_worker_will_send_it(client):
    webhook = make_webhook(name="Press")
    assert messages_of(act(client, "send_test_events", webhook, url=LIST)) == [
        ("warning", "A test event for “Press” was created. It waits for a worker: no worker heartbeat yet.")
    ]
    assert (only_delivery().type, only_delivery().webhook) == ("webhook.test", webhook)
    BatchManager().claim_run("a worker")
    sentence = "The worker sends it within seconds. See its deliveries for the result."
    assert messages_of(press(client, "send_test_events", webhook)) == [
        ("success", f"A test event for “Press” was created. {sentence}")
    ]
    assert len(deliveries()) == 2
    assert "Sent a test event." in text_of(client.get(page_of(webhook, "history")))


def test_an_inactive_webhook_gets_no_test_event(client):
    webhook = make_webhook(is_active=False)
    assert "Send test event" not in text_of(client.get(page_of(webhook)))
    assert messages_of(press(client, "send_test_events", webhook))[0][0] == "warning"
    [(level, sentence)] = messages_of(act(client, "send_test_events", webhook, url=LIST))
    assert (level, "is not active" in sentence) == ("warning", True)
    for key in ("0", "-1", "x", "\0", str(2**63), "9" * 400):
        assert act(client, "send_test_events", key, url=LIST).status_code == 200, key
    assert deliveries() == []


def test_a_rotated_secret_is_on_the_page_with_the_end_of_the_previous_secret(client):
    webhook = make_webhook()
    response = press(client, "rotate_secret", webhook)
    new, html = Webhook.objects.get().secret, text_of(response)
    assert "The previous secret signs for 24 more hours." in messages_of(response)[0][1]
    assert "the previous secret also signs until" in html
    assert (new != webhook.secret, new in html, webhook.secret in html) == (True, True, False)


def let_a_minute_pass():
    """Since the latest rotation of each secret."""
    Webhook.objects.update(previous_secret_until=F("previous_secret_until") - timedelta(minutes=1))


def test_the_second_press_of_a_double_click_does_not_replace_the_previous_secret(client):
    webhook = make_webhook()
    press(client, "rotate_secret", webhook)
    first = Webhook.objects.get().secret
    press(client, "rotate_secret", webhook)
    assert outbox.signing_secrets(Webhook.objects.get()) == (first, webhook.secret)
    let_a_minute_pass()
    press(client, "rotate_secret", webhook)
    assert outbox.signing_secrets(Webhook.objects.get())[1] == first


def test_only_failed_deliveries_can_be_rescheduled_and_so_many_at_a_time(client, monkeypatch):
    monkeypatch.setattr("batches.admin.webhooks.MAX_BULK", 2)
    webhook = make_webhook()
    one, *others = (failed(webhook) for _ in range(4))
    outbox.write_test_event(webhook)
    waiting = deliveries()[-1]
    assert "Deliver again" in text_of(client.get(page_of(one)))
    assert messages_of(press(client, "reschedule_all", one)) == [("success", "1 delivery rescheduled.")]
    again = WebhookDelivery.objects.get(pk=one.pk)
    assert (again.state, again.attempts, again.error, again.event_id) == ("waiting", 0, "", one.event_id)
    assert "Deliver again" not in text_of(client.get(page_of(one)))
    assert messages_of(press(client, "reschedule_all", one))[0][0] == "warning"
    assert messages_of(act(client, "reschedule_all", *others, waiting, url=LOG)) == [
        ("success", "2 deliveries rescheduled."),
        ("warning", "2 deliveries skipped. Only failed deliveries can be rescheduled, at most 2 at a time."),
    ]
    assert WebhookDelivery.objects.failed().count() == 1


@pytest.mark.parametrize("call", ["", "delete_model", "send_test", "reschedule_all", "__class__", "\0", "x" * 5000])
def test_an_unknown_action_does_nothing(client, call):
    webhook = make_webhook()
    before = rows()
    assert messages_of(press(client, call, webhook))[0][0] == "warning"
    assert rows() == before


def test_after_a_login_the_page_of_a_button_is_shown_and_nothing_is_pressed(client):
    delivery = failed()
    before = rows()
    for row in (delivery.webhook, delivery, subscribe(make_list())):
        response = client.get(page_of(row, "operate"))
        assert (response.status_code, response.url) == (302, page_of(row))
    assert rows() == before


# Permissions. `tests/admin/test_roles.py` tests every page of the admin.


@pytest.mark.parametrize("role", ROLES)
def test_only_people_who_can_change_webhooks_see_secrets_and_can_use_actions(role):
    client, delivery = client_of(role), failed()
    webhook = delivery.webhook
    outbox.rotate_secret(webhook)
    let_a_minute_pass()
    _, list_status, log_status = ROLES[role]
    assert [client.get(url).status_code for url in (LIST, page_of(webhook))] == [list_status] * 2
    assert [client.get(url).status_code for url in (LOG, page_of(delivery))] == [log_status] * 2
    html = "".join(client.get(url).content.decode() for url in (LIST, page_of(webhook), LOG, page_of(delivery)))
    controls = {"whsec_", "Send test event", "Rotate secret", "Deliver again"}
    assert {control for control in controls if control in html} == (controls if role == "changer" else set())
    for change in (
        lambda: press(client, "send_test_events", webhook),
        lambda: press(client, "rotate_secret", webhook),
        lambda: act(client, "send_test_events", webhook, url=LIST),
        lambda: press(client, "reschedule_all", delivery),
        lambda: act(client, "reschedule_all", failed(webhook), url=LOG),
    ):
        before = Webhook.objects.get().secret, WebhookDelivery.objects.waiting().count()
        change()
        after = Webhook.objects.get().secret, WebhookDelivery.objects.waiting().count()
        assert (after != before) == (role == "changer")


def test_people_who_can_only_add_are_not_redirected_to_the_secret():
    response = add(client_of("adder"), "https://example.org/")
    assert response.redirect_chain == [(LIST, 302)]
    assert "whsec_" not in text_of(response)


# Reading


def test_the_log_lists_each_state_and_can_be_filtered(client):
    webhook = make_webhook(name="Press")
    assert BatchManager().complete_batch(make_batch("the batch").pk)
    done = only_delivery()
    WebhookDelivery.objects.update(next_attempt_at=None, delivered_at=timezone.now(), http_status=204)
    lost = failed(make_webhook("https://example.org/off", is_active=False))
    outbox.write_test_event(webhook)
    waiting = deliveries()[-1]
    for query, expected in (
        ({}, [waiting, lost, done]),
        ({"state": "waiting"}, [waiting]),
        ({"state": "delivered"}, [done]),
        ({"state": "failed"}, [lost]),
        ({"state": "nonsense"}, []),
        ({"batch": str(done.batch_id)}, [done]),
        ({"q": str(done.event_id)}, [done]),
    ):
        assert listed(client, WebhookDelivery, **query) == expected, query
    html = text_of(client.get(LOG))
    for text in ("the batch", "Press", "204", "answered 500 Internal Server Error", "failed", "waiting", "delivered"):
        assert text in html
    assert LOG + f"?webhook__id__exact={webhook.pk}" in text_of(client.get(LIST))
    Webhook.objects.update(is_active=False)
    assert "when the receiver is active again" in text_of(client.get(LOG))
