"""Hostile receivers: only the head of a response is read, and no webhook reaches an internal server. They are real."""

import re
import socket

import pytest

from batches.admin.webhooks import WebhookForm
from batches.lists.addresses import hostname_of
from batches.notifications import outbox
from batches.tests.support.hostile import BROKEN, GIANT_HEAD, TOO_SLOW, attacks, peak
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

FAILURES = "|".join((BROKEN, GIANT_HEAD, TOO_SLOW, r"^answered (101|302) "))


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
    reasons = {delivery.error for delivery in deliveries()}
    assert {"the address is not http or https", "the address contains a user name or password"} < reasons


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


@pytest.mark.slow
def test_a_hostile_response_does_not_block_the_deliveries_and_only_its_head_is_read(hostile, deliver, no_retries):
    for url in hostile.urls.values():
        assert outbox.write_test_event(make_webhook(url))
    with peak(50_000_000):
        deliver(timeout=1.0, max_concurrent=1000)
    assert [hostile.hits("/secret"), hostile.hits("/chain/1")] == [0, 0]

    assert len(deliveries()) == len(attacks())
    for delivery in deliveries():
        assert delivery.attempts == 1
        if delivery.state == "delivered":
            assert (delivery.http_status, delivery.error) == (200, "")
        else:
            assert (delivery.state, bool(re.search(FAILURES, delivery.error))) == ("waiting", True), delivery.error
