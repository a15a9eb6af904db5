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
    OPEN,
    Canary,
    World,
    addresses,
)

from .conftest import deliveries, make_webhook

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases("sqlite")]

stride = pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.exhaustive)])


@pytest.fixture
def world(monkeypatch, canary, receiver):
    return World(monkeypatch, canary, receiver.port)


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


@stride
def test_no_webhook_leads_to_a_canary(world, send, stride):
    urls = addresses([*LEADING[IPV4], *LEADING[IPV6], *HOPELESS], world.canary.port)[::stride]
    errors = send(urls, ())
    world.assert_untouched()
    assert len(errors) == len(urls)
    assert all(errors.values())
    assert errors[urls[0]] == "the address 0.0.0.0 is not public"


@pytest.mark.slow
@pytest.mark.parametrize("family", LEADING)
def test_with_allowed_networks_the_same_webhooks_do_lead_there(family, world, send):
    urls = addresses(LEADING[family], world.canary.port)
    assert len(urls) >= 60
    assert send(urls, OPEN) == dict.fromkeys(urls, f"answered {Canary.STATUSES[family]}")
    assert world.canary.reached() == {IPV4: 0, IPV6: 0} | {family: len(urls)}


def test_the_form_accepts_names_but_rejects_addresses_that_are_not_public(configure, canary):
    """Names are resolved with each delivery."""
    configure(allowed_networks=())
    urls = addresses([*LEADING[IPV4], *LEADING[IPV6], *HOPELESS], canary.port)
    forms = [WebhookForm({"url": url}) for url in urls]
    taken = {hostname_of(form.cleaned_data["url"]) for form in forms if form.is_valid()}
    names = {name.removesuffix(".") for name in NAMES_IPV4 | NAMES_IPV6}
    assert taken > names - {"localhost", "any.localhost", "v6.any.localhost"}
    for host in taken:
        with pytest.raises(socket.gaierror):  # none of them is an address for the operating system
            socket.getaddrinfo(host, 80, flags=socket.AI_NUMERICHOST)
    assert canary.reached() == {IPV4: 0, IPV6: 0}
