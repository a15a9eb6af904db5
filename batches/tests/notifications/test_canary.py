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
def urls(canary):
    return addresses([*LEADING[IPV4], *LEADING[IPV6], *HOPELESS], canary.port)


def test_no_webhook_leads_to_a_canary(monkeypatch, canary, names, receiver, deliver, no_retries, urls):
    world = World(monkeypatch, canary, receiver.port, names)
    for url in urls:
        assert outbox.write_test_event(make_webhook(url))
    deliver(allowed_networks=(), max_concurrent=100)
    world.assert_untouched()
    assert len(deliveries()) == len(urls)
    assert all(delivery.attempts == 1 and delivery.error for delivery in deliveries())
    assert deliveries()[0].error == "the address 0.0.0.0 is not public"


def test_the_form_accepts_names_but_rejects_addresses_that_are_not_public(configure, canary, urls):
    """Names are resolved with each delivery."""
    configure(allowed_networks=())
    forms = [WebhookForm({"url": url}) for url in urls]
    taken = {hostname_of(form.cleaned_data["url"]) for form in forms if form.is_valid()}
    assert taken > set(NAMES_IPV4 | NAMES_IPV6)
    for host in taken:
        with pytest.raises(socket.gaierror):  # none of them is an address for the operating system
            socket.getaddrinfo(host, 80, flags=socket.AI_NUMERICHOST)
    assert canary.reached() == {IPV4: 0, IPV6: 0}
