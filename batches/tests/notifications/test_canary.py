"""No webhook reaches an internal server, whatever the spelling of its address. The servers are real."""

import socket

import pytest

from batches.admin.webhooks import WebhookForm
from batches.lists.addresses import hostname_of
from batches.notifications import outbox
from batches.tests.support.inside import (
    HOPELESS,
    IPV4,
    IPV6,
    LEADING,
    NAMES_IPV4,
    NAMES_IPV6,
    World,
    addresses,
)

from .conftest import deliveries, make_webhook

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases("sqlite")]


@pytest.fixture
def world(monkeypatch, canary, receiver):
    return World(monkeypatch, canary, receiver.port)


@pytest.fixture
def urls(canary):
    return addresses([*LEADING[IPV4], *LEADING[IPV6], *HOPELESS], canary.port)


@pytest.fixture
def send(deliver, no_retries):
    """Sends a message to each address. Returns the errors by address."""

    def send(urls, allowed_networks):
        webhooks = [make_webhook(url) for url in urls]
        for webhook in webhooks:
            assert outbox.write_test_event(webhook)
        deliver(allowed_networks=allowed_networks, max_concurrent=100)
        assert {delivery.attempts for delivery in deliveries()} == {1}
        return {delivery.webhook.url: delivery.error for delivery in deliveries()}

    return send


def test_no_webhook_leads_to_a_canary(world, send, urls):
    errors = send(urls, ())
    world.assert_untouched()
    assert len(errors) == len(urls)
    assert all(errors.values())
    assert errors[urls[0]] == "the address 0.0.0.0 is not public"


def test_the_form_accepts_names_but_rejects_addresses_that_are_not_public(configure, canary, urls):
    """Names are resolved with each delivery."""
    configure(allowed_networks=())
    forms = [WebhookForm({"url": url}) for url in urls]
    taken = {hostname_of(form.cleaned_data["url"]) for form in forms if form.is_valid()}
    names = {name.removesuffix(".") for name in NAMES_IPV4 | NAMES_IPV6}
    assert taken > names - {"localhost", "any.localhost", "v6.any.localhost"}
    for host in taken:
        with pytest.raises(socket.gaierror):  # none of them is an address for the operating system
            socket.getaddrinfo(host, 80, flags=socket.AI_NUMERICHOST)
    assert canary.reached() == {IPV4: 0, IPV6: 0}
