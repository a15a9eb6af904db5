"""No webhook reaches an internal server. The servers are real."""

import pytest

from batches.notifications import outbox
from batches.tests.support.inside import HOPELESS, IPV4, IPV6, LEADING, World, addresses

from .conftest import deliveries, make_webhook


@pytest.mark.django_db(transaction=True)
@pytest.mark.databases("sqlite")
def test_no_webhook_leads_to_a_canary(monkeypatch, canary, names, receiver, deliver, no_retries):
    world = World(monkeypatch, canary, receiver.port, names)
    urls = addresses([*LEADING[IPV4], *LEADING[IPV6], *HOPELESS], canary.port)
    for url in urls:
        assert outbox.write_test_event(make_webhook(url))
    deliver(allowed_networks=(), max_concurrent=100)
    world.assert_untouched()
    assert len(deliveries()) == len(urls)
    assert all(delivery.attempts == 1 and delivery.error for delivery in deliveries())
    assert deliveries()[0].error == "the address 0.0.0.0 is not public"
    reasons = {delivery.error for delivery in deliveries()}
    assert {"the address is not http or https", "the address contains a user name or password"} < reasons
