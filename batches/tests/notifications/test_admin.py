"""Webhooks in the admin: who may do what, which addresses are taken, secrets, the test event, the log."""

import re
import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from batches.admin.webhooks import WebhookForm
from batches.batch_manager import BatchManager
from batches.models import Event, Webhook, WebhookDelivery
from batches.notifications import outbox
from batches.tests.admin.conftest import messages_of, queries_of, static_files_unread, text_of
from batches.tests.admin.test_hostile_input import KEYS, NOT_UNDER_A_STRICT_POLICY, QUERIES, SCRIPT
from batches.tests.support.factories import make_batch

from .conftest import deliveries, make_webhook, only_delivery

__all__ = ["static_files_unread"]

pytestmark = pytest.mark.django_db

LIST = reverse("admin:batches_webhook_changelist")
LOG = reverse("admin:batches_webhookdelivery_changelist")
ADD = reverse("admin:batches_webhook_add")
ROLES = {
    "staff": [],
    "viewer": ["view_webhook", "view_webhookdelivery"],
    "adder": ["view_webhook", "add_webhook"],
    "changer": ["view_webhook", "change_webhook", "view_webhookdelivery"],
    "deleter": ["view_webhook", "delete_webhook"],
    # Rights over batches, or over the log's rows alone, are none over webhooks.
    "outsider": ["change_batch", "operate_batch", "view_webhook", "view_webhookdelivery", "change_webhookdelivery"],
}


@pytest.fixture
def client_of():
    def make(role):
        client = Client()
        if role == "superuser":
            client.force_login(User.objects.create_superuser("superuser"))
        elif role != "anonymous":
            user = User.objects.create_user(role, is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=ROLES[role]))
            client.force_login(user)
        return client

    return make


@pytest.fixture
def client(client_of):
    return client_of("superuser")


def page_of(row, view="change"):
    return reverse(f"admin:batches_{row._meta.model_name}_{view}", args=[row.pk])


def press(client, row, call):
    return client.post(page_of(row, "operate"), {"call": call}, follow=True)


def act(client, url, action, *rows):
    chosen = {"action": action, "_selected_action": [getattr(row, "pk", row) for row in rows]}
    return client.post(url, chosen, follow=True)


def given_up(webhook=None):
    return WebhookDelivery.objects.create(
        webhook=webhook or make_webhook(),
        event_id=uuid.uuid4(),
        type=Event.BATCH_DONE,
        payload='{"a":1}',
        attempts=9,
        http_status=500,
        error="answered 500 Internal Server Error",
    )


def add(client, url, **fields):
    return client.post(ADD, {"name": "", "url": url, "is_active": "on"} | fields, follow=True)


# Adding and changing


def test_a_webhook_is_added_and_its_page_shows_the_secret_that_was_made(client):
    response = add(client, " HTTPS://Example.org:443/hook#top ", name="Press")
    webhook = Webhook.objects.get()
    assert (webhook.name, webhook.url, webhook.is_active) == ("Press", "https://example.org/hook", True)
    assert response.redirect_chain == [(page_of(webhook), 302)]
    assert webhook.secret in text_of(response)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "This field is required."),
        ("example.org", "It does not say http or https; start it with https://."),
        ("ftp://example.org/", "only http:// and https://"),
        ("https://ada:secret@example.org/", "It contains a user name or password before the host; leave them out."),
        ("https://", "It has no host name."),
        ("https://example.org/" + "x" * 2000, "at most 2000 characters"),
        ("https://example.org/\0", "Null characters are not allowed."),
        ("http://127.0.0.1:8000/", "127.0.0.1 is not a public address. If it is meant, add 127.0.0.1 to"),
        ("http://10.1.2.3/", "add 10.1.2.3 to BATCHES_ALLOWED_NETWORKS."),
        ("http://[::1]/", "::1 is not a public address."),
        ("http://[::ffff:10.0.0.1]/", "is not a public address."),
        ("http://169.254.169.254/latest/", "169.254.169.254 is not a public address."),
        ("http://localhost:9000/", "localhost is not a public address."),
        ("http://a.localhost./", "a.localhost is not a public address."),
        ("https://example.net/", "Webhook with this Address already exists."),
    ],
)
def test_what_is_no_usable_address_is_told_with_what_to_do(client, url, sentence):
    make_webhook("https://example.net/")
    response = add(client, url, name="kept")
    html = text_of(response)
    assert sentence in html
    assert 'value="kept"' in html
    assert Webhook.objects.count() == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "http://localhost/", "http://10.1.2.3/"])
def test_a_private_address_is_taken_where_its_network_is_open(client, settings, url):
    settings.BATCHES = {"ALLOWED_NETWORKS": ("127.0.0.1/32", "10.0.0.0/8")}
    add(client, url)
    assert Webhook.objects.get().url == url


@pytest.mark.parametrize("url", ["http://93.184.215.14/", "https://example.org:8443/a?b=c", "https://1.example.org/"])
def test_a_public_address_is_taken(client, url):
    add(client, url)
    assert Webhook.objects.get().url == url


def test_a_change_leaves_a_secret_alone_that_is_made_meanwhile(client, monkeypatch):
    webhook = make_webhook()

    def somebody_makes_a_new_one(form):
        outbox.replace_secret(webhook)
        return form.cleaned_data["url"]

    monkeypatch.setattr(WebhookForm, "clean_url", somebody_makes_a_new_one)
    fields = {"name": "new", "url": webhook.url, "secret": "whsec_forged", "previous_secret": "x"}
    client.post(page_of(webhook), fields)
    changed = Webhook.objects.get()
    assert (changed.name, changed.is_active, changed.previous_secret) == ("new", False, webhook.secret)
    assert changed.secret not in {webhook.secret, "whsec_forged"}


def test_a_webhook_is_deleted_with_its_deliveries_which_are_only_counted(client):
    webhook = make_webhook()
    kept = make_webhook("https://example.org/kept")
    for _ in range(3):
        outbox.send_test(webhook)
    outbox.send_test(kept)
    assert "Deliveries: 3" in text_of(client.get(page_of(webhook, "delete")))
    client.post(page_of(webhook, "delete"), {"post": "yes"})
    assert list(Webhook.objects.all()) == [kept]
    assert [delivery.webhook for delivery in deliveries()] == [kept]
    chosen = {"action": "delete_selected", "_selected_action": [kept.pk], "post": "yes"}
    client.post(LIST, chosen)
    assert (Webhook.objects.count(), deliveries()) == (0, [])


# The test event, the secret, another try


def test_the_test_event_is_written_and_says_who_sends_it(client):
    webhook = make_webhook(name="Press")
    BatchManager().claim_run("a worker")
    response = press(client, webhook, "send_test")
    sentence = "A test event for “Press” was written. The worker sends it within seconds, see its deliveries."
    assert messages_of(response) == [("success", sentence)]
    assert (only_delivery().type, only_delivery().webhook) == ("webhook.test", webhook)
    assert "Sent a test event." in text_of(client.get(page_of(webhook, "history")))


def test_without_a_worker_the_test_event_waits_and_says_so(client):
    response = act(client, LIST, "send_test_events", make_webhook(name="Press"))
    sentence = "A test event for “Press” was written. It waits for a worker: no worker has been seen yet."
    assert messages_of(response) == [("warning", sentence)]
    assert len(deliveries()) == 1


def test_a_webhook_that_is_not_active_gets_no_test_event(client):
    webhook = make_webhook(is_active=False)
    assert "Send test event" not in text_of(client.get(page_of(webhook)))
    assert messages_of(press(client, webhook, "send_test"))[0][0] == "warning"
    [(level, sentence)] = messages_of(act(client, LIST, "send_test_events", webhook))
    assert (level, "is not active" in sentence) == ("warning", True)
    assert deliveries() == []


def test_a_new_secret_is_shown_and_says_how_long_the_old_one_signs(client):
    webhook = make_webhook()
    response = press(client, webhook, "replace_secret")
    new = Webhook.objects.get().secret
    assert new != webhook.secret
    assert "For 24 hours the one before signs too" in messages_of(response)[0][1]
    html = text_of(response)
    assert new in html
    assert webhook.secret not in html
    assert "the one before signs too" in html


def test_what_was_given_up_is_delivered_again_and_nothing_else(client):
    one, other = given_up(), given_up(make_webhook("https://example.org/2"))
    outbox.send_test(one.webhook)
    waiting = deliveries()[-1]
    assert "Deliver again" in text_of(client.get(page_of(one)))
    assert messages_of(press(client, one, "deliver_again")) == [("success", "To be delivered again: 1.")]
    assert "Deliver again" not in text_of(client.get(page_of(one)))
    assert messages_of(press(client, one, "deliver_again"))[0][0] == "warning"
    response = act(client, LOG, "deliver_all_again", other, waiting)
    assert messages_of(response) == [
        ("success", "To be delivered again: 1."),
        ("warning", "Only what was given up is delivered again, not 1 other."),
    ]
    assert WebhookDelivery.objects.due().count() == 3


# Who may do what


@pytest.mark.parametrize("role", ["anonymous", *ROLES])
def test_only_who_may_change_webhooks_can_press_the_buttons(client_of, role):
    client = client_of(role)
    delivery = given_up()
    webhook = delivery.webhook
    before = list(Webhook.objects.values()), list(WebhookDelivery.objects.values())
    press(client, webhook, "send_test")
    press(client, webhook, "replace_secret")
    act(client, LIST, "send_test_events", webhook)
    press(client, delivery, "deliver_again")
    act(client, LOG, "deliver_all_again", delivery)
    changed = (list(Webhook.objects.values()), list(WebhookDelivery.objects.values())) != before
    assert changed == (role == "changer")
    if role == "changer":
        assert len(deliveries()) == 3
        assert deliveries()[0].state == "waiting"


@pytest.mark.parametrize(
    ("role", "lists", "log"),
    [("anonymous", 302, 302), ("staff", 403, 403), ("viewer", 200, 200), ("adder", 200, 403), ("changer", 200, 200)],
)
def test_only_who_may_view_them_can(client_of, role, lists, log):
    client = client_of(role)
    delivery = given_up()
    assert [client.get(url).status_code for url in (LIST, page_of(delivery.webhook))] == [lists] * 2
    assert [client.get(url).status_code for url in (LOG, page_of(delivery))] == [log] * 2


@pytest.mark.parametrize("role", ["viewer", "adder", "deleter", "outsider"])
def test_who_may_not_change_webhooks_sees_neither_secrets_nor_buttons(client_of, role):
    client = client_of(role)
    delivery = given_up()
    webhook = delivery.webhook
    outbox.replace_secret(webhook)
    for url in (LIST, page_of(webhook), LOG, page_of(delivery)):
        html = client.get(url).content.decode()
        assert "whsec_" not in html
        assert not re.search("Send test event|Make a new secret|Deliver again", html)


def test_who_may_only_add_is_not_led_to_the_secret(client_of):
    response = add(client_of("adder"), "https://example.org/")
    assert response.redirect_chain == [(LIST, 302)]
    assert "whsec_" not in text_of(response)


@pytest.mark.parametrize("role", ["viewer", "changer", "superuser"])
def test_nobody_can_write_the_log_by_hand(client_of, role):
    client = client_of(role)
    delivery = given_up()
    before = list(WebhookDelivery.objects.values())
    url = reverse("admin:batches_webhookdelivery_add")
    assert [client.get(url).status_code, client.post(url, {}).status_code] == [403] * 2
    assert client.post(page_of(delivery), {"payload": "forged"}).status_code == 403
    assert client.post(page_of(delivery, "delete"), {"post": "yes"}).status_code == 403
    act(client, LOG, "delete_selected", delivery)
    assert list(WebhookDelivery.objects.values()) == before


def test_a_button_needs_a_post_with_its_token(client):
    webhook = make_webhook()
    assert client.get(page_of(webhook, "operate")).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())
    assert strict.post(page_of(webhook, "operate"), {"call": "send_test"}).status_code == 403
    assert deliveries() == []


@pytest.mark.parametrize("call", ["", "delete_model", "_deliver_again", "deliver_again", "__class__", "\0", "x" * 5000])
def test_a_button_that_does_not_exist_does_nothing(client, call):
    webhook = make_webhook()
    before = list(Webhook.objects.values())
    assert messages_of(press(client, webhook, call))[0][0] == "warning"
    assert (list(Webhook.objects.values()), deliveries()) == (before, [])


# Reading


def test_the_log_shows_each_state_and_can_be_filtered(client):
    webhook = make_webhook(name="Press")
    assert BatchManager().complete_batch(make_batch("the batch").pk)
    done = only_delivery()
    WebhookDelivery.objects.update(next_attempt_at=None, delivered_at=timezone.now(), http_status=204)
    gone = given_up(make_webhook("https://example.org/off", is_active=False))
    outbox.send_test(webhook)
    waiting = deliveries()[-1]

    def found(**query):
        return list(client.get(LOG, query).context["cl"].result_list)

    assert found() == [waiting, gone, done]
    assert found(state="waiting") == [waiting]
    assert found(state="delivered") == [done]
    assert found(state="given_up") == [gone]
    assert found(state="nonsense") == []
    assert found(type__exact="batch.done", webhook__id__exact=webhook.pk) == [done]
    assert found(batch=str(done.batch_id)) == [done]
    assert found(q=str(done.event_id)) == [done]
    html = text_of(client.get(LOG))
    for text in ("the batch", "Press", "204", "answered 500 Internal Server Error", "given up", "waiting", "delivered"):
        assert text in html
    assert LOG + f"?webhook__id__exact={webhook.pk}" in text_of(client.get(LIST))


def test_what_waits_for_a_webhook_that_is_not_active_says_so(client):
    outbox.send_test(make_webhook())
    Webhook.objects.update(is_active=False)
    assert "when the webhook is active again" in text_of(client.get(LOG))


def test_the_number_of_queries_does_not_grow_with_the_rows(client):
    def look():
        return [queries_of(lambda url=url: client.get(url)) for url in (LIST, LOG)]

    given_up()
    look()
    before = look()
    for number in range(5):
        webhook = make_webhook(f"https://example.org/{number}")
        given_up(webhook)
        outbox.send_test(webhook)
    assert look() == before


def test_nothing_needs_a_script_within_the_page_and_texts_are_escaped(client):
    delivery = given_up(make_webhook(name=SCRIPT))
    WebhookDelivery.objects.update(error=SCRIPT, payload=SCRIPT)
    webhook = delivery.webhook
    pages = [LIST, LOG, ADD, *(page_of(row, view) for row in (webhook, delivery) for view in ("change", "history"))]
    for url in [*pages, page_of(webhook, "delete")]:
        html = text_of(client.get(url))
        assert SCRIPT not in html, url
        assert not NOT_UNDER_A_STRICT_POLICY.search(html), url


@pytest.mark.parametrize("url", [LIST, LOG])
def test_no_query_string_breaks_a_list(client, url):
    given_up()
    for query in [*QUERIES, "state=%00", "type__exact=%00", "webhook__id__exact=99999999999999999999", "batch=%00"]:
        assert client.get(f"{url}?{query}").status_code in {200, 302, 400}, query


@pytest.mark.parametrize("model", ["webhook", "webhookdelivery"])
def test_no_id_breaks_a_page_a_button_or_an_action(client, model):
    given_up()
    before = list(Webhook.objects.values()), list(WebhookDelivery.objects.values())
    for key in [*KEYS, str(2**63), "9" * 400]:
        if key not in {"0", "-1"}:
            for view in ("change", "delete", "history"):
                assert client.get(f"/admin/batches/{model}/{key}/{view}/").status_code in {302, 403, 404}, key
        response = client.post(f"/admin/batches/{model}/{key}/operate/", {"call": "send_test"})
        assert response.status_code in {302, 404}, key
    for key in ["0", "-1", "x", "\0", str(2**63), "9" * 400]:
        for action in ("send_test_events", "deliver_all_again"):
            response = act(client, reverse(f"admin:batches_{model}_changelist"), action, key)
            assert response.status_code in {200, 400}, key
    assert (list(Webhook.objects.values()), list(WebhookDelivery.objects.values())) == before
